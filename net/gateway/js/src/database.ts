// The database that an app works with.
import { RejectedError, type Conflict, type Document, type DocumentMeta, type Events, type ListOptions, type Pending, type Policy, type Rejected, type SaveOptions, type Settings, type Snapshot, type Write } from "./api.js";
import type { Case, Judge } from "./conflicts.js";
import { checkKey, incrementing, removing, saving, setting, Transaction, type Base, type Draft } from "./drafts.js";
import { apply, openConflicts, valueAt, viewOf, withSeen, type View } from "./overlay.js";
import { toNames, type Path } from "./pointer.js";
import type { Platform } from "./platform.js";
import type { Op } from "./protocol.js";
import { StorageError, type DocRecord, type Meta, type PendingRecord, type Store, type Tx } from "./store.js";
import { Sync, type Host, type Problem, type Status } from "./sync.js";
import { Tabs } from "./tabs.js";
import { decode, equal } from "./wire.js";

/** A pending transaction without what it does. */
type Summary = Pick<PendingRecord, "seq" | "at" | "keys" | "state" | "code" | "detail">;

interface Job {
  drafts: Draft[];
  raw?: Op[]; // instead of drafts
  replaces?: PendingRecord; // a rejected transaction that goes in the same breath
  resolve(seq: number): void; // 0: nothing was to be done
  reject(e: unknown): void;
}

interface Waiter {
  seq: number;
  synced(): void;
  replicated(nodes: number): void;
  reject(e: Error): void;
}

const maxTransactionBytes = 4 << 20;
const maxBases = 20_000;

export class Database {
  /** @internal */ readonly store: Store;
  /** @internal */ readonly platform: Platform;
  /** @internal */ readonly options: Settings;
  /** @internal */ meta!: Meta;
  #current: Status = "offline";
  #why?: Problem;
  #policy: Policy;
  #sync?: Sync;
  readonly #tabs: Tabs;
  #unhint?: () => void;
  #jobs: Job[] = [];
  #flushing?: Promise<void>;
  readonly #summaries = new Map<number, Summary>();
  readonly #gone = new Set<number>(); // seqs that were settled while this tab was open
  #waiters: Waiter[] = [];
  readonly #bases = new Map<string, Base>();
  readonly #origins = new WeakMap<object, Base>();
  readonly #watches = new Set<(keys: Set<string> | undefined) => void>();
  readonly #handlers = new Map<string, Set<(e: any) => void>>();
  readonly #contested = new Set<string>(); // keys in which conflicts were seen
  #judge?: Promise<Judge>;
  readonly #failed = (e: unknown) => this.#emit("error", e as Error);
  #levelWaiters: (() => void)[] = [];
  readonly #unreplicated = new Map<string, number>(); // key → seq of a settled change that is not known to be elsewhere
  #fresh = false;
  #isClosed = false;

  /** @internal */
  constructor(settings: Settings) {
    this.options = settings;
    this.store = settings.store;
    this.platform = settings.platform;
    this.#policy = settings.conflicts;
    this.#tabs = new Tabs(settings.name, settings.platform, (m) => this.#hear(m));
  }

  /** @internal */
  async start(): Promise<this> {
    await this.#reload();
    this.#unhint = this.platform.hints?.((hint) => {
      this.#sync?.hint(hint);
      // A page that was frozen may have missed what other tabs told.
      if (hint === "visible") void this.#reload().catch(this.#failed);
    });
    this.#tabs.tell({ t: "who" });
    this.#tabs.compete(() => this.#lead());
    return this;
  }

  // Reading

  /** What shows under a key, undefined if there is no such document. */
  async get<T = Document>(key: string): Promise<T | undefined> {
    return (await this.read<T>(key)).value;
  }

  /** The document with its state. */
  async read<T = Document>(key: string): Promise<Snapshot<T>> {
    const [doc, pending] = await this.store.run("read", (tx) => Promise.all([tx.doc(key), tx.pendingOf(key)]));
    return this.#snapshot<T>(key, doc, pending);
  }

  /** The documents whose keys begin with prefix, in the order of their keys, after the key `after`, at most `limit`. */
  async list<T = Document>(options: ListOptions | string = {}): Promise<Snapshot<T>[]> {
    const { prefix = "", after, limit = Infinity } = typeof options === "string" ? { prefix: options } : options;
    const found: Snapshot<T>[] = [];
    for (let from = after; found.length < limit; ) {
      const n = Math.min(limit, 1000);
      const [docs, pending] = await this.store.run("read", (tx) => Promise.all([tx.docs(prefix, from, n), tx.pending()]));
      const last = docs.length < n ? undefined : docs[n - 1]!.key;
      const byKey = new Map<string, { doc?: DocRecord; pending: PendingRecord[] }>(docs.map((doc) => [doc.key, { doc, pending: [] }]));
      for (const p of pending) {
        for (const key of p.keys) {
          if (!key.startsWith(prefix) || (from !== undefined && key <= from) || (last !== undefined && key > last)) continue;
          const of = byKey.get(key) ?? { pending: [] };
          of.pending.push(p);
          byKey.set(key, of);
        }
      }
      for (const key of [...byKey.keys()].sort(compare)) {
        const { doc, pending } = byKey.get(key)!;
        const s = this.#snapshot<T>(key, doc, pending);
        if (s.value !== undefined && found.length < limit) found.push(s);
      }
      if (last === undefined) break;
      from = last;
    }
    return found;
  }

  /** Calls f with the document now, and each time that it or its state changes. Returns how to stop. */
  watch<T = Document>(key: string, f: (s: Snapshot<T>) => void): () => void {
    let last: Snapshot<T> | undefined;
    return this.#observe(
      (keys) => !keys || keys.has(key),
      async (live) => {
        const s = await this.read<T>(key);
        if (!live() || s === last) return;
        last = s;
        f(s);
      },
    );
  }

  /** Calls f with the documents whose keys begin with prefix now, and each time that one changes. Returns how to stop. */
  watchList<T = Document>(prefix: string, f: (list: readonly Snapshot<T>[]) => void): () => void {
    let list: Snapshot<T>[] | undefined;
    let dirty: Set<string> | undefined = new Set(); // undefined: all
    return this.#observe(
      (keys) => {
        if (!keys) dirty = undefined;
        let hit = !keys;
        for (const key of keys ?? []) {
          if (!key.startsWith(prefix)) continue;
          dirty?.add(key);
          hit = true;
        }
        return hit;
      },
      async (live) => {
        const keys = dirty;
        dirty = new Set();
        let next: Snapshot<T>[];
        if (!list || !keys || keys.size > 200) {
          next = await this.list<T>(prefix);
        } else {
          const changed = new Map((await Promise.all([...keys].map((key) => this.read<T>(key)))).map((s) => [s.key, s]));
          next = list.map((s) => changed.get(s.key) ?? s).filter((s) => s.value !== undefined);
          const had = new Set(list.map((s) => s.key));
          const added = [...changed.values()].filter((s) => s.value !== undefined && !had.has(s.key));
          if (added.length) next = [...next, ...added].sort((a, b) => compare(a.key, b.key));
        }
        if (!live() || (list && list.length === next.length && list.every((s, i) => s === next[i]))) return;
        list = next;
        f(next);
      },
    );
  }

  // Writing

  /** Makes value the document, by writing only what differs from what was read. */
  save(key: string, value: object, options: SaveOptions = {}): Write {
    return this.#write(() => [this.#draft(saving(key, value), options.base ?? value)]);
  }

  /** Writes one field, or a whole object of fields. */
  set(key: string, path: Path, value: unknown): Write {
    return this.#write(() => [this.#draft(setting(key, path, value))]);
  }

  /** Removes a field and what is below it; without a path, the document. */
  remove(key: string, path: Path = ""): Write {
    return this.#write(() => [this.#draft(removing(key, path))]);
  }

  /** Adds to a counter. Concurrent increments all count. */
  increment(key: string, path: Path, by: number | bigint = 1): Write {
    return this.#write(() => [this.#draft(incrementing(key, path, by))]);
  }

  /** Makes several changes one: all or none, here and at every node. f may be asynchronous; nothing is saved if it throws. */
  transact(f: (tx: Transaction) => unknown): Write {
    return this.#write(() => this.#collect(f));
  }

  async #collect(f: (tx: Transaction) => unknown): Promise<Draft[]> {
    const tx = new Transaction(this, (d, base) => this.#draft(d, base, tx.bases));
    await f(tx);
    for (const base of tx.bases.values()) this.#remember(base);
    return tx.drafts;
  }

  /** Bases a change on what was read, if anything was. */
  #draft(d: Draft, from?: object, bases = this.#bases): Draft {
    checkKey(d.key, this.options.prefix);
    const base = this.baseOf(d.key, from, bases);
    if (!base) return d; // it is based on what shows when it is written
    const ops = d.build(base.view).map((op) => withSeen(op, base.item));
    bases.set(d.key, { key: d.key, item: base.item, view: ops.reduce(apply, base.view) });
    return { ...d, ops };
  }

  #write(make: () => Draft[] | Promise<Draft[]>, more: Partial<Job> = {}): Write {
    let synced!: Waiter;
    const accepted = new Promise<void>((resolve, reject) => (synced = { seq: 0, synced: resolve, reject, replicated: () => {} }));
    const replicated = new Promise<number>((resolve, reject) => {
      const { reject: other } = synced;
      synced.replicated = resolve;
      synced.reject = (e) => (other(e), reject(e));
    });
    // Whoever does not ask has not missed anything: there are events too.
    accepted.catch(() => {});
    replicated.catch(() => {});
    const queue = (drafts: Draft[]) =>
      new Promise<number>((resolve, reject) => {
        this.#jobs.push({ drafts, ...more, resolve, reject });
        this.#flush();
      });
    let saved: Promise<number>;
    try {
      if (this.#isClosed) throw new Error("the database is closed");
      const drafts = make();
      saved = drafts instanceof Promise ? drafts.then(queue) : queue(drafts);
    } catch (e) {
      saved = Promise.reject(e);
    }
    const done = saved.then(
      (seq) => {
        synced.seq = seq;
        this.#waiters.push(synced);
        this.#wake();
      },
      (e) => {
        synced.reject(e);
        throw e;
      },
    );
    return Object.assign(done, { synced: accepted, replicated });
  }

  /** Writes all waiting jobs in one transaction of the store: they share one sync of the disk. */
  #flush(): void {
    this.#flushing ??= Promise.resolve().then(async () => {
      while (this.#jobs.length) await this.#flushSome(this.#jobs.splice(0, 500));
      this.#flushing = undefined;
    });
  }

  async #flushSome(jobs: Job[]): Promise<void> {
    const seqs = new Map<Job, number>();
    const failures = new Map<Job, unknown>();
    const records: PendingRecord[] = [];
    const dropped: PendingRecord[] = [];
    const read = new Map<string, Base>();
    let now!: Meta;
    try {
      await this.store.run("durable", async (tx) => {
        const meta = (await tx.meta()) ?? (await this.#begin(tx));
        for (const job of jobs) {
          let ops: Op[];
          try {
            ops = await this.#operations(job, tx, read);
          } catch (e) {
            if (e instanceof StorageError || e instanceof DOMException) throw e;
            failures.set(job, e);
            continue;
          }
          const keys = [...new Set(ops.map((op) => op.key))];
          if (job.replaces) {
            tx.deletePending(job.replaces.seq);
            dropped.push(job.replaces);
          }
          if (!ops.length) {
            // Nothing to do, but a change that said the same may still be under way.
            const wanted = new Set(job.drafts.map((d) => d.key));
            seqs.set(job, Math.max(0, ...[...this.#summaries.values(), ...records].filter((p) => p.keys.some((k) => wanted.has(k))).map((p) => p.seq)));
            continue;
          }
          meta.at = Math.max(this.platform.now(), meta.at + 1);
          const record: PendingRecord = { seq: ++meta.seq, at: meta.at, ops, keys, state: "saved" };
          tx.putPending(record);
          records.push(record);
          seqs.set(job, record.seq);
        }
        tx.putMeta(meta);
        now = meta;
      });
    } catch (e) {
      for (const job of jobs) {
        // What the app now reads is no longer what it thinks it wrote.
        for (const d of job.drafts) this.#bases.delete(d.key);
        job.reject(e);
      }
      if (e instanceof StorageError) this.#emit("error", e);
      return;
    }
    if (now.epoch !== this.meta.epoch) void this.#renew().catch(this.#failed);
    else this.meta = { ...this.meta, client: now.client, seq: now.seq, at: now.at };
    for (const base of read.values()) if (!this.#bases.has(base.key)) this.#remember(base);
    this.#note(records, dropped);
    const keys = new Set(records.flatMap((p) => p.keys));
    if (keys.size) this.#touch(keys, true);
    for (const job of jobs) {
      if (failures.has(job)) {
        for (const d of job.drafts) this.#bases.delete(d.key);
        job.reject(failures.get(job));
      } else job.resolve(seqs.get(job)!);
    }
    this.#sync?.poke();
  }

  async #operations(job: Job, tx: Tx, read: Map<string, Base>): Promise<Op[]> {
    const ops = job.raw ?? [];
    const mine = new Map<string, Base>();
    for (const d of job.drafts) {
      let done = d.ops;
      if (!done) {
        let base = mine.get(d.key) ?? read.get(d.key);
        if (!base) {
          const [doc, pending] = await Promise.all([tx.doc(d.key), tx.pendingOf(d.key)]);
          base = { key: d.key, item: doc?.item, view: overlay(d.key, doc, pending) };
        }
        const { item } = base;
        done = d.build(base.view).map((op) => withSeen(op, item));
        mine.set(d.key, { key: d.key, item: base.item, view: done.reduce(apply, base.view) });
      }
      ops.push(...done);
    }
    const size = JSON.stringify(ops);
    if (size.length * 3 > maxTransactionBytes && new TextEncoder().encode(size).length > maxTransactionBytes) {
      throw new RangeError(`a transaction of ${size.length} characters is over the limit of ${maxTransactionBytes} bytes: write less at once`);
    }
    for (const [key, base] of mine) read.set(key, base);
    return ops;
  }

  // Pending and rejected transactions

  /** What no node holds yet, in order, and what was refused and waits for a decision. */
  get pending(): readonly Pending[] {
    const all = [...this.#summaries.values()].sort((a, b) => a.seq - b.seq);
    return all.flatMap(({ seq, at, keys, state }) => (state === "accepted" ? [] : [{ seq, at, keys, state: state === "saved" && seq <= this.meta.sent ? "sent" : state }]));
  }

  /** The transactions that were refused and wait for a decision. */
  async rejected(): Promise<Rejected[]> {
    const all = await this.store.run("read", (tx) => tx.pending());
    return all.filter((p) => p.state === "rejected").map((p) => this.#rejection(p));
  }

  #rejection(p: PendingRecord): Rejected {
    return {
      seq: p.seq,
      at: p.at,
      keys: p.keys,
      code: p.code ?? "rejected",
      detail: p.detail ?? "",
      changes: p.ops.map((op) => ({
        op: op.op,
        key: op.key,
        path: op.op === "delete" ? "" : op.path,
        ...(op.op === "set" && { value: decode(op.value) }),
        ...(op.op === "increment" && { value: decode(op.by) }),
      })),
      drop: () => this.#write(() => [], { replaces: p }),
      retry: () => this.#write(() => [], { raw: [...p.ops], replaces: p }),
      edit: (f) => this.#write(() => this.#collect(f), { replaces: p }),
    };
  }

  // Conflicts

  /** How this client treats conflicts. A change holds from the next one on, and for those that are open. */
  get conflicts(): Policy {
    return this.#policy;
  }

  set conflicts(policy: Policy) {
    if (policy === this.#policy) return;
    this.#policy = policy;
    this.#consider();
    this.#notify(undefined);
  }

  /** The open conflicts of the documents whose keys begin with prefix. */
  async listConflicts(prefix = ""): Promise<Conflict[]> {
    const docs = await this.store.run("read", (tx) => tx.contested());
    const judge = await this.#bench();
    const cases = await Promise.all(docs.filter((d) => d.key.startsWith(prefix)).map((d) => this.#look(d.key)));
    return cases.flatMap((c) => judge.conflicts(c));
  }

  /** Calls f for each conflict there is and each new one, under the policy "ask". Returns how to stop. */
  onConflict(f: (conflict: Conflict) => void): () => void {
    const stop = this.on("conflict", f);
    void this.listConflicts().then((all) => {
      if (this.#policy === "ask") for (const c of all) f(c);
    }, this.#failed);
    return stop;
  }

  async #look(key: string): Promise<Case> {
    const [doc, pending] = await this.store.run("read", (tx) => Promise.all([tx.doc(key), tx.pendingOf(key)]));
    const base: Base = { key, item: doc?.item, view: overlay(key, doc, pending) };
    return {
      key,
      open: openConflicts(doc?.item, opsOf(key, pending)),
      shown: (path) => {
        const w = valueAt(base.view.doc, toNames(path));
        return w === undefined ? w : decode(w);
      },
      choose: (path, value) =>
        this.#write(() => {
          const d = value === undefined ? removing(key, path) : setting(key, path, value);
          return [{ ...d, ops: d.build(base.view).map((op) => withSeen(op, base.item)) }];
        }),
    };
  }

  #bench(): Promise<Judge> {
    return (this.#judge ??= import("./conflicts.js").then(
      ({ Judge }) =>
        new Judge({
          platform: this.platform,
          policy: () => this.#policy,
          merge: this.options.merge,
          look: (key) => this.#look(key),
          decode,
          ask: (c) => this.#emit("conflict", c),
          error: this.#failed,
        }),
    ).catch((e) => {
      this.#judge = undefined;
      throw e;
    }));
  }

  /** Does what the policy says about documents that may have conflicts; of several tabs the leading one merges. */
  #consider(keys?: Iterable<string>): void {
    if (this.#policy === "last-write-wins" || (this.#policy === "merge" && !this.#sync)) return;
    void (async () => {
      const all = keys ?? (await this.store.run("read", (tx) => tx.contested())).map((d) => d.key);
      const some = [...all];
      for (const key of some) this.#contested.add(key);
      if (some.length) await (await this.#bench()).judge(some);
    })().catch(this.#failed);
  }

  // State

  get status(): Status {
    return this.#current;
  }

  /** Why it is not live. */
  get problem(): Problem | undefined {
    return this.#why;
  }

  /** Whether the local data had to be started anew at opening: for the first time, or because the browser had removed them. */
  get isFresh(): boolean {
    return this.#fresh;
  }

  /** The author of what this client writes, 16 hex digits. */
  get client(): string {
    return this.meta.client;
  }

  on<E extends keyof Events>(event: E, f: (e: Events[E]) => void): () => void {
    const set = this.#handlers.get(event) ?? new Set();
    this.#handlers.set(event, set.add(f));
    return () => void set.delete(f);
  }

  /** Resolves when everything that the node had at some moment is here. At once if that was so before. */
  async caughtUp(): Promise<void> {
    if (!this.meta.level) await new Promise<void>((resolve) => this.#levelWaiters.push(resolve));
  }

  /** Connects at once instead of at the end of the pause; call it when there is a new token. */
  reconnect(): void {
    if (this.#sync) this.#sync.retry();
    else this.#tabs.tell({ t: "retry" });
  }

  /** Ends everything. What was saved stays saved; what was not yet sent is sent after the next opening. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#unhint?.();
    await this.#flushing;
    (await this.#judge?.catch(() => undefined))?.close();
    await this.#sync?.stop();
    await this.#tabs.close();
    this.#watches.clear();
    await this.store.close();
  }

  // The leader's conversation with the node

  #lead(): void {
    if (this.#isClosed) return;
    this.#sync = new Sync(this.#host());
    this.#sync.start();
    this.#consider();
  }

  #host(): Host {
    const db = this;
    return {
      store: db.store,
      platform: db.platform,
      options: db.options,
      get meta() {
        return db.meta;
      },
      set meta(m) {
        db.meta = m;
      },
      changed: (keys, contested) => db.#touch(new Set(keys), false, contested),
      settled: (records, gone) => db.#note(records, gone),
      status: (status, problem) => {
        db.#setStatus(status, problem);
        db.#tellStatus();
      },
      progress: (done, total) => {
        db.#emit("progress", { done, total });
        db.#tabs.tell({ t: "progress", done, total });
      },
      metaChanged: () => {
        db.#tellStatus();
        db.#metaSeen();
      },
      newClient,
      lost: () => db.lost(),
    };
  }

  /** The browser has removed the local data: begins anew. */
  /** @internal */
  lost(): void {
    void this.#renew().catch(this.#failed);
  }

  async #renew(): Promise<void> {
    await this.#sync?.stop();
    await this.#reload();
    this.#tabs.tell({ t: "reload" });
    if (this.#sync) this.#lead();
  }

  /** Reads what the store says about this client, and makes it its own if the store is new. */
  async #reload(): Promise<void> {
    const { prefix } = this.options;
    const [meta, pending] = await this.store.run("durable", async (tx) => {
      let meta = (await tx.meta()) ?? (await this.#begin(tx));
      if (meta.prefix !== prefix) {
        // Other documents are wanted: all are told again, and those that are not among them go.
        meta = { ...meta, prefix, cursor: undefined, vector: undefined, gen: meta.gen + 1, sweep: true, level: false };
        tx.putMeta(meta);
      }
      return [meta, await tx.pending()] as const;
    });
    const before = this.meta as Meta | undefined;
    this.meta = meta;
    this.#summaries.clear();
    for (const p of pending) this.#summaries.set(p.seq, summary(p));
    this.#wake();
    if (!before) return;
    this.#metaSeen();
    if (before.epoch !== meta.epoch) {
      this.#fresh = true;
      this.#bases.clear();
      this.#gone.clear();
      this.#emit("reset", undefined);
    }
    this.#notify(undefined);
  }

  async #begin(tx: Tx): Promise<Meta> {
    this.#fresh = true;
    // If the record alone is gone, whatever is pending may have been sent.
    const last = (await tx.pending()).at(-1)?.seq ?? 0;
    const meta: Meta = { epoch: newClient(), client: newClient(), seq: last, at: 0, sent: last, prefix: this.options.prefix, gen: 1, level: false };
    // Documents without a record belong to nobody: they go once everything was told anew.
    if ((await tx.docs("", undefined, 1)).length) meta.sweep = true;
    tx.putMeta(meta);
    return meta;
  }

  // What changed, told to the app and to other tabs

  #touch(keys: Set<string>, local: boolean, contested: readonly string[] = []): void {
    this.#tabs.tell({ t: "docs", keys: [...keys], contested });
    this.#touched(keys, local, contested);
  }

  #touched(keys: Set<string>, local: boolean, contested: readonly string[]): void {
    this.#notify(keys);
    this.#emit("change", { keys: [...keys], local });
    // Also those that had conflicts: they may have none any more.
    this.#consider(new Set([...contested, ...[...keys].filter((k) => this.#contested.has(k))]));
  }

  #note(records: readonly PendingRecord[], gone: readonly PendingRecord[]): void {
    this.#tabs.tell({ t: "pending", put: records.map(summary), gone: gone.map(summary) });
    this.#noted(records.map(summary), gone.map(summary));
    for (const p of records) if (p.state === "rejected") this.#emit("rejected", this.#rejection(p));
  }

  #noted(put: readonly Summary[], gone: readonly Summary[]): void {
    for (const p of put) {
      // Tabs do not hear each other in order: that it was saved may come after what became of it.
      if (p.state !== "saved" || !(this.#summaries.has(p.seq) || this.#gone.has(p.seq))) this.#summaries.set(p.seq, p);
    }
    for (const p of gone) {
      this.#summaries.delete(p.seq);
      this.#gone.add(p.seq);
      if (p.state !== "rejected") for (const key of p.keys) this.#unreplicated.set(key, p.seq);
    }
    this.#wake();
  }

  #tellStatus(): void {
    const { sent, copies, level } = this.meta;
    this.#tabs.tell({ t: "status", status: this.#current, problem: this.#why, meta: { sent, copies, level } });
  }

  #hear(m: any): void {
    if (!this.meta || this.#isClosed) return;
    switch (m.t) {
      case "docs":
        return this.#touched(new Set(m.keys), false, m.contested);
      case "pending":
        this.#noted(m.put, m.gone);
        this.#sync?.poke();
        for (const p of m.put as Summary[]) {
          if (p.state !== "rejected") continue;
          void this.rejected().then((all) => all.filter((r) => r.seq === p.seq).forEach((r) => this.#emit("rejected", r)), this.#failed);
        }
        return;
      case "status":
        if (this.#sync) return;
        this.meta = { ...this.meta, ...m.meta };
        this.#setStatus(m.status, m.problem);
        return this.#metaSeen();
      case "progress":
        return this.#emit("progress", { done: m.done, total: m.total });
      case "who":
        if (this.#sync) this.#tellStatus();
        return;
      case "retry":
        return this.#sync?.retry();
      case "reload":
        void this.#reload().catch(this.#failed);
    }
  }

  #setStatus(status: Status, problem?: Problem): void {
    if (status === this.#current && problem?.code === this.#why?.code) return;
    this.#current = status;
    this.#why = problem;
    this.#emit("status", { status, problem });
  }

  /** What was sent or is held elsewhere has changed. */
  #metaSeen(): void {
    const keys = new Set([...this.#summaries.values()].flatMap((p) => p.keys));
    for (const [key, seq] of this.#unreplicated) {
      if (!this.#nodes(seq)) continue;
      keys.add(key);
      if (this.#nodes(seq) >= this.options.replicate) this.#unreplicated.delete(key);
    }
    if (keys.size) this.#notify(keys);
    this.#wake();
    if (this.meta.level) this.#levelWaiters.splice(0).forEach((f) => f());
  }

  /** How many further nodes hold this client's transaction. */
  #nodes(seq: number): number {
    return Math.max(0, ...(this.meta.copies ?? []).filter((c) => c.seq >= seq).map((c) => c.nodes));
  }

  /** Settles the promises of changes that have come as far as somebody waits for. */
  #wake(): void {
    const { replicate } = this.options;
    this.#waiters = this.#waiters.filter((w) => {
      const p = this.#summaries.get(w.seq);
      if (p?.state === "rejected") {
        w.reject(new RejectedError(p.code ?? "rejected", w.seq, p.detail));
        return false;
      }
      if (p?.state === "saved") return true;
      w.synced();
      if (w.seq && this.#nodes(w.seq) < replicate) return true;
      w.replicated(this.#nodes(w.seq));
      return false;
    });
  }

  /** Reads when asked to, and again after whatever wants says concerns it. Never twice at once. */
  #observe(wants: (keys: Set<string> | undefined) => boolean, read: (live: () => boolean) => Promise<void>): () => void {
    let running = false, again = false, live = true;
    const go = async () => {
      again = true;
      if (running) return;
      running = true;
      while (again && live) {
        again = false;
        await read(() => live).catch((e) => live && this.#emit("error", e));
      }
      running = false;
    };
    const watch = (keys: Set<string> | undefined) => void (wants(keys) && go());
    this.#watches.add(watch);
    void go();
    return () => {
      live = false;
      this.#watches.delete(watch);
    };
  }

  #notify(keys: Set<string> | undefined): void {
    for (const watch of [...this.#watches]) watch(keys);
  }

  #snapshot<T>(key: string, doc: DocRecord | undefined, pending: readonly PendingRecord[]): Snapshot<T> {
    const view = overlay(key, doc, pending);
    const old = this.#bases.get(key);
    const value = view.doc && (old?.snapshot?.value && equal(old.view.doc, view.doc) ? old.snapshot.value : (decode(view.doc) as Document));
    const now: Snapshot = { key, value, meta: this.#documentMeta(key, doc, pending) };
    const same = old?.snapshot && old.snapshot.value === value && JSON.stringify(old.snapshot.meta) === JSON.stringify(now.meta);
    const snapshot = same ? old.snapshot! : Object.freeze(now);
    const base: Base = { key, item: doc?.item, view, snapshot };
    this.#remember(base);
    if (value) this.#origins.set(value, base);
    return snapshot as Snapshot<T>;
  }

  #documentMeta(key: string, doc: DocRecord | undefined, pending: readonly PendingRecord[]): DocumentMeta {
    const live = pending.filter((p) => p.state !== "rejected");
    const saved = live.filter((p) => p.state === "saved");
    const own = Math.max(doc?.own ?? 0, ...live.map((p) => p.seq));
    const nodes = saved.length || !own ? 0 : this.#nodes(own);
    return Object.freeze({
      updatedAt: live.at(-1)?.at ?? doc?.item.at,
      synced: !saved.length,
      state: saved.length ? (saved.at(-1)!.seq <= this.meta.sent ? "sent" : "saved") : nodes ? "replicated" : "accepted",
      nodes,
      conflicts: doc && this.#policy !== "last-write-wins" ? new Set(openConflicts(doc.item, opsOf(key, pending)).map((c) => c.shownAt)).size : 0,
      author: live.length ? this.meta.client : doc?.item.author,
      ...(doc?.item.large && { large: doc.item.large }),
    } satisfies DocumentMeta);
  }

  #remember(base: Base): void {
    this.#bases.delete(base.key);
    this.#bases.set(base.key, base);
    if (this.#bases.size > maxBases) this.#bases.delete(this.#bases.keys().next().value!);
  }

  /** What a change of a document is based on: what was read when `from` was given, or else what was read last. @internal */
  baseOf(key: string, from?: object, bases = this.#bases): Base | undefined {
    const given = from && this.#origins.get(from);
    return given?.key === key ? given : (bases.get(key) ?? this.#bases.get(key));
  }

  #emit<E extends keyof Events>(event: E, e: Events[E]): void {
    const set = this.#handlers.get(event);
    if (event === "error" && !set?.size) console.error("anabranch:", e);
    for (const f of [...(set ?? [])]) {
      try {
        f(e);
      } catch (failure) {
        // A handler that fails must not stop what called it; it fails as any callback of the page does.
        queueMicrotask(() => {
          throw failure;
        });
      }
    }
  }
}

/** The view of a document: the node's state, with what this client has pending on top. */
function overlay(key: string, doc: DocRecord | undefined, pending: readonly PendingRecord[]): View {
  return opsOf(key, pending).reduce(apply, viewOf(doc?.item));
}

function opsOf(key: string, pending: readonly PendingRecord[]): Op[] {
  return pending.flatMap((p) => (p.state === "rejected" ? [] : p.ops.filter((op) => op.key === key)));
}

function summary({ seq, at, keys, state, code, detail }: PendingRecord | Summary): Summary {
  return { seq, at, keys, state, code, detail };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** 16 hex digits, not all zero. */
function newClient(): string {
  return (crypto.getRandomValues(new BigUint64Array(1))[0]! || 1n).toString(16).padStart(16, "0");
}
