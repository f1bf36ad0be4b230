export interface Channel {
    postMessage(message: unknown): void;
    onmessage: ((event: {
        data: any;
    }) => void) | null;
    close(): void;
}
export interface Platform {
    now(): number;
    random(): number;
    setTimeout(f: () => void, ms: number): unknown;
    clearTimeout(timer: any): void;
    WebSocket?: new (url: string, protocol: string) => WebSocket;
    fetch?: typeof fetch;
    /** One holder at a time among all that share the storage; the returned promise settles when the lock has been given back. */
    lock?(name: string, signal: AbortSignal, held: () => Promise<void>): Promise<unknown>;
    channel?(name: string): Channel;
    /** Hints about the network and the page: "online", "offline", "visible". Returns how to stop listening. */
    hints?(on: (hint: "online" | "offline" | "visible") => void): () => void;
    persist?(): Promise<boolean>;
}
export declare function browser(): Platform;
