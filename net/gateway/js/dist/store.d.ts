import type { Item, Op } from "./protocol.js";
/** What the client knows of itself. One record, written with everything that it speaks about. */
export interface Meta {
    epoch: string;
    client: string;
    seq: number;
    at: number;
    sent: number;
    home?: string;
    cursor?: string;
    vector?: string;
    prefix: string;
    gen: number;
    sweep?: boolean;
    level: boolean;
    copies?: Copies[];
    transport?: string;
}
/** Own transactions up to seq are held by that many further nodes. */
export interface Copies {
    seq: number;
    nodes: number;
}
export interface DocRecord {
    key: string;
    gen: number;
    item: Item;
    own?: number;
    contested?: 1;
}
export interface PendingRecord {
    seq: number;
    at: number;
    ops: Op[];
    keys: string[];
    state: "saved" | "accepted" | "rejected";
    cursor?: string;
    code?: string;
    detail?: string;
}
/** One transaction of the store. Only these methods may be awaited inside it. */
export interface Tx {
    meta(): Promise<Meta | undefined>;
    putMeta(m: Meta): void;
    doc(key: string): Promise<DocRecord | undefined>;
    docs(prefix: string, after?: string, limit?: number): Promise<DocRecord[]>;
    contested(): Promise<DocRecord[]>;
    putDoc(d: DocRecord): void;
    deleteDoc(key: string): void;
    sweep(gen: number): Promise<string[]>;
    pending(from?: number, limit?: number): Promise<PendingRecord[]>;
    pendingOf(key: string): Promise<PendingRecord[]>;
    putPending(p: PendingRecord): void;
    deletePending(seq: number): void;
}
/**
 * How a store's transaction is to end: "read" changes nothing; "lazy" is atomic, and may be lost in a power cut together
 * with all later ones; "durable" is on disk when its promise resolves.
 */
export type Mode = "read" | "lazy" | "durable";
export interface Store {
    /** Runs f atomically and isolated. If f throws nothing is changed. */
    run<T>(mode: Mode, f: (tx: Tx) => Promise<T>): Promise<T>;
    close(): Promise<void>;
}
/** The storage cannot take what was to be kept. */
export declare class StorageError extends Error {
    readonly code: "quota" | "blocked" | "damaged" | "failed" | "locked";
    constructor(code: "quota" | "blocked" | "damaged" | "failed" | "locked", message: string, options?: ErrorOptions);
}
