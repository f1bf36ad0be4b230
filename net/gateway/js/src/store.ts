// Where a client keeps what it must not lose. Implemented on IndexedDB, and on files for Node.
import type { Item, Op } from "./protocol.js";

/** What the client knows of itself. One record, written with everything that it speaks about. */
export interface Meta {
  epoch: string; // drawn when these local data were begun
  client: string; // 16 hex digits: the author of what this client writes
  seq: number; // the last one given to a transaction
  at: number; // its time, ms; strictly increasing
  sent: number; // a node may have been given every transaction up to this seq
  home?: string; // the node they were given to
  cursor?: string; // up to here the documents below are what the node had
  vector?: string; // portable form of some cursor before, for another node
  prefix: string; // which documents are kept
  gen: number; // of the documents that belong to this state, see sweep
  sweep?: boolean; // documents of older generations go when the node says that it has told everything
  level: boolean; // it has said so at least once
  copies?: Copies[];
  transport?: string; // which one worked last
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
  own?: number; // seq of this client's last transaction in it
  contested?: 1; // it has conflicts; absent otherwise, so that an index finds the few
}

export interface PendingRecord {
  seq: number;
  at: number;
  ops: Op[];
  keys: string[];
  state: "saved" | "accepted" | "rejected";
  cursor?: string; // of an accepted one: a subscription that has reached it shows the effect
  code?: string; // of a rejected one
  detail?: string;
}

/** One transaction of the store. Only these methods may be awaited inside it. */
export interface Tx {
  meta(): Promise<Meta | undefined>;
  putMeta(m: Meta): void;
  doc(key: string): Promise<DocRecord | undefined>;
  docs(prefix: string, after?: string, limit?: number): Promise<DocRecord[]>; // in the order of their keys
  contested(): Promise<DocRecord[]>;
  putDoc(d: DocRecord): void;
  deleteDoc(key: string): void;
  sweep(gen: number): Promise<string[]>; // deletes the documents of other generations, and returns their keys
  pending(from?: number, limit?: number): Promise<PendingRecord[]>; // with seq ≥ from, in order
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
export class StorageError extends Error {
  constructor(
    readonly code: "quota" | "blocked" | "damaged" | "failed" | "locked",
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = "StorageError";
  }
}
