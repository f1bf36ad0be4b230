// What an app sees.
import type { Op } from "./protocol.js";
import type { Platform } from "./platform.js";
import type { Store } from "./store.js";
import type { Problem, Status, TransportName } from "./sync.js";
import type { Transaction } from "./drafts.js";
import type { Value } from "./wire.js";

export type Document = { readonly [name: string]: Value };

/** How far the changes that this client made to a document have come. */
export type State = "saved" | "sent" | "accepted" | "replicated";

export interface DocumentMeta {
  /** When it was last changed, ms since 1970; undefined if it does not exist. */
  readonly updatedAt?: number;
  /** A node holds all of this client's changes durably. */
  readonly synced: boolean;
  /** The least advanced of this client's changes; "accepted" where it made none. */
  readonly state: State;
  /** How many nodes besides the first one are known to hold this client's changes, up to the number asked for. */
  readonly nodes: number;
  /** Places where values compete; 0 under "last-write-wins". */
  readonly conflicts: number;
  /** The client or node that wrote last, 16 hex digits. */
  readonly author?: string;
  /** The document exists but is too large to be here; its size in bytes. Its value is undefined, and it cannot be saved whole. */
  readonly large?: number;
}

/** A document at one moment. It is frozen, and the same object as long as nothing changes. */
export interface Snapshot<T = Document> {
  readonly key: string;
  readonly value: T | undefined; // undefined: it does not exist
  readonly meta: DocumentMeta;
}

/** Resolves when the change is on the local disk. */
export interface Write extends Promise<void> {
  /** Resolves when a node holds it durably; rejects with a RejectedError if none will take it. */
  readonly synced: Promise<void>;
  /** Resolves to the number of nodes besides the first that hold it, once that is the number asked for by `replicate`. */
  readonly replicated: Promise<number>;
}

export class RejectedError extends Error {
  constructor(
    readonly code: string,
    readonly seq: number,
    detail = "",
  ) {
    super(`the node refused a change (${code})${detail && ": " + detail}`);
    this.name = "RejectedError";
  }
}

/** A transaction that a node refused for good. It no longer shows, and waits for the app to decide. */
export interface Rejected {
  readonly seq: number;
  readonly at: number;
  readonly keys: readonly string[];
  /** bad-request, too-large, forbidden, counter-range, …; "uncertain": increments that another node may have counted. */
  readonly code: string;
  readonly detail: string;
  /** What it was to do; values are as in documents. */
  readonly changes: readonly { op: Op["op"]; key: string; path: string; value?: Value }[];
  /** Forgets it. */
  drop(): Promise<void>;
  /** Sends it again as it is, as a new transaction. */
  retry(): Write;
  /** Puts another transaction in its place. */
  edit(f: (tx: Transaction) => unknown): Write;
}

/** Values that were written to one field concurrently. */
export interface Conflict {
  readonly key: string;
  readonly path: string; // JSON pointer
  /** What shows: the newest. */
  readonly value: Value | undefined;
  /** The others, the newest first. */
  readonly others: readonly { value: Value; author: string; at: number }[];
  /** Writes the value to the field, which settles the conflict; undefined removes the field. */
  choose(value: unknown): Write;
}

export type Policy = "last-write-wins" | "merge" | "ask";

export interface Pending {
  readonly seq: number;
  readonly at: number;
  readonly keys: readonly string[];
  readonly state: "saved" | "sent" | "rejected";
}

export interface Events {
  change: { keys: string[]; local: boolean };
  status: { status: Status; problem?: Problem };
  conflict: Conflict;
  rejected: Rejected;
  /** Catching up: documents passed, and known. */
  progress: { done: number; total: number };
  /** The local data had been removed; a new copy is being made. Changes that were not synced are lost. */
  reset: undefined;
  error: Error;
}

export interface ListOptions {
  prefix?: string;
  after?: string;
  limit?: number;
}

export interface SaveOptions {
  /** The object, as given by this database, that the new value was made from. Without it, what was last read under the key. */
  base?: object;
}

export interface Settings {
  name: string; // of the storage: one lock, one channel
  store: Store;
  platform: Platform;
  url: string;
  space: string;
  token(): string | null | undefined | Promise<string | null | undefined>;
  prefix: string;
  replicate: number;
  transports: readonly TransportName[];
  conflicts: Policy;
  merge?: (conflict: Conflict) => unknown;
}

