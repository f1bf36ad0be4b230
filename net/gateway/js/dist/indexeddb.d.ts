import { type Mode, type Store, type Tx } from "./store.js";
/** A store in the browser's IndexedDB, shared by all tabs of the origin. */
export declare class IndexedDBStore implements Store {
    #private;
    constructor(name: string, onLost?: () => void);
    run<T>(mode: Mode, f: (tx: Tx) => Promise<T>): Promise<T>;
    close(): Promise<void>;
}
/** The first key after all that begin with prefix; undefined if there is none. */
export declare function following(prefix: string): string | undefined;
