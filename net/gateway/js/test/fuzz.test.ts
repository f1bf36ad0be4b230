// Three clients and two real nodes: random edits from fresh and stale reads, broken wires, killed apps and nodes, replayed messages. In the end all
// must be the same, and what the oracle says: a value is live if it was written, and no transaction replaced or removed it whose author had seen it.
//
// ANABRANCH_FUZZ_SEEDS says how many seeds are tried, ANABRANCH_FUZZ_SEED names a single one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { open, type Database } from "../src/index.js";
import { difference, leaves, valueAt, viewOf } from "../src/overlay.js";
import { contains, toNames } from "../src/pointer.js";
import type { Item, Op, Push } from "../src/protocol.js";
import { decode, encode, type WireObject } from "../src/wire.js";
import { binary, RealNode, Wire } from "./support/anabranch.js";

const seeds = process.env["ANABRANCH_FUZZ_SEED"]
  ? [Number(process.env["ANABRANCH_FUZZ_SEED"])]
  : Array.from({ length: Number(process.env["ANABRANCH_FUZZ_SEEDS"] ?? 30) }, (_, i) => i + 1);

const nodes = [new RealNode(), new RealNode()] as const;
const tokens = new Map<RealNode, string>();

before(async () => {
  if (!binary) return;
  await Promise.all(nodes.map((n) => n.create()));
  await startNodes();
  for (const n of nodes) tokens.set(n, await n.token("main", "--expires", "0"));
});

after(() => Promise.all(nodes.map((n) => n.remove())));

/** Both, so that neither takes the other for one whose connection still lives. */
async function startNodes(): Promise<void> {
  nodes[0].peerAddress = nodes[1].peerAddress = "";
  await nodes[0].start(nodes[1]);
  await nodes[1].start(nodes[0]);
}

class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761) >>> 0 || 1;
  }

  /** An integer below n. */
  below(n: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state % n;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(all: readonly T[]): T {
    return all[this.below(all.length)]!;
  }
}

/** A value that was written to a field. All that are written are different. */
interface Entry {
  path: string;
  value: string; // JSON
  author: Actor;
  killed: boolean; // by one that had seen it
  doubtful: boolean; // replaced by its own author, who has been at another node since: that one may not have known
}

class Oracle {
  readonly docs = new Map<string, Entry[]>();
  readonly counters = new Map<string, number>();
  uncertain = 0; // increments of which nobody knows whether they were counted

  /** Takes note of what an app did that had read item. */
  write(author: Actor, key: string, item: Item | undefined, ops: Op[]): void {
    const entries = this.docs.get(key) ?? [];
    this.docs.set(key, entries);
    const read = [...leaves(item?.doc).map((p) => [p, valueAt(item!.doc, toNames(p))] as const), ...(item?.conflicts ?? []).map((c) => [c.path, c.value] as const)];
    const seen = new Set(read.map(([p, v]) => p + " " + JSON.stringify(v)));
    for (const op of ops) {
      if (op.op === "increment") throw new Error("counters are counted apart");
      const path = op.op === "delete" ? "" : op.path;
      for (const e of entries) {
        if (!contains(path, e.path) && !(op.op === "set" && contains(e.path, path))) continue;
        if (seen.has(e.path + " " + e.value)) e.killed = true;
        else if (e.author === author) author.hasMoved ? (e.doubtful = true) : (e.killed = true);
      }
      if (op.op !== "set") continue;
      for (const leaf of leaves(op.value)) entries.push({ path: path + leaf, value: JSON.stringify(valueAt(op.value, toNames(leaf))), author, killed: false, doubtful: false });
    }
  }
}

class Actor {
  readonly indexedDB = new IDBFactory();
  readonly wire: Wire;
  db!: Database;
  hasMoved = false;
  #die!: () => void;
  readonly pushes: Push[] = [];
  readonly memory: { key: string; value: object; item?: Item }[] = []; // what the app has read, and may still hold
  readonly items = new Map<string, Item | undefined>(); // what it has read last

  constructor(
    readonly name: string,
    home: RealNode,
    readonly prefix: string,
  ) {
    this.wire = new Wire(home);
  }

  async start(): Promise<void> {
    (globalThis as any).indexedDB = this.indexedDB;
    const death = new AbortController();
    const sockets = new Set<WebSocket>();
    const { pushes } = this;
    class Recording extends WebSocket {
      constructor(url: string, protocol: string) {
        super(url, protocol);
        sockets.add(this);
      }
      override send(text: string): void {
        if (text.startsWith('{"type":"push"')) pushes.push(JSON.parse(text));
        super.send(text);
      }
    }
    this.#die = () => {
      death.abort();
      for (const s of sockets) {
        s.onopen = s.onmessage = s.onclose = s.onerror = null;
        s.close();
      }
    };
    this.db = await open({
      url: this.wire.url,
      space: "main",
      prefix: this.prefix,
      token: () => tokens.get(this.wire.target!)!,
      platform: {
        random: () => 0.02,
        WebSocket: Recording,
        fetch: (input, init) => fetch(input, { ...init, signal: AbortSignal.any([death.signal, init!.signal!]) }),
        setTimeout: (f, ms) => setTimeout(() => death.signal.aborted || f(), ms),
        lock: undefined,
        channel: undefined,
      },
    });
    this.memory.length = 0;
    this.items.clear();
  }

  /** Ends without ceremony; what was on disk is there at the next start. */
  crash(): void {
    this.#die();
    // What it had received and not yet stored is lost; a transaction that has begun may still end.
    this.db.store.run = () => new Promise(() => {});
  }
}

async function run(seed: number): Promise<void> {
  const r = new Random(seed);
  const prefix = `fuzz/${seed}/`;
  const moving = seed % 2 === 0; // clients change nodes
  const killing = seed % 5 === 0; // nodes are killed
  const oracle = new Oracle();
  const actors = [0, 1, 2].map((i) => new Actor("c" + i, nodes[i === 2 ? 1 : 0], prefix));
  for (const a of actors) {
    await a.wire.open();
    await a.start();
  }
  let last = 0;
  const value = () => {
    last++;
    return r.pick<() => unknown>([() => `v${last}`, () => last, () => [last], () => ({ x: `x${last}`, y: `y${last}` }), () => ({ x: { z: last } })])();
  };
  const doc = () => prefix + "d" + r.below(3);

  const read = async (a: Actor, key: string) => {
    const { value } = await a.db.read(key);
    const { item } = a.db.baseOf(key)!;
    a.items.set(key, item);
    // What reads the same is the same object, given once more.
    for (const m of a.memory) if (m.value === value) m.item = item;
    if (value) a.memory.push({ key, value, item });
    return value as Record<string, unknown> | undefined;
  };
  const actions: [weight: number, act: (a: Actor) => Promise<unknown>][] = [
    [30, async (a) => {
      // Saved from what was read just now, or from something older that the app still holds.
      let key = doc();
      // Or it goes on from its own last change, without reading again.
      const last = r.chance(25) && a.db.baseOf(key)?.view.doc;
      let from = last ? (decode(last) as Record<string, unknown>) : await read(a, key);
      let item = a.items.get(key);
      if (!last && a.memory.length && r.chance(25)) ({ key, value: from, item } = r.pick(a.memory) as { key: string; value: Record<string, unknown>; item?: Item });
      const wanted: Record<string, unknown> = { ...from };
      for (let i = r.below(3); i >= 0; i--) {
        const field = r.pick(["a", "b", "m"]);
        if (r.chance(20)) delete wanted[field];
        else wanted[field] = value();
      }
      if (!Object.keys(wanted).length) wanted["a"] = value();
      const { view } = a.db.baseOf(key, last ? undefined : from)!;
      oracle.write(a, key, item, difference(key, view, encode(wanted) as WireObject));
      a.items.set(key, item); // from an older object it goes on as one who has seen no more than that
      await a.db.save(key, wanted, last ? {} : { base: from });
    }],
    [10, async (a) => {
      const key = doc();
      await read(a, key);
      const { item, view } = a.db.baseOf(key)!;
      const path = r.pick(["/a", "/m/x", "/m", "/m/x/z"]);
      const set = r.chance(60);
      if (!set && !view.doc) return;
      const v = set && value();
      oracle.write(a, key, item, [set ? { op: "set", key, path, value: encode(v), seen: {} } : { op: "remove", key, path, seen: {} }]);
      await (set ? a.db.set(key, path, v) : a.db.remove(key, path));
    }],
    [3, async (a) => {
      const key = doc();
      await read(a, key);
      const { item, view } = a.db.baseOf(key)!;
      if (!view.doc) return;
      oracle.write(a, key, item, [{ op: "delete", key, seen: {} }]);
      await a.db.remove(key);
    }],
    [12, async (a) => {
      const key = prefix + "count" + r.below(2), by = r.below(9) - 3;
      oracle.counters.set(key, (oracle.counters.get(key) ?? 0) + by);
      await a.db.increment(key, "/n", by);
    }],
    [6, async (a) => {
      const [one, two] = [prefix + "d0", prefix + "d1"];
      await Promise.all([read(a, one), read(a, two)]);
      const [v, w] = [value(), value()];
      for (const [key, x] of [[one, v], [two, w]] as const) oracle.write(a, key, a.items.get(key), [{ op: "set", key, path: "/t", value: encode(x), seen: {} }]);
      await a.db.transact((tx) => {
        tx.set(one, "/t", v);
        tx.set(two, "/t", w);
      });
    }],
    [6, async (a) => {
      const c = (await a.db.listConflicts()).at(0);
      if (!c) return;
      const v = value();
      // The choice is made by one who has seen what the listing read.
      await read(a, c.key);
      oracle.write(a, c.key, a.items.get(c.key), [{ op: "set", key: c.key, path: c.path, value: encode(v), seen: {} }]);
      await a.db.set(c.key, c.path, v);
    }],
    [8, async (a) => void (a.wire.cut = !a.wire.cut)],
    [8, async (a) => a.wire.snap()],
    [5, async (a) => {
      a.crash();
      await a.start();
    }],
    [6, async (a) => {
      // A message that was answered long ago comes once more.
      const settled = Math.min(Infinity, ...a.db.pending.map((p) => p.seq));
      const p = a.pushes.length ? r.pick(a.pushes) : undefined;
      const node = a.wire.target!;
      if (!p?.transactions.length || p.transactions.some((t) => t.seq >= settled) || (p.node && p.client !== a.db.client) || a.hasMoved) return;
      const { results } = await node.rest(tokens.get(node)!, "main/push", { method: "POST", body: JSON.stringify({ client: p.client, floor: 0, replicate: 0, transactions: p.transactions }) });
      for (const x of results) assert.ok(x.status === "accepted" && x.duplicate, JSON.stringify(x));
    }],
    [moving ? 4 : 0, async (a) => {
      a.hasMoved = true;
      a.wire.target = nodes[a.wire.target === nodes[0] ? 1 : 0];
      a.wire.snap();
    }],
    [killing ? 2 : 0, async () => {
      await Promise.all(nodes.map((n) => n.kill()));
      await startNodes();
    }],
    [10, async () => new Promise((resolve) => setTimeout(resolve, r.below(20)))],
  ];
  const total = actions.reduce((n, [w]) => n + w, 0);
  for (let step = 0; step < 60; step++) {
    let n = r.below(total);
    const [, act] = actions.find(([w]) => (n -= w) < 0)!;
    await act(r.pick(actors));
  }

  // All is mended, and comes to rest.
  for (const a of actors) {
    a.wire.cut = false;
    a.db.reconnect();
  }
  const [tokenA, tokenB] = nodes.map((n) => tokens.get(n)!) as [string, string];
  const items = async (node: RealNode, token: string) => {
    const { documents } = await node.rest(token, `main/docs?prefix=${encodeURIComponent(prefix)}&meta=1&limit=100`);
    return JSON.stringify(documents.map((d: any) => essence(d.meta ?? d.item ?? d)));
  };
  await eventually(seed, async () => {
    for (const a of actors) {
      for (const rejected of await a.db.rejected()) {
        assert.equal(rejected.code, "uncertain", JSON.stringify(rejected));
        for (const c of rejected.changes) if (c.op === "increment") oracle.uncertain += Math.abs(Number(c.value));
        await rejected.drop();
      }
      if (a.db.pending.length) return `${a.name} has ${JSON.stringify(a.db.pending[0])} pending, ${a.db.status} ${JSON.stringify(a.db.problem)}`;
    }
    const here = await items(nodes[0], tokenA), there = await items(nodes[1], tokenB);
    if (here !== there) return `the nodes differ:\n${here}\n${there}`;
    for (const a of actors) {
      const docs = await a.db.list(prefix);
      // Without an item: accepted, and not yet come back.
      const own = JSON.stringify(docs.map((d) => essence(a.db.baseOf(d.key)!.item ?? ({} as Item))));
      if (own !== here) return `${a.name} differs:\n${own}\n${here}`;
      for (const d of docs) assert.deepEqual(d.value, decode(viewOf(a.db.baseOf(d.key)!.item).doc!));
    }
    return "";
  });

  // What the oracle says.
  const final = new Map<string, Item>((JSON.parse(await items(nodes[0], tokenA)) as Item[]).map((i) => [i.key, i]));
  for (const [key, entries] of oracle.docs) {
    const item = final.get(key);
    const live = [...leaves(item?.doc).map((p) => [p, valueAt(item!.doc, toNames(p))] as const), ...(item?.conflicts ?? []).map((c) => [c.path, c.value] as const)].map(([p, v]) => `${p} ${JSON.stringify(v)}`);
    const known = new Map(entries.map((e) => [`${e.path} ${e.value}`, e]));
    for (const l of live) {
      const e = known.get(l);
      assert.ok(e, `${key}: nobody wrote ${l}`);
      // Sent to two nodes, a set may be there twice, one of which nobody has seen.
      assert.ok(!e.killed || e.author.hasMoved, `${key}: ${l} should be dead`);
    }
    for (const [text, e] of known) assert.ok(e.killed || e.doubtful || live.includes(text), `${key}: ${text} should be live, of ${JSON.stringify(live)}`);
  }
  for (const [key, n] of oracle.counters) {
    const found = Number(final.get(key)?.doc?.["n"] ?? 0);
    assert.ok(Math.abs(found - n) <= oracle.uncertain, `${key} is ${found}, not ${n} (±${oracle.uncertain})`);
  }
  for (const a of actors) {
    await a.db.close();
    a.wire.close();
  }
}

/** An item without what differs from node to node. */
function essence({ cursor: _, ...item }: Item): object {
  return sorted(item) as object;
}

function sorted(x: unknown): unknown {
  if (Array.isArray(x)) return x.map(sorted);
  if (typeof x !== "object" || x === null) return x;
  return Object.fromEntries(Object.entries(x).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, sorted(v)]));
}

/** Waits until a check returns "", however long that takes on a slow machine. */
async function eventually(seed: number, check: () => Promise<string>): Promise<void> {
  let why = "";
  for (const end = Date.now() + 60_000; Date.now() < end; ) {
    why = await check();
    if (!why) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`seed ${seed}: it does not come to rest: ${why}`);
}

test(`three clients and two nodes converge to what the oracle says, ${seeds.length} seeds`, { skip: binary ? false : "ANABRANCH_BINARY names no program" }, async () => {
  for (const seed of seeds) {
    try {
      await run(seed);
    } catch (e) {
      console.error(`replay with: ANABRANCH_FUZZ_SEED=${seed} node test/support/run.mjs fuzz`);
      throw e;
    }
  }
});
