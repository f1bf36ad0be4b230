import type { Conflict, Policy } from "./api.js";
import { Database } from "./database.js";
import { IndexedDBStore } from "./indexeddb.js";
import { browser, type Platform } from "./platform.js";
import type { Store } from "./store.js";
import type { TransportName } from "./sync.js";

export { RejectedError } from "./api.js";
export { Database } from "./database.js";
export { Transaction } from "./drafts.js";
export type { Conflict, Document, DocumentMeta, Events, ListOptions, Pending, Policy, Rejected, SaveOptions, Snapshot, State, Write } from "./api.js";
export { StorageError } from "./store.js";
export type { Store } from "./store.js";
export type { Platform } from "./platform.js";
export type { Path } from "./pointer.js";
export type { Problem, Status, TransportName } from "./sync.js";
export type { Value } from "./wire.js";

export interface Options {
  /** Where the gateway is, for example "https://sync.example.org". */
  url: string;
  space: string;
  /** Asked before each connection, and when the present token is about to expire. Nothing, or the token that was just refused: needs-auth. */
  token: () => string | null | undefined | Promise<string | null | undefined>;
  /** Only documents whose keys begin with this are kept and may be written. Default: all. */
  prefix?: string;
  /** Name of the local data, for example one for each user of the app; or a store. Default: made from url and space. */
  storage?: string | Store;
  /** What happens to values that were written concurrently. Default: "last-write-wins". */
  conflicts?: Policy;
  /** Under "merge": gives the value that is to stand. Give the same for the same values in any order. Default: the newest. */
  merge?: (conflict: Conflict) => unknown;
  /** From how many nodes besides the first to hear that they hold what was written. Default 1; 0: not at all. */
  replicate?: number;
  /** Which transports may be used, the best first. Default: WebSocket, server-sent events, long polling. */
  transports?: readonly TransportName[];
  /** Whether to ask the browser to keep the local data when it is short of space. Default: true. */
  persist?: boolean;
  /** Replaces parts of the surroundings, for example WebSocket in Node, or the clock in tests. */
  platform?: Partial<Platform>;
}

/** Opens the local copy of a space. It works at once, with or without a network, and synchronises whenever it can. */
export async function open(options: Options): Promise<Database> {
  const url = options.url.replace(/\/+$/, "");
  if (!/^https?:\/\//.test(url)) throw new TypeError(`url ${JSON.stringify(options.url)} must begin with http:// or https://`);
  if (!options.space) throw new TypeError("space must be the name of a space");
  const platform = { ...browser(), ...options.platform };
  const name = typeof options.storage === "string" ? options.storage : `anabranch/${url}/${options.space}`;
  if (options.persist !== false) void platform.persist?.().catch(() => false); // without it the browser may remove the data, as it may anyway
  let lost = () => {};
  const store = typeof options.storage === "object" ? options.storage : new IndexedDBStore(name, () => lost());
  const db = new Database({
    name,
    store,
    platform,
    url,
    space: options.space,
    token: options.token,
    prefix: options.prefix ?? "",
    replicate: options.replicate ?? 1,
    transports: options.transports ?? ["websocket", "sse", "poll"],
    conflicts: options.conflicts ?? "last-write-wins",
    merge: options.merge,
  });
  lost = () => db.lost();
  return db.start();
}
