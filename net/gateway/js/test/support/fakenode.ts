// A node in memory, for tests of the protocol: it keeps cells with siblings, settles each transaction once, serves
// all three transports, and misbehaves on request.
import { contains, toNames } from "../../src/pointer.js";
import type { Item, ItemConflict, Op, Push, Result, Transaction } from "../../src/protocol.js";
import { integer, wireInt, wireName, type Wire, type WireObject } from "../../src/wire.js";
import { leaves, valueAt } from "../../src/overlay.js";

interface Entry {
  dot: string;
  stamp: number;
  author: string;
  value: Wire;
  counter?: boolean;
}

interface Doc {
  cells: Map<string, Entry[]>; // pointer → live entries
  arrival: number;
}

interface ClientRecord {
  subject: string;
  last: number;
  results: Map<number, Result>;
  stalledAt?: number; // of the present connection
}

/** Something that receives messages of a subscription. */
interface Sink {
  deliver(m: object): void;
  since: number;
  prefix: string;
  client?: string;
  levelAt: number;
  credit: number;
}

const hex = (n: number) => n.toString(16).padStart(16, "0");
let nodes = 0;

export class FakeNode {
  feed = hex(0xfeed0000 + ++nodes);
  replica = BigInt(0x0badcafe) + BigInt(nodes);
  arrival = 0;
  time = 1;
  docs = new Map<string, Doc>();
  clients = new Map<string, ClientRecord>();
  sockets = new Set<FakeSocket>();
  streams = new Set<{ end(): void; beat?(): void }>();
  sinks = new Set<Sink>();
  polls = new Set<() => void>();
  tokens = new Map([["good", "someone"]]); // token → subject
  pushes: Push[] = [];
  received: any[] = []; // everything that WebSocket clients sent
  floor = 0; // cursors below cannot be served
  chunk = 500;

  /** Faults, all off. */
  down = false;
  blockWebSocket = false;
  blockSSE = false;
  silent = false; // takes connections and says nothing
  mute = false; // stops saying anything on the present ones
  loseAcks = 0; // so many pushes are applied, and then the connection breaks before the answer
  ignorePushes = false;
  reject = new Map<string, string>(); // document key → code
  retry: { code: string; after?: number } | undefined;
  vectorTooNew = false; // answers "behind" to what was not seen here, unless forced

  // The lattice, as far as one node needs it

  write(key: string, doc: WireObject, author = hex(0xa), stamp = Date.now()): void {
    this.#change({ client: author, at: stamp }, [{ op: "set", key, path: "", value: doc, seen: this.#allSeen(key) }]);
  }

  /** Writes a field as somebody who has seen nothing of it. */
  writeBlind(key: string, path: string, value: Wire, author = hex(0xb), stamp = Date.now()): void {
    this.#change({ client: author, at: stamp }, [{ op: "set", key, path, value, seen: {} }]);
  }

  change(ops: Op[], author = hex(0xc), stamp = Date.now()): void {
    this.#change({ client: author, at: stamp }, ops);
  }

  delete(key: string): void {
    this.#change({ client: hex(0xa), at: Date.now() }, [{ op: "delete", key, seen: this.#allSeen(key) }]);
  }

  #allSeen(key: string): Record<string, string[]> {
    const seen: Record<string, string[]> = {};
    for (const [path, entries] of this.docs.get(key)?.cells ?? []) for (const e of entries) (seen[e.dot] ??= []).push(path);
    return seen;
  }

  doc(key: string): WireObject | undefined {
    return this.item(key)?.doc;
  }

  contents(): Record<string, WireObject> {
    return Object.fromEntries([...this.docs.keys()].sort().flatMap((k) => (this.doc(k) ? [[k, this.doc(k)!]] : [])));
  }

  #dot(): string {
    const b = Buffer.alloc(16);
    b.writeBigUInt64BE(this.replica);
    b.writeBigUInt64BE(BigInt(this.time++), 8);
    return b.toString("base64url");
  }

  #change(who: { client: string; at: number }, ops: Op[]): string | undefined {
    const dot = this.#dot();
    const touched = new Set<string>();
    for (const op of ops) {
      const doc = this.docs.get(op.key) ?? { cells: new Map<string, Entry[]>(), arrival: 0 };
      this.docs.set(op.key, doc);
      const path = op.op === "delete" ? "" : op.path;
      if (op.op === "increment") {
        const entries = doc.cells.get(path) ?? [];
        // The node gives the increments of all its clients its own part.
        const own = entries.find((e) => e.counter);
        const rest = entries.filter((e) => e !== own && e.author !== who.client);
        const value = wireInt((own ? integer(own.value)! : 0n) + integer(op.by)!);
        doc.cells.set(path, [...rest, { dot, stamp: who.at, author: who.client, value, counter: true }]);
        touched.add(op.key);
        continue;
      }
      for (const [at, entries] of [...doc.cells]) {
        if (!contains(path, at) && !(op.op === "set" && contains(at, path))) continue;
        const left = entries.filter((e) => e.dot !== dot && !op.seen[e.dot]?.includes(at) && !(e.author === who.client && e.stamp <= who.at));
        if (left.length !== entries.length) touched.add(op.key);
        left.length ? doc.cells.set(at, left) : doc.cells.delete(at);
      }
      if (op.op !== "set") continue;
      touched.add(op.key);
      for (const leaf of leaves(op.value)) {
        const value = valueAt(op.value, toNames(leaf))!;
        doc.cells.set(path + leaf, [...(doc.cells.get(path + leaf) ?? []), { dot, stamp: who.at, author: who.client, value }]);
      }
    }
    for (const key of touched) this.docs.get(key)!.arrival = ++this.arrival;
    this.#publish();
    return touched.size ? dot : undefined;
  }

  item(key: string): Item | undefined {
    const doc = this.docs.get(key);
    if (!doc) return undefined;
    const item: Item = { key, cursor: `${this.feed}-${doc.arrival}` };
    if (!doc.cells.size) return { ...item, deleted: true };
    const conflicts: ItemConflict[] = [], counters: string[] = [];
    item.doc = this.#show(doc, "", conflicts, counters) as WireObject;
    const dots: Record<string, string[]> = {};
    for (const [path, entries] of doc.cells) for (const e of entries) (dots[e.dot] ??= []).push(path);
    item.dots = dots;
    const shown = new Set(leaves(item.doc));
    for (const [dot, cells] of Object.entries(dots)) {
      if (cells.every((c) => shown.has(c) && doc.cells.get(c)!.length === 1)) {
        item.dots = { ...dots, [dot]: true }; // the short form
        break;
      }
    }
    if (counters.length) item.counters = counters;
    if (conflicts.length) item.conflicts = conflicts;
    const newest = [...doc.cells.values()].flat().sort(byAge)[0]!;
    return { ...item, at: newest.stamp, author: newest.author };
  }

  #show(doc: Doc, path: string, conflicts: ItemConflict[], counters: string[]): Wire {
    const entries = (doc.cells.get(path) ?? []).slice().sort(byAge);
    const inner = [...doc.cells].filter(([p]) => p !== path && contains(path, p));
    const isEmpty = (e: Entry) => !e.counter && typeof e.value === "object" && e.value !== null && !Array.isArray(e.value) && !Object.keys(e.value).length;
    const joins = inner.length ? entries.filter(isEmpty) : [];
    const values = entries.filter((e) => !joins.includes(e) && !e.counter);
    const counted = entries.filter((e) => e.counter);
    const fields = [...inner.flatMap(([, es]) => es), ...joins].sort(byAge);
    const winner = [values[0], counted[0], inner.length ? fields[0] : undefined].filter((e) => e !== undefined).sort(byAge)[0]!;
    const lose = (at: string, e: Entry, value = e.value) => conflicts.push({ path: at, value, author: e.author, at: e.stamp, shownAt: path });
    const sum = wireInt(counted.reduce((n, e) => n + integer(e.value)!, 0n));
    const wins = inner.length && winner === fields[0] ? "fields" : winner.counter ? "counter" : "value";
    for (const e of values) if (e !== winner && JSON.stringify(e.value) !== JSON.stringify(winner.value)) lose(path, e);
    if (counted.length && wins !== "counter") lose(path, counted[0]!, sum);
    if (wins !== "fields") {
      for (const [p, es] of inner) for (const e of es.slice().sort(byAge)) lose(p, e);
      if (wins === "counter") counters.push(path);
      return wins === "counter" ? sum : winner.value;
    }
    const o: WireObject = {};
    for (const name of new Set(inner.map(([p]) => p.slice(path.length + 1).split("/")[0]!))) {
      o[wireName(toNames("/" + name)[0]!)] = this.#show(doc, path + "/" + name, conflicts, counters);
    }
    return o;
  }

  // Transactions

  push(m: Push, subject: string): Result[] {
    this.pushes.push(m);
    let record = this.clients.get(m.client);
    if (!record) this.clients.set(m.client, (record = { subject, last: 0, results: new Map() }));
    return m.transactions.map((t) => this.#settle(record, m.client, subject, t));
  }

  #settle(record: ClientRecord, client: string, subject: string, t: Transaction): Result {
    if (record.subject !== subject) return { seq: t.seq, status: "rejected", code: "client-taken" };
    if (t.seq <= record.last) return { ...(record.results.get(t.seq) ?? { seq: t.seq, status: "accepted", cursor: this.#cursor() }), duplicate: true } as Result;
    if (record.stalledAt !== undefined && t.seq > record.stalledAt) return { seq: t.seq, status: "retry", code: "stalled", after: 10 };
    const behind = this.vectorTooNew && !t.force && t.ops.some((op) => op.op !== "increment" && Object.keys(op.seen).length);
    if (this.retry || behind) {
      record.stalledAt = t.seq;
      return { seq: t.seq, status: "retry", code: "behind", after: 10, ...this.retry };
    }
    record.stalledAt = undefined;
    const bad = t.ops.map((op) => this.reject.get(op.key)).find((c) => c);
    let result: Result;
    if (bad) {
      result = { seq: t.seq, status: "rejected", code: bad, detail: "as the test wanted" };
    } else {
      const dot = this.#change({ client, at: t.at }, t.ops);
      result = { seq: t.seq, status: "accepted", cursor: this.#cursor(), ...(dot && { dot }) };
    }
    record.last = t.seq;
    record.results.set(t.seq, result);
    return result;
  }

  #cursor(): string {
    return `${this.feed}-${this.arrival}`;
  }

  replicated(client: string, seq: number, nodes: number): void {
    for (const s of this.sinks) if (s.client === client) s.deliver({ type: "replicated", space: "notes", client, seq, nodes });
  }

  // The feed

  /** Items after an arrival, in the order of the feed. */
  #after(sink: { since: number; prefix: string }): Item[] {
    const items: Item[] = [];
    for (const [key, doc] of this.docs) if (doc.arrival > sink.since && key.startsWith(sink.prefix)) items.push(this.item(key)!);
    return items.sort((a, b) => arrivalOf(a.cursor) - arrivalOf(b.cursor));
  }

  begin(since: string | undefined): { since: number; reset: boolean; fromStart: boolean } {
    if (!since || since === "0") return { since: 0, reset: false, fromStart: true };
    if (!since.startsWith(this.feed) || arrivalOf(since) < this.floor) return { since: 0, reset: true, fromStart: true };
    return { since: arrivalOf(since), reset: false, fromStart: false };
  }

  feedSink(sink: Sink, fromStart: boolean): void {
    const all = this.#after(sink).filter((i) => !fromStart || !i.deleted);
    let done = 0;
    while (done < all.length && sink.credit > 0) {
      const items = all.slice(done, done + this.chunk);
      done += items.length;
      sink.since = arrivalOf(items.at(-1)!.cursor);
      sink.credit--;
      sink.deliver({ type: "changes", items, cursor: `${this.feed}-${sink.since}`, ...(fromStart && { of: { done, total: all.length } }) });
    }
    if (done < all.length || sink.levelAt >= this.arrival) return;
    sink.since = sink.levelAt = this.arrival;
    sink.deliver({ type: "level", cursor: this.#cursor(), vector: Buffer.from(this.#cursor()).toString("base64url") });
  }

  #publish(): void {
    for (const sink of this.sinks) this.feedSink(sink, false);
    for (const wake of [...this.polls]) wake();
  }

  // Connections

  /** Cuts all connections, as a crash of the node or of the network does. */
  cut(code = 1006): void {
    for (const s of [...this.sockets]) s.end(code);
    for (const s of [...this.streams]) s.end();
    this.sinks.clear();
    for (const r of this.clients.values()) r.stalledAt = undefined;
  }

  /** What a node does each 15 seconds: a comment to those who listen, an empty answer to those who poll. */
  beat(): void {
    if (this.mute) return;
    for (const s of this.streams) s.beat?.();
    for (const wake of [...this.polls]) wake();
  }

  get connections(): number {
    return this.sockets.size + this.streams.size;
  }

  get WebSocket(): new (url: string, protocol: string) => WebSocket {
    const node = this;
    return class extends FakeSocket {
      constructor(url: string, protocol: string) {
        super(node, url, protocol);
      }
    } as unknown as new (url: string, protocol: string) => WebSocket;
  }

  get fetch(): typeof fetch {
    return (async (input: any, init: any = {}) => serveHTTP(this, new URL(String(input)), init)) as typeof fetch;
  }
}

function byAge(a: Entry, b: Entry): number {
  return b.stamp - a.stamp || (a.author < b.author ? 1 : a.author > b.author ? -1 : 0);
}

function arrivalOf(cursor: string): number {
  return Number(cursor.slice(17));
}

export class FakeSocket {
  readyState = 0;
  onopen: (() => void) | null = null;
  onmessage: ((e: { data: string }) => void) | null = null;
  onclose: ((e: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  #subject?: string;
  #sink?: Sink;

  constructor(
    readonly node: FakeNode,
    readonly url: string,
    readonly protocol: string,
  ) {
    setImmediate(() => {
      if (this.readyState !== 0) return;
      if (node.down || node.blockWebSocket) {
        this.readyState = 3;
        this.onerror?.();
        this.onclose?.({ code: 1006, reason: "" });
        return;
      }
      this.readyState = 1;
      node.sockets.add(this);
      this.onopen?.();
    });
  }

  send(text: string): void {
    setImmediate(() => this.readyState === 1 && this.#receive(JSON.parse(text)));
  }

  say(m: object): void {
    if (this.node.mute) return;
    setImmediate(() => this.readyState === 1 && this.onmessage?.({ data: JSON.stringify(m) }));
  }

  close(): void {
    this.readyState = 3;
    this.#forget();
  }

  end(code: number, reason = ""): void {
    if (this.readyState > 1) return;
    this.#forget();
    setImmediate(() => {
      if (this.readyState > 1) return;
      this.readyState = 3;
      this.onclose?.({ code, reason });
    });
  }

  #forget(): void {
    this.node.sockets.delete(this);
    if (this.#sink) this.node.sinks.delete(this.#sink);
  }

  #receive(m: any): void {
    const { node } = this;
    node.received.push(m);
    if (node.silent) return;
    switch (m.type) {
      case "hello":
        this.#subject = node.tokens.get(m.token);
        if (!this.#subject) {
          this.say({ type: "error", code: "token-expired", detail: "the token has expired" });
          return this.end(4401);
        }
        return this.say({ type: "welcome", node: node.feed, subject: this.#subject, heartbeat: 15000, limits: {} });
      case "token":
        return;
      case "ping":
        return this.say({ type: "pong", n: m.n });
      case "subscribe": {
        const { since, reset, fromStart } = node.begin(m.since);
        this.#sink = { deliver: (d) => this.say({ ...d, sub: m.sub }), since, prefix: m.prefix ?? "", levelAt: -1, credit: m.credit };
        if (reset) this.say({ type: "reset", sub: m.sub, reason: "too old" });
        node.sinks.add(this.#sink);
        return node.feedSink(this.#sink, fromStart);
      }
      case "credit":
        if (!this.#sink) return;
        this.#sink.credit += m.add;
        return node.feedSink(this.#sink, false);
      case "push": {
        if (this.#sink) this.#sink.client = m.client;
        if (node.ignorePushes) return;
        const results = node.push(m, this.#subject!);
        if (node.loseAcks > 0) {
          node.loseAcks--;
          return this.end(1006);
        }
        return this.say({ type: "ack", space: m.space, client: m.client, results });
      }
    }
  }
}

async function serveHTTP(node: FakeNode, url: URL, init: any): Promise<Response> {
  await new Promise((resolve) => setImmediate(resolve));
  const signal: AbortSignal | undefined = init.signal;
  if (signal?.aborted) throw new DOMException("aborted", "AbortError");
  if (node.down) throw new TypeError("fetch failed");
  if (node.silent) return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError"))));
  const headers: Record<string, string> = { "Anabranch-Node": node.feed };
  const json = (body: object, status = 200) => new Response(JSON.stringify(body), { status, headers: { ...headers, "content-type": "application/json" } });
  const subject = node.tokens.get(String(new Headers(init.headers).get("authorization")).replace("Bearer ", ""));
  if (!subject) return json({ code: "token-expired" }, 401);
  const query = url.searchParams;
  const { since, reset, fromStart } = node.begin(query.get("since") ?? undefined);
  const sink: Sink = { deliver: () => {}, since, prefix: query.get("prefix") ?? "", client: query.get("client") ?? undefined, levelAt: -1, credit: Infinity };
  const aborted = () => new DOMException("aborted", "AbortError");
  if (url.pathname.endsWith("/push")) {
    const m = JSON.parse(init.body);
    if (m.node && m.node !== node.feed) return json({ code: "other-node" }, 409);
    const results = node.push({ ...m, type: "push" }, subject);
    if (node.loseAcks > 0) {
      node.loseAcks--;
      throw new TypeError("fetch failed");
    }
    return json({ results });
  }
  if (url.pathname.endsWith("/events")) {
    if (node.blockSSE) throw new TypeError("fetch failed");
    let controller!: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({ start: (c) => void (controller = c) });
    const write = (text: string) => {
      // In pieces, so that a reader must put lines together.
      const bytes = new TextEncoder().encode(text);
      controller.enqueue(bytes.subarray(0, bytes.length >> 1));
      controller.enqueue(bytes.subarray(bytes.length >> 1));
    };
    sink.deliver = ({ type, ...data }: any) => {
      if (!node.mute) write(`event: ${type}\n${data.cursor ? `id: ${data.cursor}\n` : ""}data: ${JSON.stringify(data)}\n\n`);
    };
    const stream = {
      beat: () => write(": beat\n\n"),
      end: () => {
        node.streams.delete(stream);
        node.sinks.delete(sink);
        try {
          controller.error(new TypeError("terminated"));
        } catch {
          // it has ended
        }
      },
    };
    node.streams.add(stream);
    node.sinks.add(sink);
    signal?.addEventListener("abort", () => stream.end());
    write("retry: 2000\n: hello\n\n");
    if (reset) sink.deliver({ type: "reset" });
    node.feedSink(sink, fromStart);
    return new Response(body, { headers: { ...headers, "content-type": "text/event-stream" } });
  }
  // Long poll
  const answers: any[] = [];
  sink.deliver = (m) => answers.push(m);
  node.feedSink(sink, fromStart);
  if (!answers.some((a) => a.type === "changes") && !reset && query.get("wait") !== "0s") {
    answers.length = 0;
    const stream = { end() {} };
    let wake!: () => void;
    await new Promise<void>((resolve, reject) => {
      node.polls.add(wake = () => (node.polls.delete(wake), resolve()));
      stream.end = () => reject(new TypeError("fetch failed"));
      node.streams.add(stream);
      signal?.addEventListener("abort", () => reject(aborted()));
    }).finally(() => node.streams.delete(stream));
    sink.levelAt = -1;
    node.feedSink(sink, false);
  }
  const items = answers.flatMap((a) => a.items ?? []);
  const level = answers.find((a) => a.type === "level");
  return json({ items, cursor: level?.cursor ?? answers.at(-1)?.cursor, level: !!level, vector: level?.vector, ...(reset && { reset: true }), replicated: answers.filter((a) => a.type === "replicated") });
}

