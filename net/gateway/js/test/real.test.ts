// The client against the anabranch command.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { open, type Conflict, type Database, type Options } from "../src/index.js";
import { binary, RealNode, Wire } from "./support/anabranch.js";
import { until } from "./support/harness.js";

const options = { skip: binary ? false : "ANABRANCH_BINARY names no program" };
const [a, b] = [new RealNode(), new RealNode()];
let tokenA = "", tokenB = "";
const wires: Wire[] = [];
const databases = new Set<Database>();

before(async () => {
  if (!binary) return;
  await Promise.all([a.create(), b.create()]);
  await a.start(b);
  await b.start(a);
  [tokenA, tokenB] = await Promise.all([a.token("main"), b.token("main")]);
});

after(async () => {
  for (const db of databases) await db.close();
  for (const w of wires) w.close();
  await Promise.all([a.remove(), b.remove()]);
});

async function wire(target: RealNode): Promise<Wire> {
  const w = await new Wire(target).open();
  wires.push(w);
  return w;
}

async function opened(url: string, more: Partial<Options> = {}, indexedDB = new IDBFactory()): Promise<Database> {
  (globalThis as any).indexedDB = indexedDB;
  const db = await open({ url, space: "main", token: () => tokenA, ...more, platform: { random: () => 0.01, lock: undefined, channel: undefined, ...more.platform } });
  databases.add(db);
  return db;
}

const doc = (node: RealNode, key: string) => node.rest(node === a ? tokenA : tokenB, "main/docs/" + key);

for (const [name, transport] of [["WebSocket", "websocket"], ["SSE", "sse"], ["polling", "poll"]] as const) {
  test(`${name}: what the client writes the node has, and the reverse`, options, async () => {
    const db = await opened(a.gateway, { transports: [transport], prefix: name });
    await db.caughtUp();
    assert.equal(db.status, "live");
    const value = { text: "ä\u{1f33f}", n: -1.5, yes: true, none: null, list: [1, { a: [] }], deep: { er: { x: 1 } }, empty: {}, big: 2n ** 62n, bytes: new Uint8Array([0, 255]), $bytes: "no", "a/b~": 1 };
    await db.save(name + "/1", value).synced;
    assert.deepEqual(await db.get(name + "/1"), value);
    const there = await fetch(`${a.gateway}/v1/spaces/main/docs/${name}/1`, { headers: { authorization: "Bearer " + tokenA } });
    assert.match(await there.text(), /"big":4611686018427387904,"bytes":\{"\$bytes":"AP8="\}/);
    await until("the pending change is settled", () => db.pending.length === 0);
    assert.deepEqual(await db.get(name + "/1"), value, "and it is the same once it has come back");
    await a.rest(tokenA, `main/docs/${name}/2`, { method: "PUT", body: '{"from":"elsewhere"}' });
    await until("it came", () => db.get(name + "/2"));
    await db.increment(name + "/2", "/n", 3).synced;
    await a.rest(tokenA, `main/docs/${name}/2?increment=/n&by=4`, { method: "POST" });
    await until("both count", async () => (await db.get<any>(name + "/2"))?.n === 7);
    assert.deepEqual(await doc(a, name + "/2"), { from: "elsewhere", n: 7 });
    await db.remove(name + "/2").synced;
    assert.equal(await doc(a, name + "/2"), undefined);
    await db.set(name + "/1", "/deep/er", { y: 2 }).synced;
    await db.remove(name + "/1", "/list").synced;
    const left = await doc(a, name + "/1");
    assert.deepEqual([left.deep, left.list], [{ er: { y: 2 } }, undefined]);
    await db.close();
  });
}

test("a change is known to be at another node", options, async () => {
  const db = await opened(a.gateway, { prefix: "replicated" });
  const w = db.save("replicated", { n: 1 });
  assert.equal(await w.replicated, 1);
  assert.deepEqual(await doc(b, "replicated"), { n: 1 });
  await until("it says so", async () => (await db.read("replicated")).meta.state === "replicated");
  await db.close();
});

test("clients of two nodes see each other's changes", options, async () => {
  const one = await opened(a.gateway, { prefix: "two/" }), two = await opened(b.gateway, { prefix: "two/", token: () => tokenB });
  await one.save("two/x", { by: "one" });
  await until("it came", () => two.get("two/x"));
  await two.save("two/x", { by: "two" });
  await until("it came back", async () => (await one.get<any>("two/x")).by === "two");
  assert.equal((await a.rest(tokenA, "main/conflicts")).count, 0);
  await Promise.all([one.close(), two.close()]);
});

test("a conflict, chosen by the user", options, async () => {
  const w = await wire(a);
  const db = await opened(w.url, { prefix: "conflict/", conflicts: "ask" });
  await db.save("conflict/1", { title: "x", note: "y" }).synced;
  await until("it is settled", () => !db.pending.length);
  w.cut = true;
  w.snap();
  await until("it is offline", () => db.status !== "live");
  await a.rest(tokenA, "main/docs/conflict/1", { method: "PATCH", body: '{"title":"theirs"}' });
  const read = await db.get("conflict/1");
  await db.save("conflict/1", { ...read, title: "mine", more: 1 });
  const asked: Conflict[] = [];
  db.onConflict((c) => void asked.push(c));
  w.cut = false;
  db.reconnect();
  await until("it was asked", () => asked.length);
  const [c] = asked;
  assert.deepEqual([c!.key, c!.path], ["conflict/1", "/title"]);
  assert.deepEqual([c!.value, ...c!.others.map((o) => o.value)].sort(), ["mine", "theirs"]);
  await c!.choose("ours").synced;
  assert.deepEqual(await doc(a, "conflict/1"), { title: "ours", note: "y", more: 1 });
  assert.equal((await a.rest(tokenA, "main/conflicts?prefix=conflict/")).count, 0);
  await db.close();
});

test("a node that is killed and started again: nothing lost, each counted once", options, async () => {
  const w = await wire(a);
  const db = await opened(w.url, { prefix: "kill/" });
  await db.caughtUp();
  const writes: { synced: Promise<void> }[] = [];
  for (let round = 0; round < 3; round++) {
    // Killed somewhere while these are under way.
    for (let i = 0; i < 40; i++) writes.push(db.increment("kill/count", "/n", 1), db.save(`kill/${round}-${i}`, { i }));
    await writes.at(-60 + 20 * round)!.synced;
    for (let i = 0; i < 10; i++) writes.push(db.increment("kill/count", "/n", 1));
    await a.kill();
    writes.push(db.increment("kill/count", "/n", 1));
    await a.start(b);
    db.reconnect();
  }
  await Promise.all(writes.map((x) => x.synced));
  assert.deepEqual(await doc(a, "kill/count"), { n: 153 });
  await until("the view agrees", async () => (await db.get<any>("kill/count")).n === 153 && !db.pending.length);
  assert.equal((await db.list("kill/")).length, 121);
  assert.equal((await a.rest(tokenA, "main/conflicts?prefix=kill/")).count, 0);
  await db.close();
});

test("a token that expires: needs-auth, and on with a new one", options, async () => {
  let token = await a.token("main", "--expires", "2s");
  const db = await opened(a.gateway, { prefix: "expiry/", token: () => token });
  await db.caughtUp();
  await until("it needs a token", () => db.status === "needs-auth");
  const w = db.save("expiry/1", { n: 1 });
  await w;
  token = tokenA;
  db.reconnect();
  await w.synced;
  assert.deepEqual(await doc(a, "expiry/1"), { n: 1 });
  await db.close();
});

test("a token that may not write: each change is rejected, and told", options, async () => {
  const token = await a.command("--space", "main", "token", "create", "--read");
  const db = await opened(a.gateway, { prefix: "read/", token: () => token });
  await db.caughtUp();
  const w = db.save("read/1", { n: 1 });
  await assert.rejects(w.synced, /forbidden/);
  assert.equal((await db.rejected())[0]!.code, "forbidden");
  await db.close();
});

test("another home: the client goes on at another node of the space", options, async () => {
  const w = await wire(a);
  const indexedDB = new IDBFactory();
  const more = { prefix: "move/", token: () => (w.target === a ? tokenA : tokenB) };
  const db = await opened(w.url, more, indexedDB);
  for (let i = 0; i < 20; i++) await db.save(`move/${i}`, { i });
  await db.save("move/last", { n: 1 }).replicated;
  await until("all is settled", () => !db.pending.length);
  await until("the other node has all", async () => (await b.rest(tokenB, "main/docs?prefix=move/&keys=1&limit=100")).documents.length === 21);
  w.target = b;
  w.snap();
  await b.rest(tokenB, "main/docs/move/3", { method: "DELETE" });
  await b.rest(tokenB, "main/docs/move/new", { method: "PUT", body: '{"n":2}' });
  db.reconnect();
  await until("it is as the other node", async () => (await db.get("move/new")) && !(await db.get("move/3")));
  assert.equal((await db.list("move/")).length, 21);
  await db.save("move/new", { n: 3 }).synced;
  assert.deepEqual(await doc(b, "move/new"), { n: 3 });
  await db.close();
});

test("a first sync of many documents, in pieces, with progress", options, async () => {
  const ops = (from: number) => JSON.stringify({ ops: Array.from({ length: 1000 }, (_, i) => ({ op: "put", key: `many/${from + i}`, value: { i: from + i } })) });
  for (let from = 0; from < 3000; from += 1000) await a.rest(tokenA, "main/batch", { method: "POST", body: ops(from) });
  const db = await opened(a.gateway, { prefix: "many/" });
  const seen: { done: number; total: number }[] = [];
  db.on("progress", (p) => void seen.push(p));
  await db.caughtUp();
  assert.equal((await db.list("many/")).length, 3000);
  const { done, total } = seen.at(-1)!;
  assert.ok(seen.length >= 2 && total >= 3000 && done === total, JSON.stringify(seen));
  await db.close();
});
