import assert from "node:assert/strict";
import { test } from "node:test";
import { RejectedError, type Conflict, type Rejected } from "../src/index.js";
import { FakeNode } from "./support/fakenode.js";
import { Browser, Clock, crash, openTab, rest, until } from "./support/harness.js";

test("connect", async () => {
  const node = new FakeNode();
  node.write("todo/1", { title: "milk" });
  const db = await openTab(node);
  await db.caughtUp();
  assert.equal(db.status, "live");
  assert.deepEqual(await db.get("todo/1"), { title: "milk" });
  assert.equal(node.received[0].type, "hello");
  assert.equal(node.received[0].token, "good");
  await db.close();
  assert.equal(node.connections, 0);
});

test("message handlers by type", async () => {
  const node = new FakeNode();
  const db = await openTab(node);
  const events: string[] = [];
  for (const type of ["change", "status", "conflict", "rejected", "progress"] as const) db.on(type, () => void events.push(type));
  db.conflicts = "ask";
  node.write("a", { n: 1 });
  await until("the change came", () => events.includes("change"));
  node.writeBlind("a", "/n", 2);
  await until("the conflict came", () => events.includes("conflict"));
  node.reject.set("b", "forbidden");
  await db.save("b", { n: 1 });
  await until("the refusal came", () => events.includes("rejected"));
  // A stopped handler hears no more, and one that throws does not keep others from hearing.
  const stop = db.on("change", () => assert.fail("it was stopped"));
  stop();
  node.write("c", { n: 1 });
  await until("the next change came", () => db.get("c"));
  // What an older client does not know is passed over.
  for (const s of node.sockets) s.say({ type: "from-the-future", sub: "s" });
  node.write("d", { n: 1 });
  await until("the last change came", () => db.get("d"));
  assert.equal(db.status, "live");
  await db.close();
});

test("save locally first with updatedAt and synced: false then true", async () => {
  const node = new FakeNode();
  node.down = true;
  const clock = new Clock();
  const db = await openTab(node, { clock });
  const states: string[] = [];
  db.watch("todo/1", (s) => void states.push(`${s.meta.state} ${s.meta.synced}`));
  const w = db.save("todo/1", { title: "milk" });
  await w;
  let s = await db.read("todo/1");
  assert.deepEqual(s.value, { title: "milk" });
  assert.equal(s.meta.updatedAt, clock.now());
  assert.equal(s.meta.synced, false);
  assert.equal(s.meta.state, "saved");
  assert.equal(db.pending.length, 1);
  node.down = false;
  await clock.advance(30_000);
  await w.synced;
  assert.deepEqual(node.doc("todo/1"), { title: "milk" });
  await until("it is settled", async () => (s = await db.read("todo/1")).meta.synced);
  assert.equal(s.meta.state, "accepted");
  assert.equal(s.meta.updatedAt, node.item("todo/1")!.at);
  assert.equal(db.pending.length, 0);
  node.replicated(db.client, 1, 1);
  assert.equal(await w.replicated, 1);
  await until("the watch heard of it", () => states.includes("replicated true"));
  assert.deepEqual(states.filter((x, i) => x !== states[i - 1]).at(0), "accepted true", "before the save there is nothing to send");
  assert.ok(states.includes("saved false"));
  await db.close();
});

test("pending changes sent on open", async () => {
  const node = new FakeNode();
  node.down = true;
  const browser = new Browser(), clock = new Clock();
  let db = await openTab(node, { browser, clock });
  await Promise.all([db.save("a", { n: 1 }), db.save("b", { n: 2 }), db.increment("a", "/views", 3)]);
  crash(db);
  node.down = false;
  db = await openTab(node, { browser, clock });
  await until("the node has all", () => node.doc("b") && node.doc("a")!["views"] === 3);
  assert.deepEqual(node.contents(), { a: { n: 1, views: 3 }, b: { n: 2 } });
  assert.deepEqual(node.pushes.flatMap((p) => p.transactions.map((t) => t.seq)), [1, 2, 3], "in the order of saving");
  assert.equal(node.pushes.length, 1, "in one batch");
  await until("nothing is pending", () => db.pending.length === 0);
  await db.close();
});

test("auto-reconnect", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  const db = await openTab(node, { clock });
  await db.caughtUp();
  node.down = true;
  node.cut();
  await until("it noticed", () => db.status === "offline");
  const waits: number[] = [];
  for (let i = 0; i < 10; i++) {
    const wait = Math.min(...clock.pending.filter((ms) => ms !== 5000 && ms > 0 && ms < 40_000));
    waits.push(Math.round(Math.max(...clock.pending.filter((ms) => ms <= 15_000))));
    await clock.advance(wait);
    await rest();
  }
  node.down = false;
  node.write("a", { n: 1 });
  await clock.advance(30_000);
  await until("it is live", () => db.status === "live");
  await until("the change came", () => db.get("a"));
  await db.close();
});

test("the pause between attempts grows, is drawn at random, and begins anew after a stable minute", async () => {
  const node = new FakeNode();
  node.down = true;
  const clock = new Clock();
  const pauses: number[] = [];
  const setTimeout = (f: () => void, ms: number) => {
    pauses.push(ms);
    return clock.setTimeout(f, ms);
  };
  const db = await openTab(node, { clock, platform: { setTimeout }, random: () => 1, options: { transports: ["websocket"] } });
  const connecting: number[] = [];
  db.on("status", (s) => s.status === "connecting" && connecting.push(clock.now()));
  await until("the first attempt failed", () => db.status === "offline");
  for (let i = 0; i < 40; i++) await clock.advance(5000);
  const gaps = connecting.map((t, i) => t - (connecting[i - 1] ?? t)).slice(1);
  assert.deepEqual(gaps.slice(0, 7), [500, 1000, 2000, 4000, 8000, 16000, 30000]);
  assert.ok(gaps.every((g) => g <= 30_000));
  node.down = false;
  await clock.advance(30_000);
  assert.equal(db.status, "live");
  await clock.advance(60_000);
  const from = connecting.length;
  node.down = true;
  node.cut();
  await until("it noticed", () => db.status === "offline");
  const broke = clock.now();
  await clock.advance(250);
  assert.equal(connecting[from]! - broke, 250);
  await db.close();
});

test("a quarter of a second's jitter spreads the clients", async () => {
  const at = async (random: number) => {
    const node = new FakeNode();
    node.down = true;
    const clock = new Clock();
    const db = await openTab(node, { clock, random: () => random });
    await until("the first attempt failed", () => db.status === "offline");
    const pause = Math.min(...clock.pending);
    await db.close();
    return pause;
  };
  assert.equal(await at(0.1), 25);
  assert.equal(await at(0.9), 225);
});

test("stop the queue on error and retry", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  node.retry = { code: "busy", after: 700 };
  const db = await openTab(node, { clock });
  await db.caughtUp();
  const first = db.save("a", { n: 1 }), second = db.save("a", { n: 2 }), third = db.increment("c", "/n", 1);
  await third;
  await until("the node said no", () => node.pushes.length);
  await rest();
  const pushes = node.pushes.length;
  await clock.advance(600);
  assert.equal(node.pushes.length, pushes, "it waits as long as the node asked");
  assert.equal(node.doc("a"), undefined);
  assert.equal(db.pending.length, 3, "nothing is given up");
  node.retry = undefined;
  await clock.advance(1000);
  await Promise.all([first.synced, second.synced, third.synced]);
  assert.deepEqual(node.contents(), { a: { n: 2 }, c: { n: 1 } });
  await db.close();
});

test("one bad transaction is reported and does not block the rest", async () => {
  const node = new FakeNode();
  node.reject.set("bad", "too-large");
  const db = await openTab(node);
  const heard: Rejected[] = [];
  db.on("rejected", (r) => void heard.push(r));
  const [good, bad, other] = [db.save("good", { n: 1 }), db.save("bad", { n: 2 }), db.save("other", { n: 3 })];
  await Promise.all([good.synced, other.synced]);
  await assert.rejects(bad.synced, (e) => e instanceof RejectedError && e.code === "too-large");
  await assert.rejects(bad.replicated);
  assert.equal(heard.length, 1);
  assert.equal(heard[0]!.code, "too-large");
  assert.deepEqual(heard[0]!.changes, [{ op: "set", key: "bad", path: "", value: { n: 2 } }]);
  assert.equal(await db.get("bad"), undefined, "what was refused does not show");
  assert.equal(db.pending.length, 1);
  assert.equal(db.pending[0]!.state, "rejected");
  // Edited: another transaction in its place.
  const edited = (await db.rejected())[0]!.edit((tx) => tx.save("better", { n: 2 }));
  await edited.synced;
  assert.deepEqual(node.doc("better"), { n: 2 });
  assert.deepEqual(await db.rejected(), []);
  // Sent again as it is.
  const again = db.save("bad", { n: 4 });
  await assert.rejects(again.synced);
  node.reject.clear();
  await (await db.rejected())[0]!.retry().synced;
  assert.deepEqual(node.doc("bad"), { n: 4 });
  // Dropped.
  node.reject.set("bad", "forbidden");
  const third = db.save("bad", { n: 5 });
  await assert.rejects(third.synced);
  await (await db.rejected())[0]!.drop();
  assert.deepEqual(await db.rejected(), []);
  assert.equal(db.pending.length, 0);
  assert.deepEqual(await db.get("bad"), { n: 4 });
  await db.close();
});

test("each transaction counts once, also when the acknowledgement is lost", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  const db = await openTab(node, { clock });
  await db.caughtUp();
  node.loseAcks = 3;
  const writes = [1, 2, 3, 4].map(() => db.increment("a", "/n", 1));
  for (let i = 0; i < 8; i++) await clock.advance(30_000);
  await Promise.all(writes.map((w) => w.synced));
  assert.ok(node.pushes.length >= 4);
  assert.deepEqual(node.doc("a"), { n: 4 });
  await until("the view agrees", async () => (await db.get<any>("a"))?.n === 4);
  await db.close();
});

test("each transaction counts once, also when the app is killed before the acknowledgement", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  let db = await openTab(node, { browser, clock });
  await db.caughtUp();
  node.mute = true;
  void db.increment("a", "/n", 1);
  await until("the node has it", () => node.doc("a"));
  crash(db);
  node.mute = false;
  db = await openTab(node, { browser, clock });
  assert.equal(db.pending.length, 1);
  await until("it is settled", () => db.pending.length === 0);
  assert.deepEqual(node.doc("a"), { n: 1 });
  assert.deepEqual(await db.get("a"), { n: 1 });
  await db.close();
});

test("an accepted change goes on showing until the subscription has brought it", async () => {
  const node = new FakeNode();
  const db = await openTab(node);
  await db.caughtUp();
  const seen: unknown[] = [];
  db.watch("a", (s) => void seen.push((s.value as any)?.n));
  node.sinks.clear(); // acknowledgements come, changes do not
  await db.increment("a", "/n", 1).synced;
  assert.deepEqual(await db.get("a"), { n: 1 });
  assert.equal((await db.read("a")).meta.synced, true);
  await rest();
  assert.deepEqual(seen.filter((n, i) => i === 0 || n !== seen[i - 1]), [undefined, 1], "no moment in which it shows twice, or not at all");
  await db.close();
});

test("last write wins", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  node.write("a", { title: "x", note: "y" });
  const db = await openTab(node, { clock });
  const heard: Conflict[] = [];
  db.on("conflict", (c) => void heard.push(c));
  await db.caughtUp();
  await db.get("a");
  node.writeBlind("a", "/title", "older", undefined, clock.now() + 1000);
  node.writeBlind("a", "/title", "newer", "000000000000000c", clock.now() + 2000);
  await until("it shows the newest", async () => (await db.get<any>("a")).title === "newer");
  assert.equal((await db.read("a")).meta.conflicts, 0, "conflicts are not shown");
  assert.ok(node.item("a")!.conflicts!.length > 0);
  // They are settled when the field is next written.
  await db.save("a", { title: "mine", note: "y" }).synced;
  assert.deepEqual(node.doc("a"), { title: "mine", note: "y" });
  assert.equal(node.item("a")!.conflicts, undefined);
  assert.deepEqual(heard, []);
  await db.close();
});

test("field-level merge", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  node.write("a", { title: "x", note: "y", tags: ["t"] });
  const one = await openTab(node, { clock }), two = await openTab(node, { clock });
  await Promise.all([one.caughtUp(), two.caughtUp()]);
  const [first, second] = [await one.get("a"), await two.get("a")];
  node.down = true;
  node.cut();
  await until("both are offline", () => one.status === "offline" && two.status === "offline");
  const w1 = one.save("a", { ...first, title: "from one" }), w2 = two.save("a", { ...second, note: "from two", extra: { deep: 1 } });
  await Promise.all([w1, w2]);
  node.down = false;
  await clock.advance(30_000);
  await Promise.all([w1.synced, w2.synced]);
  const all = { title: "from one", note: "from two", extra: { deep: 1 }, tags: ["t"] };
  for (const db of [one, two]) await until("both have both", async () => JSON.stringify(Object.entries((await db.get("a"))!).sort()) === JSON.stringify(Object.entries(all).sort()));
  assert.equal(node.item("a")!.conflicts, undefined);
  await Promise.all([one.close(), two.close()]);
});

test("merge by a function of the app", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  const db = await openTab(node, {
    clock,
    options: { conflicts: "merge", merge: (c) => [...new Set([c.value, ...c.others.map((o) => o.value)].flat())].sort() },
  });
  node.write("a", { tags: ["x"] }, undefined, 1);
  node.writeBlind("a", "/tags", ["y"], undefined, 2);
  node.writeBlind("a", "/tags", ["z"], "000000000000000c", 3);
  await until("it is merged", () => JSON.stringify(node.doc("a")) === '{"tags":["x","y","z"]}');
  await until("it is settled", () => !node.item("a")!.conflicts);
  await db.close();
});

test("clients that merge differently do not go round and round", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  const options = (name: string) => ({ conflicts: "merge" as const, merge: () => name });
  const one = await openTab(node, { clock, options: options("one") }), two = await openTab(node, { clock, options: options("two") });
  await Promise.all([one.caughtUp(), two.caughtUp()]);
  node.write("a", { t: "x" });
  node.writeBlind("a", "/t", "y");
  await rest(200);
  const busy = node.pushes.length;
  assert.ok(busy < 20, `${busy} pushes`);
  for (let i = 0; i < 20; i++) await clock.advance(1000);
  assert.ok(!node.item("a")!.conflicts, "it comes to an end");
  await Promise.all([one.close(), two.close()]);
});

test("ask the user", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  node.write("a", { title: "x" }, undefined, 5);
  let db = await openTab(node, { browser, clock, options: { conflicts: "ask" } });
  const heard: Conflict[] = [];
  db.onConflict((c) => void heard.push(c));
  await db.caughtUp();
  node.writeBlind("a", "/title", "y", "000000000000000b", 4);
  await until("it was asked", () => heard.length);
  assert.deepEqual([heard[0]!.key, heard[0]!.path, heard[0]!.value, heard[0]!.others], ["a", "/title", "x", [{ value: "y", author: "000000000000000b", at: 4 }]]);
  assert.equal((await db.read("a")).meta.conflicts, 1);
  node.write("b", { n: 1 });
  await until("another change came", () => db.get("b"));
  assert.equal(heard.length, 1, "it is asked once");
  // After a reload the question is still open.
  await db.close();
  db = await openTab(node, { browser, clock, options: { conflicts: "ask" } });
  const again: Conflict[] = [];
  db.onConflict((c) => void again.push(c));
  await until("it was asked again", () => again.length);
  assert.equal((await db.listConflicts()).length, 1);
  // The answer settles it, at once here and then at the node.
  const w = again[0]!.choose("y");
  await w;
  assert.deepEqual(await db.listConflicts(), []);
  assert.deepEqual(await db.get("a"), { title: "y" });
  await w.synced;
  assert.deepEqual(node.doc("a"), { title: "y" });
  assert.equal(node.item("a")!.conflicts, undefined);
  await db.close();
});

test("a choice between a value and a whole object", async () => {
  const node = new FakeNode();
  node.write("a", { x: "plain" }, undefined, 5);
  const db = await openTab(node, { options: { conflicts: "ask" } });
  await db.caughtUp();
  node.change([
    { op: "set", key: "a", path: "/x/deep/one", value: 1, seen: {} },
    { op: "set", key: "a", path: "/x/two", value: 2, seen: {} },
  ], "000000000000000b", 4);
  await until("there is a conflict", async () => (await db.listConflicts()).length);
  const c = (await db.listConflicts())[0]!;
  assert.equal(c.value, "plain");
  assert.deepEqual(c.others.map((o) => o.value), [{ deep: { one: 1 }, two: 2 }]);
  await c.choose(c.others[0]!.value).synced;
  assert.deepEqual(node.doc("a"), { x: { deep: { one: 1 }, two: 2 } });
  assert.equal(node.item("a")!.conflicts, undefined);
  await db.close();
});

test("an expired token: needs-auth, and on with a new one", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  let token = "good";
  let asked = 0;
  const db = await openTab(node, { clock, options: { token: () => (asked++, token) } });
  await db.caughtUp();
  node.tokens.delete("good");
  for (const s of [...node.sockets]) {
    s.say({ type: "error", code: "token-expired" });
    s.end(4401);
  }
  await until("it needs a token", () => db.status === "needs-auth");
  const w = db.save("a", { n: 1 });
  await w;
  const before = node.received.length;
  await clock.advance(120_000);
  assert.equal(node.received.length, before, "the refused token is not tried again");
  assert.ok(asked < 20, `the app was asked ${asked} times`);
  token = "better";
  node.tokens.set("better", "someone");
  await clock.advance(60_000);
  assert.equal(db.status, "live");
  await w.synced;
  await db.close();
});

test("an error that ends a subscription, or is about a push: both are asked for anew", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  const db = await openTab(node, { clock });
  await db.caughtUp();
  node.sinks.clear();
  for (const s of node.sockets) s.say({ type: "error", sub: "s", code: "busy", detail: "too many readers" });
  await until("it gave up", () => db.status === "offline" && db.problem!.code === "busy");
  node.write("a", { n: 1 });
  await clock.advance(30_000);
  await until("it came", () => db.get("a"));
  node.ignorePushes = true;
  const w = db.save("b", { n: 1 });
  await w;
  await until("it was sent", () => node.received.some((m) => m.type === "push" && m.transactions.length));
  for (const s of node.sockets) s.say({ type: "error", code: "rate-limited" });
  await until("it gave up", () => db.status === "offline");
  node.ignorePushes = false;
  await clock.advance(30_000);
  await w.synced;
  await db.close();
});

test("a token that is about to expire is replaced without a break", async () => {
  const node = new FakeNode();
  let token = "good";
  const db = await openTab(node, { options: { token: () => token } });
  await db.caughtUp();
  token = "next";
  for (const s of node.sockets) s.say({ type: "expiring", in: 60_000 });
  await until("the new one was sent", () => node.received.some((m) => m.type === "token" && m.token === "next"));
  assert.equal(db.status, "live");
  assert.equal(node.connections, 1);
  await db.close();
});

test("a dead connection is found within 30 seconds", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  const db = await openTab(node, { clock });
  await db.caughtUp();
  await clock.advance(60_000);
  assert.equal(db.status, "live", "silence alone is no death: the node answers pings");
  const from = clock.now();
  node.mute = true;
  let noticed = 0;
  db.on("status", () => (noticed ||= clock.now()));
  for (let i = 0; i < 35 && !noticed; i++) await clock.advance(1000);
  assert.ok(noticed && noticed - from <= 30_000, `after ${noticed - from} ms`);
  await db.close();
});

test("the network's events are hints only", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  let hint!: (h: "online" | "offline" | "visible") => void;
  const db = await openTab(node, { clock, platform: { hints: (on) => ((hint = on), () => {}) } });
  await db.caughtUp();
  hint("offline");
  await rest();
  assert.equal(db.status, "live", "the connection works, whatever the event says");
  assert.ok(node.received.some((m) => m.type === "ping"), "but it is looked at");
  node.down = true;
  node.cut();
  await until("it noticed", () => db.status === "offline");
  await clock.advance(60_000);
  node.down = false;
  assert.notEqual(db.status, "live");
  hint("online");
  await until("it is live", () => db.status === "live");
  await db.close();
});

test("a cursor that cannot be served: everything anew, and what is gone goes", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  for (const key of ["a", "b", "c"]) node.write(key, { key });
  let db = await openTab(node, { browser, clock });
  await db.caughtUp();
  await db.close();
  node.docs.delete("b"); // it was deleted, and nothing tells of that any more
  node.write("d", { key: "d" });
  node.floor = node.arrival;
  db = await openTab(node, { browser, clock });
  const lists: string[][] = [];
  db.watchList("", (l) => void lists.push(l.map((s) => s.key)));
  await until("it is as the node", () => lists.at(-1)?.join() === "a,c,d");
  assert.ok(!lists.some((l) => l.length < 3), "meanwhile nothing else vanished");
  await db.close();
});

test("a first sync of 10,000 documents shows progress, and a broken one does not start over", async () => {
  const node = new FakeNode();
  for (let i = 0; i < 10_000; i++) node.docs.set(`doc/${i}`, { arrival: ++node.arrival, cells: new Map([["/n", [{ dot: "d" + i, stamp: 1, author: "000000000000000a", value: i }]]]) });
  const browser = new Browser(), clock = new Clock();
  let db = await openTab(node, { browser, clock });
  const progress: { done: number; total: number }[] = [];
  db.on("progress", (p) => void progress.push(p));
  await until("a part is here", () => progress.length >= 6);
  crash(db);
  const stopped = progress.at(-1)!.done;
  assert.ok(stopped < 10_000);
  db = await openTab(node, { browser, clock });
  await until("it has subscribed again", () => node.received.filter((m) => m.type === "subscribe").length === 2);
  const from = node.received.findLast((m) => m.type === "subscribe").since;
  assert.ok(Number(from.slice(17)) >= stopped - 1, `resumed at ${from} after ${stopped}`);
  await db.caughtUp();
  assert.equal((await db.list("doc/")).length, 10_000);
  assert.ok(progress.every((p, i) => !i || p.done > progress[i - 1]!.done));
  await db.close();
});

test("local data that were removed: a new client, a fresh copy, and the app is told", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  node.write("a", { n: 1 });
  let db = await openTab(node, { browser, clock });
  assert.equal(db.isFresh, true);
  await db.caughtUp();
  const before = db.client;
  await db.close();
  db = await openTab(node, { browser, clock });
  assert.equal(db.isFresh, false);
  assert.equal(db.client, before);
  await db.close();
  await new Promise((resolve) => (browser.indexedDB.deleteDatabase("anabranch/http://node.test/notes").onsuccess = resolve));
  db = await openTab(node, { browser, clock });
  assert.equal(db.isFresh, true);
  assert.notEqual(db.client, before);
  await db.caughtUp();
  assert.deepEqual(await db.get("a"), { n: 1 });
  await db.close();
});

test("data removed while the app runs: a new client, and nothing is lost that comes after", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  node.write("a", { n: 1 });
  const db = await openTab(node, { browser, clock });
  await db.caughtUp();
  const before = db.client;
  let told = 0;
  db.on("reset", () => void told++);
  await new Promise((resolve) => (browser.indexedDB.deleteDatabase("anabranch/http://node.test/notes").onsuccess = resolve));
  const w = db.save("b", { n: 2 });
  await w;
  await clock.advance(30_000);
  await w.synced;
  assert.equal(told, 1);
  assert.notEqual(db.client, before);
  await until("all is here", async () => (await db.list()).length === 2);
  assert.deepEqual(node.contents(), { a: { n: 1 }, b: { n: 2 } });
  await db.close();
});

test("another home: increments that may have been counted are given back, sets are sent again", async () => {
  const node = new FakeNode(), other = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  let db = await openTab(node, { browser, clock });
  await db.caughtUp();
  node.ignorePushes = true;
  const sent = [db.increment("a", "/n", 1), db.save("b", { n: 1 })];
  await Promise.all(sent);
  await until("they were sent", () => node.received.some((m) => m.type === "push" && m.transactions.at(-1).seq === 2));
  crash(db);
  node.down = true;
  db = await openTab(node, { browser, clock });
  await db.increment("c", "/n", 1); // never sent: it is certain that nobody has counted it
  crash(db);
  db = await openTab(other, { browser, clock });
  await until("the rest is there", () => db.pending.length === 1);
  assert.deepEqual(other.contents(), { b: { n: 1 }, c: { n: 1 } });
  const [r] = await db.rejected();
  assert.equal(r!.code, "uncertain");
  await r!.retry().synced;
  assert.deepEqual(other.doc("a"), { n: 1 });
  await db.close();
});

test("a node that has not yet seen what a change saw is asked again, and in the end forced", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  node.write("a", { n: 1 });
  const db = await openTab(node, { clock });
  await db.caughtUp();
  await db.get("a");
  node.vectorTooNew = true;
  const w = db.save("a", { n: 2 });
  await w;
  await clock.advance(20_000);
  assert.equal(db.pending.length, 1);
  assert.ok(node.pushes.length > 2);
  assert.ok(!node.pushes.some((p) => p.transactions.some((t) => t.force)));
  await clock.advance(45_000);
  await w.synced;
  assert.ok(node.pushes.at(-1)!.transactions[0]!.force);
  assert.deepEqual(node.doc("a"), { n: 2 });
  await db.close();
});

test("a client ID that another user has: a new one, and the changes are sent", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  let db = await openTab(node, { browser, clock });
  const before = db.client;
  await db.save("a", { n: 1 }).synced;
  await db.close();
  node.tokens.set("other", "another");
  db = await openTab(node, { browser, clock, options: { token: () => "other" } });
  await db.save("b", { n: 2 }).synced;
  assert.notEqual(db.client, before);
  assert.deepEqual(node.doc("b"), { n: 2 });
  await db.close();
});
