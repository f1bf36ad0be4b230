import type { Wire, WireObject } from "./wire.js";
/** Live dots of a document that the author of a write had read, and the cells where. */
export type Seen = {
    [dot: string]: string[];
};
export type Op = {
    op: "set";
    key: string;
    path: string;
    value: Wire;
    seen: Seen;
} | {
    op: "remove";
    key: string;
    path: string;
    seen: Seen;
} | {
    op: "increment";
    key: string;
    path: string;
    by: Wire;
} | {
    op: "delete";
    key: string;
    seen: Seen;
};
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
    large?: number;
    dots?: {
        [dot: string]: true | string[];
    };
    counters?: string[];
    conflicts?: ItemConflict[];
    at?: number;
    author?: string;
}
export interface Result {
    seq: number;
    status: "accepted" | "rejected" | "retry";
    cursor?: string;
    dot?: string;
    duplicate?: true;
    code?: string;
    detail?: string;
    after?: number;
}
export type Incoming = {
    type: "welcome";
    node: string;
    limits?: {
        frame?: number;
        transaction?: number;
        inflight?: number;
    };
} | {
    type: "changes";
    items: Item[];
    cursor: string;
    of?: {
        done: number;
        total: number;
    };
} | {
    type: "level";
    cursor: string;
    vector?: string;
} | {
    type: "reset";
    reason?: string;
} | {
    type: "ack";
    client?: string;
    results: Result[];
} | {
    type: "replicated";
    client: string;
    seq: number;
    nodes: number;
} | {
    type: "error";
    code: string;
    detail?: string;
} | {
    type: "expiring";
    in: number;
} | {
    type: "pong";
};
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
export declare function reached(cursor: string | undefined, target: string): boolean | undefined;
