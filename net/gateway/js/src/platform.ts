// What the client needs of its surroundings. Tests give their own clock, chance and network.

export interface Channel {
  postMessage(message: unknown): void;
  onmessage: ((event: { data: any }) => void) | null;
  close(): void;
}

export interface Platform {
  now(): number; // ms since 1970
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

export function browser(): Platform {
  const g = globalThis as any;
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (f, ms) => setTimeout(f, ms),
    clearTimeout: (t) => clearTimeout(t),
    WebSocket: g.WebSocket,
    fetch: g.fetch?.bind(g),
    lock: g.navigator?.locks && ((name, signal, held) => g.navigator.locks.request(name, { signal }, held)),
    channel: g.BroadcastChannel && ((name) => new g.BroadcastChannel(name)),
    hints: g.addEventListener && hints,
    persist: g.navigator?.storage?.persist && (() => g.navigator.storage.persist()),
  };
}

function hints(on: (hint: "online" | "offline" | "visible") => void): () => void {
  const stop = new AbortController();
  const { signal } = stop;
  addEventListener("online", () => on("online"), { signal });
  addEventListener("offline", () => on("offline"), { signal });
  globalThis.document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && on("visible"), { signal });
  return () => stop.abort();
}
