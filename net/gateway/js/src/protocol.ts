// What travels between client and node, as docs/http-api.md defines it.
import type { Wire, WireObject } from "./wire.js";

/** Live dots of a document that the author of a write had read, and the cells where. */
export type Seen = { [dot: string]: string[] };

export type Op =
  | { op: "set"; key: string; path: string; value: Wire; seen: Seen }
  | { op: "remove"; key: string; path: string; seen: Seen }
  | { op: "increment"; key: string; path: string; by: Wire }
  | { op: "delete"; key: string; seen: Seen };

export interface Transaction {
  seq: number;
  at: number;
  ops: Op[];
  force?: true;
}

export interface ItemConflict {
  path: string;
  value: Wire;
  author: string;
  at: number;
  shownAt: string;
}

/** A document as the node has it. */
export interface Item {
  key: string;
  cursor: string;
  doc?: WireObject;
  deleted?: true;
  large?: number; // bytes: it is there, but too large to be sent
  dots?: { [dot: string]: true | string[] };
  counters?: string[];
  conflicts?: ItemConflict[];
  at?: number;
  author?: string;
}

export interface Result {
  seq: number;
  status: "accepted" | "rejected" | "retry";
  cursor?: string;
  dot?: string; // absent if it changed nothing, or is answered once more
  duplicate?: true;
  code?: string;
  detail?: string;
  after?: number;
}

export type Incoming =
  | { type: "welcome"; node: string; limits?: { frame?: number; transaction?: number; inflight?: number } }
  | { type: "changes"; items: Item[]; cursor: string; of?: { done: number; total: number } }
  | { type: "level"; cursor: string; vector?: string }
  | { type: "reset"; reason?: string }
  | { type: "ack"; client?: string; results: Result[] }
  | { type: "replicated"; client: string; seq: number; nodes: number }
  | { type: "error"; code: string; detail?: string }
  | { type: "expiring"; in: number }
  | { type: "pong" };

export interface Push {
  type: "push";
  space: string;
  node?: string;
  client: string;
  floor: number;
  replicate: number;
  transactions: Transaction[];
}

/** What a subscription asks for. */
export interface Subscription {
  space: string;
  prefix: string;
  since?: string;
  vector?: string;
  client: string;
  replicate: number;
}

/** Whether a reader at cursor has seen what cursor target marks; undefined if the two are of different feeds. */
export function reached(cursor: string | undefined, target: string): boolean | undefined {
  if (!cursor || cursor.slice(0, 17) !== target.slice(0, 17)) return undefined;
  return BigInt(cursor.slice(17) || 0) >= BigInt(target.slice(17) || 0);
}
