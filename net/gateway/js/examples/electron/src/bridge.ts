// What windows may ask of the main process, and both ends of it. Nothing here needs Electron: a port is any two-way channel that copies.
import type { Database, Document, Snapshot, Status } from "@anabranch/client";

/** A snapshot as a window gets it. Its number says which one a change was made from. */
export interface Note<T = Document> extends Snapshot<T> {
  readonly number: number;
}

export interface Notes {
  /** Saves value, made from that note, by difference: what came since is left alone. Resolves when it is on disk. */
  save(key: string, value: object, from?: Note): Promise<void>;
  remove(key: string): Promise<void>;
  /** Calls f now and after each change. Returns how to stop. */
  watch(prefix: string, f: (list: readonly Note[]) => void): () => void;
  status(f: (s: { status: Status; pending: number }) => void): () => void;
}

export type Request =
  | { id: number; call: "save"; key: string; value: object; from?: number }
  | { id: number; call: "remove"; key: string }
  | { id: number; call: "watch"; prefix: string }
  | { id: number; call: "status" }
  | { id: number; call: "stop" };

export type Answer = { id: number; done?: true; error?: string; list?: Note[]; status?: Status; pending?: number };

const remembered = 10_000;

/** The main process's end, one for each window. Returns how to end it. */
export function serve(db: Database, answer: (a: Answer) => void): { handle(r: unknown): void; close(): void } {
  const stops = new Map<number, () => void>();
  const given = new Map<number, object>(); // number → the object that the window has a copy of
  const numbers = new WeakMap<object, number>();
  let last = 0;
  const note = (s: Snapshot): Note => {
    let number = numbers.get(s);
    if (number === undefined) {
      numbers.set(s, (number = ++last));
      if (s.value) given.set(number, s.value);
      if (given.size > remembered) given.delete(given.keys().next().value!);
    }
    return { ...s, number };
  };
  const wait = (id: number, p: Promise<unknown>) =>
    void p.then(
      () => answer({ id, done: true }),
      (e) => answer({ id, error: String((e as Error).message ?? e) }),
    );
  const handle = (raw: unknown) => {
    const r = check(raw);
    if (!r) return;
    switch (r.call) {
      case "save":
        return wait(r.id, db.save(r.key, r.value, { base: r.from === undefined ? undefined : given.get(r.from) }));
      case "remove":
        return wait(r.id, db.remove(r.key));
      case "watch":
        stops.get(r.id)?.();
        stops.set(r.id, db.watchList(r.prefix, (list) => answer({ id: r.id, list: list.map(note) })));
        return;
      case "status": {
        const tell = () => answer({ id: r.id, status: db.status, pending: db.pending.length });
        const off = [db.on("status", tell), db.on("change", tell), db.on("rejected", tell)];
        stops.get(r.id)?.();
        stops.set(r.id, () => off.forEach((f) => f()));
        return tell();
      }
      case "stop":
        stops.get(r.id)?.();
        stops.delete(r.id);
    }
  };
  return {
    handle,
    close: () => {
      for (const stop of stops.values()) stop();
      stops.clear();
    },
  };
}

/** A window is not trusted with more than this: anything else is passed over. */
function check(raw: unknown): Request | undefined {
  const r = raw as Request;
  if (typeof r !== "object" || r === null || !Number.isSafeInteger(r.id)) return undefined;
  const text = (s: unknown) => typeof s === "string" && s.length <= 4096;
  switch (r.call) {
    case "save":
      return text(r.key) && typeof r.value === "object" && (r.from === undefined || Number.isSafeInteger(r.from)) ? r : undefined;
    case "remove":
      return text(r.key) ? r : undefined;
    case "watch":
      return text(r.prefix) ? r : undefined;
    case "status":
    case "stop":
      return r;
  }
  return undefined;
}

/** The window's end. send and receive are all that it needs of Electron. */
export function connect(send: (r: Request) => void, receive: (f: (a: Answer) => void) => void): Notes {
  const waiting = new Map<number, (a: Answer) => void>();
  let last = 0;
  receive((a) => waiting.get(a.id)?.(a));
  const ask = (make: (id: number) => Request) =>
    new Promise<void>((resolve, reject) => {
      const id = ++last;
      waiting.set(id, (a) => {
        waiting.delete(id);
        a.error === undefined ? resolve() : reject(new Error(a.error));
      });
      send(make(id));
    });
  const follow = (make: (id: number) => Request, f: (a: Answer) => void) => {
    const id = ++last;
    waiting.set(id, f);
    send(make(id));
    return () => {
      waiting.delete(id);
      send({ id, call: "stop" });
    };
  };
  return {
    save: (key, value, from) => ask((id) => ({ id, call: "save", key, value, from: from?.number })),
    remove: (key) => ask((id) => ({ id, call: "remove", key })),
    watch: (prefix, f) => follow((id) => ({ id, call: "watch", prefix }), (a) => f(a.list!)),
    status: (f) => follow((id) => ({ id, call: "status" }), (a) => f({ status: a.status!, pending: a.pending! })),
  };
}
