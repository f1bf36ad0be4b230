import type { Document, SaveOptions, Snapshot } from "./api.js";
import { type View } from "./overlay.js";
import { type Path } from "./pointer.js";
import type { Item, Op } from "./protocol.js";
/** What an app has read of a document, and may base a change on. */
export interface Base {
    key: string;
    item?: Item;
    view: View;
    snapshot?: Snapshot;
}
/** A change of one document. */
export interface Draft {
    key: string;
    build(read: View): Op[];
    ops?: Op[];
}
/** Several changes that become one. */
export declare class Transaction {
    private readonly db;
    private readonly add;
    /** What shows under a key, with what this transaction has done so far. */
    get<T = Document>(key: string): Promise<T | undefined>;
    save(key: string, value: object, options?: SaveOptions): void;
    set(key: string, path: Path, value: unknown): void;
    remove(key: string, path?: Path): void;
    increment(key: string, path: Path, by?: number | bigint): void;
}
export declare function saving(key: string, value: object): Draft;
export declare function setting(key: string, path: Path, value: unknown): Draft;
export declare function removing(key: string, path: Path): Draft;
export declare function incrementing(key: string, path: Path, by: number | bigint): Draft;
export declare function checkKey(key: string, prefix: string): void;
