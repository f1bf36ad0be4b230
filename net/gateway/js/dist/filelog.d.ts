import { StorageError } from "./index.js";
import type { Mode, Store, Tx } from "./store.js";
/** A store in the file `log` of a directory, of which it is the only user. */
export declare class FileLog implements Store {
    #private;
    constructor(dir: string, unlock: () => Promise<void>);
    load(): Promise<void>;
    run<T>(mode: Mode, f: (tx: Tx) => Promise<T>): Promise<T>;
    close(): Promise<void>;
}
export declare function problem(e: unknown): StorageError;
