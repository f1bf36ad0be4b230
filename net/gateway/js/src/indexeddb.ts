import { openDB, type DBSchema, type IDBPDatabase, type IDBPTransaction } from "idb";
import { StorageError, type DocRecord, type Meta, type Mode, type PendingRecord, type Store, type Tx } from "./store.js";

interface Schema extends DBSchema {
  meta: { key: string; value: Meta };
  docs: { key: string; value: DocRecord; indexes: { contested: number } };
  pending: { key: number; value: PendingRecord; indexes: { keys: string } };
}

const names = ["meta", "docs", "pending"] as const;
type Write = IDBPTransaction<Schema, typeof names[number][], "readwrite">;

/** A store in the browser's IndexedDB, shared by all tabs of the origin. */
export class IndexedDBStore implements Store {
  #db?: Promise<IDBPDatabase<Schema>>;

  readonly #name: string;
  readonly #onLost: () => void;

  constructor(name: string, onLost: () => void = () => {}) {
    this.#name = name;
    this.#onLost = onLost;
  }

  async run<T>(mode: Mode, f: (tx: Tx) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const db = await this.#open();
      let t: Write;
      try {
        const options: IDBTransactionOptions = { durability: mode === "durable" ? "strict" : "relaxed" };
        t = db.transaction([...names], mode === "read" ? "readonly" : "readwrite", options) as unknown as Write;
      } catch (e) {
        // The browser has closed the connection, for example because the user cleared its data.
        this.#db = undefined;
        if (attempt < 3) continue;
        throw problem(e);
      }
      const done = t.done.then(() => undefined, (e) => e ?? new Error("aborted"));
      let result: T;
      try {
        result = await f(wrap(t));
      } catch (e) {
        try {
          t.abort();
        } catch {
          // it has ended already
        }
        // A request that was cut short does not say why; the transaction does.
        throw e instanceof DOMException ? problem(e.name === "AbortError" ? await done : e) : e;
      }
      const failure = await done;
      if (failure) throw problem(failure);
      return result;
    }
  }

  #open(): Promise<IDBPDatabase<Schema>> {
    this.#db ??= openDB<Schema>(this.#name, 1, {
      upgrade(db) {
        db.createObjectStore("meta");
        db.createObjectStore("docs", { keyPath: "key" }).createIndex("contested", "contested");
        db.createObjectStore("pending", { keyPath: "seq" }).createIndex("keys", "keys", { multiEntry: true });
      },
      blocking: () => void this.close(), // somebody wants to delete or upgrade it
      terminated: () => {
        this.#db = undefined;
        this.#onLost();
      },
    }).catch((e) => {
      this.#db = undefined;
      throw problem(e);
    });
    return this.#db;
  }

  async close(): Promise<void> {
    const db = this.#db;
    this.#db = undefined;
    (await db?.catch(() => undefined))?.close();
  }
}

function wrap(t: Write): Tx {
  const meta = t.objectStore("meta"), docs = t.objectStore("docs"), pending = t.objectStore("pending");
  // A request that fails aborts its transaction, which says why.
  const quiet = (p: Promise<unknown>) => void p.catch(() => {});
  return {
    meta: () => meta.get("meta"),
    putMeta: (m) => quiet(meta.put(m, "meta")),
    doc: (key) => docs.get(key),
    docs: (prefix, after, limit) => {
      const [from, to] = [after !== undefined && after >= prefix ? after : prefix, following(prefix)];
      const open = from === after;
      if (to !== undefined && from >= to) return Promise.resolve([]);
      return docs.getAll(to === undefined ? IDBKeyRange.lowerBound(from, open) : IDBKeyRange.bound(from, to, open, true), limit);
    },
    contested: () => docs.index("contested").getAll(),
    putDoc: (d) => quiet(docs.put(d)),
    deleteDoc: (key) => quiet(docs.delete(key)),
    sweep: async (gen) => {
      const gone: string[] = [];
      for (let c = await docs.openCursor(); c; c = await c.continue()) {
        if (c.value.gen === gen) continue;
        gone.push(c.key);
        quiet(c.delete());
      }
      return gone;
    },
    pending: (from = 0, limit) => pending.getAll(IDBKeyRange.lowerBound(from), limit),
    pendingOf: (key) => pending.index("keys").getAll(key),
    putPending: (p) => quiet(pending.put(p)),
    deletePending: (seq) => quiet(pending.delete(seq)),
  };
}

/** The first key after all that begin with prefix; undefined if there is none. */
export function following(prefix: string): string | undefined {
  for (let end = prefix.length - 1; end >= 0; end--) {
    const unit = prefix.charCodeAt(end);
    if (unit < 0xffff) return prefix.slice(0, end) + String.fromCharCode(unit + 1);
  }
  return undefined;
}

function problem(e: unknown): StorageError {
  const name = (e as { name?: string } | null)?.name;
  if (name === "QuotaExceededError") {
    return new StorageError("quota", "the browser's storage is full, nothing was saved: free some space", { cause: e });
  }
  if (name === "VersionError") {
    return new StorageError("blocked", "the local data are of a newer version of this app: load that", { cause: e });
  }
  return new StorageError("failed", `the browser's storage failed: ${(e as Error)?.message ?? e}`, { cause: e });
}
