import type { Conflict, Policy, Write } from "./api.js";
import type { Platform } from "./platform.js";
import type { ItemConflict } from "./protocol.js";
import type { Value, Wire } from "./wire.js";
/** A document whose conflicts are looked at. */
export interface Case {
    key: string;
    open: readonly ItemConflict[];
    shown(path: string): Value | undefined;
    choose(path: string, value: unknown): Write;
}
/** What the database does for it. */
export interface Court {
    platform: Platform;
    policy(): Policy;
    merge?: (conflict: Conflict) => unknown;
    look(key: string): Promise<Case>;
    decode(w: Wire): Value;
    ask(conflict: Conflict): void;
    error(e: unknown): void;
}
export declare class Judge {
    #private;
    constructor(court: Court);
    /** Does what the policy says about documents that have conflicts, or had. */
    judge(keys: Iterable<string>): Promise<void>;
    close(): void;
    conflicts({ key, open, shown, choose }: Case): Conflict[];
}
