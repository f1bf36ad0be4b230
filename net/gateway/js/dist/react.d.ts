import type { Database, Document, Pending, Problem, Snapshot, Status, Write } from "./index.js";
/** A document as a component sees it; loading until it has been read for the first time. */
export interface UsedDocument<T> {
    readonly value: T | undefined;
    readonly meta: Snapshot["meta"] | undefined;
    readonly loading: boolean;
    /** Saves by difference from the value of this rendering, whatever came since. */
    save(value: T | ((old: T | undefined) => T)): Write;
    remove(): Write;
}
/** The document under a key, rendered anew when it or its state changes. */
export declare function useDocument<T extends object = Document>(db: Database, key: string): UsedDocument<T>;
/** The documents whose keys begin with prefix, in the order of their keys; undefined until they have been read for the first time. */
export declare function useList<T = Document>(db: Database, prefix?: string): readonly Snapshot<T>[] | undefined;
/** Whether the client is in contact with a node, and what that node does not have yet. */
export declare function useStatus(db: Database): {
    readonly status: Status;
    readonly problem?: Problem;
    readonly pending: readonly Pending[];
};
