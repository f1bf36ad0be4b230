// The leading tab's conversation with the node: it receives changes, and sends pending transactions until each is settled.
import type { Platform } from "./platform.js";
import { reached, type Incoming, type Item, type Result, type Transaction } from "./protocol.js";
import type { Copies, DocRecord, Meta, Mode, PendingRecord, Store, Tx } from "./store.js";
import { isAuth, websocket, type Closed, type Connection, type Dial } from "./transport.js";

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
  readonly options: { url: string; space: string; replicate: number; transports: readonly TransportName[]; token(): string | null | undefined | Promise<string | null | undefined> };
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

class LostError extends Error {}

// What few need is loaded when they need it.
const dials: Record<TransportName, () => Dial | Promise<Dial>> = {
  websocket: () => websocket,
  sse: async () => (await import("./fallback.js")).sse,
  poll: async () => (await import("./fallback.js")).poll,
};
const second = 1000;
const silence = 15 * second; // then a ping is sent
const dead = 25 * second; // then the connection is given up
const welcomeWithin = 10 * second;
const stable = 60 * second; // then the back-off starts anew
const inflightLimit = 1000;
const batch = { transactions: 100, bytes: 256 << 10 };

interface Session {
  connection: Connection;
  transport: TransportName;
  welcomed: number; // when, ms; 0: not yet
  node: string;
  heard: number;
  credit: number;
}

export class Sync {
  #session?: Session;
  #chain: Promise<void> = Promise.resolve(); // what came and what is to be sent is handled one after the other
  #queue: PendingRecord[] = []; // saved and not settled, in order; only the first part of a long queue
  #loaded = 0; // seq up to which the store's pending transactions are in queue
  #sent = 0; // how many at the head of queue this connection was given
  #accepted: PendingRecord[] = []; // settled at the node; the subscription has not reached them
  #stalled?: unknown; // timer: the node asked to wait
  #retries = 0;
  readonly #behind = new Map<number, number>(); // seq → when the node first said so
  #attempts = 0;
  #untried: TransportName[] = [];
  #refused?: string; // token that the node did not take
  #refusals = 0; // since the last welcome
  #timers = new Map<string, unknown>();
  #stopped = false;
  #total = 0; // documents to catch up with, as last told
  #round = 0; // counts connection attempts, so that the outcome of an abandoned one is ignored
  #probes = 0;

  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  start(): void {
    this.#timer("watch", 5 * second, () => this.#watch());
    this.#connect(true);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const t of this.#timers.values()) this.#host.platform.clearTimeout(t);
    this.#timers.clear();
    this.#host.platform.clearTimeout(this.#stalled);
    this.#session?.connection.close();
    this.#session = undefined;
    await this.#chain;
  }

  /** Something was saved. */
  poke(): void {
    void this.#exec(() => this.#pump());
  }

  /** Connects now rather than at the end of the pause; ends the pause of needs-auth. */
  retry(): void {
    if (this.#session || this.#stopped) return;
    this.#refused = undefined;
    this.#connect(true);
  }

  /** The surroundings say that the network went or came: true or not, it is worth a look. */
  hint(kind: "online" | "offline" | "visible"): void {
    if (this.#stopped) return;
    if (this.#session) {
      // Only a WebSocket can be asked for a sign of life; the others give one by themselves.
      if (this.#session.welcomed && this.#session.transport === "websocket") {
        this.#session.heard = Math.min(this.#session.heard, this.#host.platform.now() - silence);
        this.#watch();
      }
    } else if (kind !== "offline" && this.#timers.has("connect") && this.#refused === undefined) this.#connect(true);
  }

  #exec(f: () => Promise<void>): Promise<void> {
    this.#chain = this.#chain.then(async () => {
      if (this.#stopped) return;
      try {
        await f();
      } catch (e) {
        // The store failed: what is not stored must not count as received or acknowledged.
        if (e instanceof LostError) return this.#host.lost();
        this.#fail({ code: (e as { code?: string }).code ?? "failed", detail: String(e) });
      }
    });
    return this.#chain;
  }

  /** What a failed transaction of the store was to change has not changed. */
  async #run<T>(mode: Mode, f: (tx: Tx) => Promise<T>): Promise<T> {
    const before = this.#host.meta;
    try {
      return await this.#host.store.run(mode, f);
    } catch (e) {
      this.#host.meta = before;
      throw e;
    }
  }

  #timer(name: string, ms: number, f: () => void): void {
    this.#host.platform.clearTimeout(this.#timers.get(name));
    this.#timers.set(name, this.#host.platform.setTimeout(() => {
      this.#timers.delete(name);
      if (!this.#stopped) f();
    }, ms));
  }

  #cancel(name: string): void {
    this.#host.platform.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  // Connecting

  /** All transports, the one that worked last first. */
  #order(): TransportName[] {
    const able = this.#host.options.transports.filter((t) => (t === "websocket" ? this.#host.platform.WebSocket : this.#host.platform.fetch));
    const last = this.#host.meta.transport as TransportName;
    return able.includes(last) ? [last, ...able.filter((t) => t !== last)] : able;
  }

  #connect(fresh: boolean): void {
    this.#cancel("connect");
    if (fresh) this.#untried = this.#order();
    const transport = this.#untried.shift();
    if (!transport) return this.#pause({ code: "unreachable", detail: "no transport can be used here" });
    const round = ++this.#round;
    this.#host.status("connecting");
    // An app that gives no answer is asked again.
    this.#timer("connect", 30 * second, () => this.#pause({ code: "no-token", detail: "the app gives no token" }));
    Promise.all([this.#token(), dials[transport]()]).then(
      ([token, dial]) => {
        if (this.#stopped || round !== this.#round) return;
        this.#cancel("connect");
        if (!token || token === this.#refused) return this.#needAuth();
        this.#refused = undefined;
        this.#adopt(this.#dial(transport, dial, token));
      },
      (e) => round === this.#round && !this.#stopped && this.#pause({ code: "no-token", detail: String(e) }),
    );
  }

  async #token(): Promise<string | null | undefined> {
    return this.#host.options.token();
  }

  #lastToken = "";

  #dial(transport: TransportName, dial: Dial, token: string, probe = false): Session {
    const host = this.#host;
    this.#lastToken = token;
    const s: Session = { connection: undefined!, transport, welcomed: 0, node: "", heard: host.platform.now(), credit: 0 };
    const handlers = {
      message: (m: Incoming) => (probe && m.type === "welcome" ? this.#exec(async () => this.#swap(s)).then(() => this.#exec(() => this.#receive(s, m))) : this.#exec(() => this.#receive(s, m))),
      heard: () => void (s.heard = host.platform.now()),
      // Behind what is still to be handled: results that came before the end count.
      closed: (why: Closed) => void this.#exec(async () => this.#closed(s, why)),
    };
    const target = {
      url: host.options.url,
      token,
      subscription: () => {
        const { cursor, vector, prefix, client } = host.meta;
        return { space: host.options.space, prefix, since: cursor, vector, client, replicate: host.options.replicate };
      },
    };
    try {
      s.connection = dial(target, handlers, host.platform);
    } catch (e) {
      s.connection = { subscribe() {}, send() {}, close() {} };
      handlers.closed({ code: "unreachable", detail: String(e) }); // the page's policy forbids it, for example
    }
    return s;
  }

  #adopt(s: Session): void {
    this.#session = s;
    this.#timer("welcome", welcomeWithin, () => this.#closed(s, { code: "unreachable", detail: "the node did not answer in time" }));
  }

  /** Tries the WebSocket while another transport works, and takes it if it does. */
  #probe(): void {
    const { platform, options } = this.#host;
    if (!platform.WebSocket || !options.transports.includes("websocket")) return;
    if (!this.#session?.welcomed || this.#session.transport === "websocket") return;
    this.#timer("probe", Math.min(60 * 2 ** this.#probes++, 960) * second, () => {
      if (!this.#session?.welcomed) return;
      const s = this.#dial("websocket", websocket, this.#lastToken, true);
      this.#timer("unprobe", welcomeWithin, () => {
        if (this.#session !== s) s.connection.close();
      });
      this.#probe();
    });
  }

  #swap(s: Session): void {
    if (!this.#session?.welcomed) return s.connection.close(); // the other one broke meanwhile; the usual way is under way
    this.#session.connection.close();
    this.#session = s;
  }

  #closed(s: Session, why: Closed): void {
    if (this.#session !== s) return;
    s.connection.close();
    this.#session = undefined;
    this.#cancel("welcome");
    this.#unsend();
    if (why.auth) {
      this.#refused = this.#lastToken;
      // The app may have a fresh one: ask at once, but only once.
      return this.#refusals++ ? this.#needAuth(why) : this.#connect(true);
    }
    if (!s.welcomed && this.#untried.length) return this.#connect(false);
    if (s.welcomed && this.#host.platform.now() - s.welcomed >= stable) this.#attempts = 0;
    this.#pause(why);
  }

  #fail(why: Closed): void {
    if (this.#session) this.#closed(this.#session, why);
  }

  /** Full jitter: clients that were cut off together must not come back together. */
  #pause(why: Closed): void {
    this.#round++;
    const limit = Math.min(250 * 2 ** this.#attempts++, 30 * second);
    this.#host.status("offline", why);
    this.#timer("connect", Math.max(this.#host.platform.random() * limit, why.after ?? 0), () => this.#connect(true));
  }

  #needAuth(why: Problem = { code: "unauthenticated", detail: "there is no token that the node takes" }): void {
    this.#host.status("needs-auth", why);
    const limit = Math.min(second * 2 ** this.#attempts++, 30 * second);
    this.#timer("connect", limit / 2 + (this.#host.platform.random() * limit) / 2, () => {
      const round = ++this.#round;
      // Asked quietly: the status stays until there is another token.
      this.#token().catch(() => null).then((token) => {
        if (this.#stopped || round !== this.#round) return;
        if (!token || token === this.#refused) return this.#needAuth(why);
        this.#connect(true);
      });
    });
  }

  #watch(): void {
    this.#timer("watch", 5 * second, () => this.#watch());
    const s = this.#session;
    if (!s?.welcomed) return;
    const quiet = this.#host.platform.now() - s.heard;
    if (quiet >= dead) this.#closed(s, { code: "unreachable", detail: "the node has gone silent" });
    else if (quiet >= silence) s.connection.send({ type: "ping", n: 1 });
  }

  // Receiving

  async #receive(s: Session, m: Incoming): Promise<void> {
    if (this.#session !== s) return;
    switch (m.type) {
      case "welcome":
        return this.#welcome(s, m.node);
      case "changes": 
        await this.#changes(m.items, m.cursor);
        if (m.of) {
          this.#total = m.of.done < m.of.total ? m.of.total : 0;
          this.#host.progress(m.of.done, m.of.total);
        }
        if (++s.credit >= 8) {
          s.connection.send({ type: "credit", add: s.credit });
          s.credit = 0;
        }
        return;
      case "level":
        return this.#level(m.cursor, m.vector);
      case "reset":
        return this.#run("lazy", async (tx) => {
          await this.#putMeta(tx, { cursor: undefined, gen: this.#host.meta.gen + 1, sweep: true });
        });
      case "ack":
        if (!m.client || m.client === this.#host.meta.client) await this.#results(m.results);
        return;
      case "replicated":
        return this.#replicated(m);
      case "expiring":
        void this.#refresh(s);
        return;
      case "error":
        // Some of what was asked for will not come: an end of the subscription, results of a push. It is asked for anew.
        this.#closed(s, { code: m.code, detail: m.detail, auth: isAuth(m.code) });
    }
  }

  async #refresh(s: Session): Promise<void> {
    const token = await this.#token().catch(() => undefined);
    if (!token || token === this.#lastToken || this.#session !== s) return;
    this.#lastToken = token;
    s.connection.send({ type: "token", token });
  }

  async #welcome(s: Session, node: string): Promise<void> {
    const host = this.#host;
    s.welcomed = host.platform.now();
    s.node = node;
    this.#refusals = 0;
    this.#cancel("welcome");
    await this.#restore();
    if (node && node !== host.meta.home) await this.#moveTo(node);
    if (host.meta.transport !== s.transport) await this.#run("lazy", (tx) => this.#putMeta(tx, { transport: s.transport }));
    if (this.#session !== s) return;
    s.connection.subscribe();
    host.status("live");
    this.#probe();
    // Nothing, or what waits; either way the node tells who else holds what was accepted before.
    await this.#pump(host.options.replicate > 0 && host.meta.sent > 0);
  }

  /** Begins with what the store says: the end of the last connection may have left more in memory, or less. */
  async #restore(): Promise<void> {
    const all = await this.#run("read", (tx) => tx.pending());
    this.#accepted = all.filter((p) => p.state === "accepted");
    this.#queue = all.filter((p) => p.state === "saved").slice(0, inflightLimit);
    this.#loaded = this.#queue.length < inflightLimit ? (all.at(-1)?.seq ?? 0) : this.#queue.at(-1)!.seq;
    this.#unsend();
  }

  /**
   * Another node does not know what the last one settled. A set can be sent again: it replaces what the same client wrote. An increment that may
   * have been counted cannot; the app must decide.
   */
  async #moveTo(node: string): Promise<void> {
    const host = this.#host;
    const uncertain = await this.#run("durable", async (tx) => {
      const doubtful = (await tx.pending()).filter((p) => p.state === "saved" && p.seq <= host.meta.sent && p.ops.some((o) => o.op === "increment"));
      for (const p of doubtful) {
        Object.assign(p, { state: "rejected", code: "uncertain", detail: "it was sent to a node that cannot be asked any more whether it was counted" });
        tx.putPending(p);
      }
      await this.#putMeta(tx, { home: node });
      return doubtful;
    });
    this.#drop(uncertain);
    if (uncertain.length) host.settled(uncertain, []);
  }

  async #changes(items: Item[], cursor: string): Promise<void> {
    const host = this.#host;
    const contested: string[] = [];
    const settled = await this.#run("lazy", async (tx) => {
      const { gen, level, sweep } = host.meta;
      // In a first sync nothing is here yet.
      const own = level || sweep ? await Promise.all(items.map(async (item) => (await tx.doc(item.key))?.own)) : [];
      items.forEach((item, i) => {
        if (item.deleted) return tx.deleteDoc(item.key);
        const d: DocRecord = { key: item.key, gen, item };
        if (own[i]) d.own = own[i];
        if (item.conflicts?.length) {
          d.contested = 1;
          contested.push(item.key);
        }
        tx.putDoc(d);
      });
      return this.#advance(tx, cursor, {});
    });
    if (settled.length) host.settled([], settled);
    host.changed(new Set([...items.map((i) => i.key), ...settled.flatMap((p) => p.keys)]), contested);
  }

  async #level(cursor: string, vector?: string): Promise<void> {
    const host = this.#host;
    let gone: string[] = [];
    const first = !host.meta.level;
    const settled = await this.#run("lazy", async (tx) => {
      if (host.meta.sweep) gone = await tx.sweep(host.meta.gen);
      return this.#advance(tx, cursor, { level: true, sweep: undefined, ...(vector && { vector }) }, true);
    });
    if (this.#total) host.progress(this.#total, this.#total); // the end of catching up is not always counted
    this.#total = 0;
    if (settled.length) host.settled([], settled);
    if (first) host.metaChanged();
    const keys = new Set([...gone, ...settled.flatMap((p) => p.keys)]);
    if (keys.size) host.changed(keys);
  }

  /** Moves the cursor, and drops the accepted transactions whose effect the documents now show. */
  async #advance(tx: Tx, cursor: string, more: Partial<Meta>, level = false): Promise<PendingRecord[]> {
    await this.#putMeta(tx, { ...more, cursor });
    // A cursor of another feed cannot be compared; level there means that everything it has was told.
    const shows = (p: PendingRecord) => reached(cursor, p.cursor!) ?? level;
    const settled = this.#accepted.filter(shows);
    this.#accepted = this.#accepted.filter((p) => !shows(p));
    await this.#forget(tx, settled);
    return settled;
  }

  async #forget(tx: Tx, settled: PendingRecord[]): Promise<void> {
    for (const p of settled) {
      tx.deletePending(p.seq);
      for (const key of p.keys) {
        const d = await tx.doc(key);
        if (d) tx.putDoc({ ...d, own: p.seq });
      }
    }
  }

  async #putMeta(tx: Tx, change: Partial<Meta>): Promise<void> {
    // Other tabs count seq and at on; all else only the leader changes.
    const now = await tx.meta();
    if (now?.epoch !== this.#host.meta.epoch) throw new LostError();
    this.#host.meta = { ...now, ...change };
    tx.putMeta(this.#host.meta);
  }

  async #replicated(m: { client: string; seq: number; nodes: number }): Promise<void> {
    const host = this.#host;
    if (m.client !== host.meta.client) return;
    const more = (c: Copies) => c.seq > m.seq || c.nodes > m.nodes;
    await this.#run("lazy", (tx) => this.#putMeta(tx, { copies: [...(host.meta.copies ?? []).filter(more), { seq: m.seq, nodes: m.nodes }] }));
    host.metaChanged();
  }

  // Sending

  #unsend(): void {
    this.#sent = 0;
    this.#host.platform.clearTimeout(this.#stalled);
    this.#stalled = undefined;
  }

  async #pump(ask = false): Promise<void> {
    const host = this.#host;
    for (;;) {
      const s = this.#session;
      if (!s?.welcomed || this.#stalled !== undefined) return;
      if (this.#queue.length - this.#sent < batch.transactions) await this.#load();
      const part: PendingRecord[] = [];
      for (let bytes = 0; this.#sent + part.length < Math.min(this.#queue.length, inflightLimit) && part.length < batch.transactions; ) {
        const p = this.#queue[this.#sent + part.length]!;
        bytes += JSON.stringify(p.ops).length;
        if (part.length && bytes > batch.bytes) break;
        part.push(p);
      }
      if (!part.length && !ask) return;
      ask = false;
      const last = part.at(-1)?.seq ?? 0;
      if (last > host.meta.sent) {
        // Whether an increment may have been counted must be known after a crash too.
        const counts = part.some((p) => p.ops.some((o) => o.op === "increment"));
        await this.#run(counts ? "durable" : "lazy", (tx) => this.#putMeta(tx, { sent: last }));
        host.metaChanged();
      }
      if (this.#session !== s) continue;
      this.#sent += part.length;
      s.connection.send({
        type: "push",
        space: host.options.space,
        ...(s.node && { node: s.node }),
        client: host.meta.client,
        floor: this.#queue[0]?.seq ?? last,
        replicate: host.options.replicate,
        transactions: part.map((p) => this.#transaction(p)),
      });
    }
  }

  #transaction(p: PendingRecord): Transaction {
    const since = this.#behind.get(p.seq);
    const force = since !== undefined && this.#host.platform.now() - since >= 30 * second;
    return { seq: p.seq, at: p.at, ops: p.ops, ...(force && { force }) };
  }

  async #load(): Promise<void> {
    const more = await this.#run("read", (tx) => tx.pending(this.#loaded + 1, 500));
    if (more.length) this.#loaded = more[more.length - 1]!.seq;
    this.#queue.push(...more.filter((p) => p.state === "saved"));
  }

  /** Takes settled transactions out of the queue. */
  #drop(settled: PendingRecord[]): void {
    if (!settled.length) return;
    const gone = new Set(settled.map((p) => p.seq));
    this.#sent -= this.#queue.slice(0, this.#sent).filter((p) => gone.has(p.seq)).length;
    this.#queue = this.#queue.filter((p) => !gone.has(p.seq));
    for (const seq of gone) this.#behind.delete(seq);
  }

  async #results(results: Result[]): Promise<void> {
    const host = this.#host;
    const changed: PendingRecord[] = [], settled: PendingRecord[] = [];
    let wait: Result | undefined;
    const queued = new Map(this.#queue.map((p) => [p.seq, p]));
    for (const r of results) {
      const p = queued.get(r.seq);
      if (!p) continue;
      if (r.status === "retry") {
        wait ??= r;
      } else if (r.status === "accepted") {
        Object.assign(p, { state: "accepted", cursor: r.cursor });
        // One that changed nothing there has nothing to wait for.
        const nothing = !r.cursor || (!r.dot && !r.duplicate);
        (nothing || reached(host.meta.cursor, r.cursor!) ? settled : changed).push(p);
      } else if (r.code === "client-taken") {
        return this.#renewClient();
      } else {
        changed.push(Object.assign(p, { state: "rejected", code: r.code ?? "rejected", detail: r.detail }));
      }
    }
    if (changed.length || settled.length) {
      await this.#run("lazy", async (tx) => {
        for (const p of changed) tx.putPending(p);
        await this.#forget(tx, settled);
      });
      this.#drop([...changed, ...settled]);
      this.#accepted.push(...changed.filter((p) => p.state === "accepted"));
      this.#retries = 0;
      host.settled(changed, settled);
      host.changed(new Set([...changed, ...settled].flatMap((p) => p.keys)));
    }
    if (wait) this.#stall(wait);
    await this.#pump();
  }

  /** The node cannot take a transaction now. What follows it waits too, so that the order stays. */
  #stall(r: Result): void {
    if (this.#stalled !== undefined) return;
    const { platform } = this.#host;
    if (r.code === "behind" && !this.#behind.has(r.seq)) this.#behind.set(r.seq, platform.now());
    const limit = Math.min(250 * 2 ** this.#retries++, 30 * second);
    this.#stalled = platform.setTimeout(() => {
      this.#unsend();
      this.poke();
    }, Math.max(r.after ?? 0, limit / 2 + (platform.random() * limit) / 2));
  }

  /** Another user of the node has this client ID, for example because the app signed in as somebody else. */
  async #renewClient(): Promise<void> {
    await this.#run("durable", (tx) => this.#putMeta(tx, { client: this.#host.newClient(), copies: undefined }));
    this.#unsend();
    await this.#pump();
  }
}
