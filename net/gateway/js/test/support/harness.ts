// Simulated time and surroundings for tests.
import "fake-indexeddb/auto";
import { IDBFactory } from "fake-indexeddb";
import { open, type Database, type Options } from "../../src/index.js";
import type { Channel, Platform } from "../../src/platform.js";
import type { FakeNode } from "./fakenode.js";

/** A clock that moves only when it is told to. */
export class Clock {
  time = 2_000_000_000_000;
  #timers = new Map<number, { at: number; f: () => void }>();
  #next = 1;

  now = () => this.time;
  setTimeout = (f: () => void, ms: number) => {
    this.#timers.set(this.#next, { at: this.time + ms, f });
    return this.#next++;
  };
  clearTimeout = (t: any) => void this.#timers.delete(t);

  /** Moves on by ms, calling what falls due in order, and lets what that starts come to rest. */
  async advance(ms: number): Promise<void> {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, t]) => t.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].f();
      await rest();
    }
    this.time = end;
    await rest();
  }

  get pending(): number[] {
    return [...this.#timers.values()].map((t) => t.at - this.time);
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Lets everything that is under way in this process, and does not wait for the clock, go on until it rests. */
export async function rest(turns = 40): Promise<void> {
  for (let i = 0; i < turns; i++) await turn();
}

/** Waits until a condition holds, however long that takes on a slow machine. */
export async function until(what: string, condition: () => unknown): Promise<void> {
  for (const end = Date.now() + 20_000; !(await condition()); await turn()) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
  }
}

/** What the tabs of one browser share. */
export class Browser {
  readonly indexedDB = new IDBFactory();
  #channels = new Map<string, Set<Channel & { closed?: boolean }>>();
  #locks = new Map<string, Promise<void>>();
  #held: (() => void)[] = [];
  hold?: (message: any) => boolean; // which messages between tabs are late

  /** Lets the late messages through. */
  release(): void {
    this.hold = undefined;
    this.#held.splice(0).forEach((deliver) => deliver());
  }

  channel(name: string): Channel {
    const all = this.#channels.get(name) ?? new Set();
    this.#channels.set(name, all);
    const late = (message: unknown, deliver: () => void) => (this.hold?.(message) ? this.#held.push(deliver) : setImmediate(deliver));
    const channel: Channel = {
      onmessage: null,
      postMessage(message) {
        for (const other of all) {
          if (other === channel) continue;
          const data = structuredClone(message);
          late(data, () => other.onmessage?.({ data }));
        }
      },
      close: () => void all.delete(channel),
    };
    all.add(channel);
    return channel;
  }

  lock(name: string, signal: AbortSignal, held: () => Promise<void | undefined>): Promise<unknown> {
    const turn = (this.#locks.get(name) ?? Promise.resolve()).then(() => (signal.aborted ? undefined : held()));
    this.#locks.set(name, turn.catch(() => {}) as Promise<void>);
    return turn;
  }
}

export interface Setting {
  browser?: Browser;
  clock?: Clock;
  options?: Partial<Options>;
  platform?: Partial<Platform>;
  random?: () => number;
}

const crashes = new WeakMap<Database, () => void>();

/** Ends a tab without ceremony, as the death of its process does. What the disk has stays. */
export function crash(db: Database): void {
  crashes.get(db)!();
}

export async function openTab(node: FakeNode, { browser = new Browser(), clock = new Clock(), options, platform, random = () => 0.5 }: Setting = {}): Promise<Database> {
  // idb takes the factory from the global scope when it opens, and that happens before open returns its promise.
  (globalThis as any).indexedDB = browser.indexedDB;
  let dead = false;
  let die!: () => void;
  const death = new Promise<void>((resolve) => (die = resolve));
  const sockets: WebSocket[] = [];
  const channels: Channel[] = [];
  const Socket = node.WebSocket;
  const db = await open({
    url: "http://node.test",
    space: "notes",
    token: () => "good",
    platform: {
      now: clock.now,
      setTimeout: (f, ms) => clock.setTimeout(() => dead || f(), ms),
      clearTimeout: clock.clearTimeout,
      random,
      WebSocket: class extends Socket {
        constructor(url: string, protocol: string) {
          super(url, protocol);
          sockets.push(this);
        }
      },
      fetch: (input, init) => (dead ? new Promise(() => {}) : node.fetch(input, init)),
      channel: (name) => {
        const c = browser.channel(name);
        channels.push(c);
        return c;
      },
      lock: (name, signal, held) => browser.lock(name, signal, () => Promise.race([dead ? undefined : held(), death])),
      hints: undefined,
      persist: undefined,
      ...platform,
    },
    ...options,
  });
  crashes.set(db, () => {
    dead = true;
    die();
    // What it had received and not yet stored is lost; a transaction that has begun may still end.
    db.store.run = () => new Promise(() => {});
    for (const s of sockets) {
      s.onmessage = s.onclose = s.onerror = null;
      s.close();
    }
    for (const c of channels) {
      c.onmessage = null;
      c.postMessage = () => {};
      c.close();
    }
  });
  return db;
}
