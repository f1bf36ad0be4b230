import { type Conflict, type Document, type Events, type ListOptions, type Pending, type Policy, type Rejected, type SaveOptions, type Snapshot, type Write } from "./api.js";
import { Transaction } from "./drafts.js";
import { type Path } from "./pointer.js";
import { type Problem, type Status } from "./sync.js";
export declare class Database {
    #private;
    /** What shows under a key, undefined if there is no such document. */
    get<T = Document>(key: string): Promise<T | undefined>;
    /** The document with its state. */
    read<T = Document>(key: string): Promise<Snapshot<T>>;
    /** The documents whose keys begin with prefix, in the order of their keys, after the key `after`, at most `limit`. */
    list<T = Document>(options?: ListOptions | string): Promise<Snapshot<T>[]>;
    /** Calls f with the document now, and each time that it or its state changes. Returns how to stop. */
    watch<T = Document>(key: string, f: (s: Snapshot<T>) => void): () => void;
    /** Calls f with the documents whose keys begin with prefix now, and each time that one changes. Returns how to stop. */
    watchList<T = Document>(prefix: string, f: (list: readonly Snapshot<T>[]) => void): () => void;
    /** Makes value the document, by writing only what differs from what was read. */
    save(key: string, value: object, options?: SaveOptions): Write;
    /** Writes one field, or a whole object of fields. */
    set(key: string, path: Path, value: unknown): Write;
    /** Removes a field and what is below it; without a path, the document. */
    remove(key: string, path?: Path): Write;
    /** Adds to a counter. Concurrent increments all count. */
    increment(key: string, path: Path, by?: number | bigint): Write;
    /** Makes several changes one: all or none, here and at every node. f may be asynchronous; nothing is saved if it throws. */
    transact(f: (tx: Transaction) => unknown): Write;
    /** What no node holds yet, in order, and what was refused and waits for a decision. */
    get pending(): readonly Pending[];
    /** The transactions that were refused and wait for a decision. */
    rejected(): Promise<Rejected[]>;
    /** How this client treats conflicts. A change holds from the next one on, and for those that are open. */
    get conflicts(): Policy;
    set conflicts(policy: Policy);
    /** The open conflicts of the documents whose keys begin with prefix. */
    listConflicts(prefix?: string): Promise<Conflict[]>;
    /** Calls f for each conflict there is and each new one, under the policy "ask". Returns how to stop. */
    onConflict(f: (conflict: Conflict) => void): () => void;
    get status(): Status;
    /** Why it is not live. */
    get problem(): Problem | undefined;
    /** Whether the local data had to be started anew at opening: for the first time, or because the browser had removed them. */
    get isFresh(): boolean;
    /** The author of what this client writes, 16 hex digits. */
    get client(): string;
    on<E extends keyof Events>(event: E, f: (e: Events[E]) => void): () => void;
    /** Resolves when everything that the node had at some moment is here. At once if that was so before. */
    caughtUp(): Promise<void>;
    /** Connects at once instead of at the end of the pause; call it when there is a new token. */
    reconnect(): void;
    /** Ends everything. What was saved stays saved; what was not yet sent is sent after the next opening. */
    close(): Promise<void>;
}
