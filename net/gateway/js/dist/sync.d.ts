import type { Platform } from "./platform.js";
import type { Meta, PendingRecord, Store } from "./store.js";
export type Status = "offline" | "connecting" | "live" | "needs-auth";
export type TransportName = "websocket" | "sse" | "poll";
/** Why the client is not live. */
export interface Problem {
    code: string;
    detail?: string;
}
export interface Host {
    readonly store: Store;
    readonly platform: Platform;
    readonly options: {
        url: string;
        space: string;
        replicate: number;
        transports: readonly TransportName[];
        token(): string | null | undefined | Promise<string | null | undefined>;
    };
    meta: Meta;
    /** The node's items of these documents, or what is pending in them, changed. */
    changed(keys: Iterable<string>, contested?: string[]): void;
    settled(records: PendingRecord[], gone: PendingRecord[]): void;
    status(status: Status, problem?: Problem): void;
    progress(done: number, total: number): void;
    metaChanged(): void;
    newClient(): string;
    /** The local data are gone: this conversation is over. */
    lost(): void;
}
export declare class Sync {
    #private;
    constructor(host: Host);
    start(): void;
    stop(): Promise<void>;
    /** Something was saved. */
    poke(): void;
    /** Connects now rather than at the end of the pause; ends the pause of needs-auth. */
    retry(): void;
    /** The surroundings say that the network went or came: true or not, it is worth a look. */
    hint(kind: "online" | "offline" | "visible"): void;
}
