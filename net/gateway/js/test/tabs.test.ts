import assert from "node:assert/strict";
import { test } from "node:test";
import { StorageError, type Rejected } from "../src/index.js";
import { FakeNode } from "./support/fakenode.js";
import { Browser, Clock, crash, openTab, rest, until } from "./support/harness.js";

test("one tab leads, and all see changes at once", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  const [one, two] = [await openTab(node, { browser, clock }), await openTab(node, { browser, clock })];
  await Promise.all([one.caughtUp(), two.caughtUp()]);
  assert.equal(node.connections, 1);
  assert.equal(two.status, "live", "the other knows how it stands");
  const seen: unknown[] = [];
  two.watch("a", (s) => void seen.push(s.value?.["n"]));
  one.watch("b", (s) => void seen.push(s.value?.["n"]));
  await one.save("a", { n: 1 });
  await until("the other tab shows it", () => seen.includes(1));
  const w = two.save("b", { n: 2 });
  await until("the leader shows it", () => seen.includes(2));
  await w.synced;
  assert.deepEqual(node.contents(), { a: { n: 1 }, b: { n: 2 } });
  node.write("a", { n: 3 });
  await until("both show what came", () => seen.includes(3));
  assert.equal(two.pending.length, 0);
  await Promise.all([one.close(), two.close()]);
});

for (const [how, end] of [["closed", (db: any) => db.close()], ["killed", crash]] as const) {
  test(`a leader that is ${how} hands over within two seconds`, async () => {
    const node = new FakeNode();
    const browser = new Browser(), clock = new Clock();
    const one = await openTab(node, { browser, clock }), two = await openTab(node, { browser, clock });
    await two.caughtUp();
    node.mute = true; // what was sent stays without an answer
    const w = two.save("a", { n: 1 });
    await until("it was sent", () => node.doc("a"));
    node.mute = false;
    const from = clock.now();
    await end(one);
    await until("the other one leads", () => node.connections === 1 && two.status === "live");
    await w.synced;
    assert.ok(clock.now() - from <= 2000, "no time at all on the clock of the test");
    assert.equal(node.clients.size, 1, "as the same client");
    await two.close();
  });
}

test("tabs that write at the same time write one after the other", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  const tabs = [await openTab(node, { browser, clock }), await openTab(node, { browser, clock }), await openTab(node, { browser, clock })];
  const writes = [];
  for (let i = 0; i < 20; i++) for (const db of tabs) writes.push(db.increment("count", "/n", 1), db.set("doc", `/${i}`, i));
  await Promise.all(writes.map((w) => w.synced));
  assert.deepEqual(node.doc("count"), { n: 60 });
  assert.equal(Object.keys(node.doc("doc")!).length, 20);
  const seqs = node.pushes.flatMap((p) => p.transactions.map((t) => t.seq));
  assert.equal(new Set(seqs).size, 120);
  for (const db of tabs) await until("it shows", async () => (await db.get<any>("count"))?.n === 60);
  await Promise.all(tabs.map((db) => db.close()));
});

test("tabs that hear of a save after what became of it", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  const [one, two] = [await openTab(node, { browser, clock }), await openTab(node, { browser, clock })];
  await Promise.all([one.caughtUp(), two.caughtUp()]);
  browser.hold = (m) => m.t === "pending" && m.put.some((p: any) => p.state === "saved");
  const w = two.save("a", { n: 1 });
  await w;
  await one.save("b", { n: 1 }).synced; // the leader finds the other's on its way
  await w.synced;
  await until("both are settled", () => !one.pending.length && !two.pending.length);
  browser.release();
  await rest();
  assert.deepEqual([one.pending, two.pending], [[], []]);
  await Promise.all([one.close(), two.close()]);
});

test("a refusal is told in every tab, and decided in one", async () => {
  const node = new FakeNode();
  node.reject.set("bad", "forbidden");
  const browser = new Browser(), clock = new Clock();
  const [one, two] = [await openTab(node, { browser, clock }), await openTab(node, { browser, clock })];
  const heard: Rejected[] = [];
  one.on("rejected", (r) => void heard.push(r));
  two.on("rejected", (r) => void heard.push(r));
  const w = two.save("bad", { n: 1 });
  await assert.rejects(w.synced, /forbidden/);
  await until("both heard", () => heard.length === 2);
  await heard[0]!.drop();
  await until("both know", () => !one.pending.length && !two.pending.length);
  await Promise.all([one.close(), two.close()]);
});

test("a tab that does not lead may ask for a new attempt", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  let token = "old";
  const options = { token: () => token };
  const one = await openTab(node, { browser, clock, options }), two = await openTab(node, { browser, clock, options });
  await until("both know", () => one.status === "needs-auth" && two.status === "needs-auth");
  token = "good";
  two.reconnect();
  await until("both know", () => one.status === "live" && two.status === "live");
  await Promise.all([one.close(), two.close()]);
});

for (const part of ["docs", "meta", "pending"]) {
  test(`a full storage is said, and what was saved before stays (${part})`, async () => {
    const node = new FakeNode();
    const browser = new Browser(), clock = new Clock();
    const db = await openTab(node, { browser, clock });
    await db.caughtUp();
    await db.save("a", { n: 1 }).synced;
    await until("it is settled", () => !db.pending.length);
    const errors: Error[] = [];
    db.on("error", (e) => void errors.push(e));
    // As a browser does it: the request fails, and the transaction with it.
    const put = IDBObjectStore.prototype.put;
    let full = true;
    IDBObjectStore.prototype.put = function (this: IDBObjectStore, ...args: Parameters<typeof put>) {
      if (full && this.name === part) throw new DOMException("the quota is exceeded", "QuotaExceededError");
      return put.apply(this, args);
    };
    try {
      if (part !== "docs") {
        const w = db.save("a", { n: 2 });
        await assert.rejects(w, (e) => e instanceof StorageError && e.code === "quota");
        await assert.rejects(w.synced);
        assert.equal((errors[0] as StorageError).code, "quota");
        assert.deepEqual(await db.get("a"), { n: 1 });
        assert.equal(db.pending.length, 0);
      }
      // What comes cannot be kept either: it does not count as received.
      node.write("b", { n: 1 });
      if (part === "pending") full = false;
      else await until("it gave up", () => db.status === "offline" && db.problem!.code === "quota");
      full = false;
      await clock.advance(30_000);
      await until("it came again", () => db.get("b"));
      await db.save("a", { n: 3 }).synced;
      assert.deepEqual(node.doc("a"), { n: 3 });
    } finally {
      IDBObjectStore.prototype.put = put;
    }
    await db.close();
  });
}

test("saving is by difference from what was read", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  node.write("a", { title: "x", note: "y", n: 1 });
  const db = await openTab(node, { clock });
  await db.caughtUp();
  const read = (await db.get<any>("a"))!;
  // Somebody else writes, and the app reads again elsewhere.
  node.writeBlind("a", "/note", "theirs", undefined, clock.now() + 10);
  await until("it came", async () => (await db.get<any>("a")).note === "theirs");
  await db.save("a", { ...read, title: "mine" }, { base: read }).synced;
  assert.equal(node.doc("a")!["note"], "theirs");
  assert.equal(node.doc("a")!["title"], "mine");
  // The object itself is enough, if it was not replaced.
  const [before, pushes] = [(await db.get("a"))!, node.pushes.length];
  await db.save("a", before).synced;
  await rest();
  assert.equal(node.pushes.length, pushes, "nothing was to be written");
  // An object of one document is no base for another.
  await db.save("b", before).synced;
  assert.deepEqual(node.doc("b"), node.doc("a"));
  assert.throws(() => ((read as any).title = "changed in place"), TypeError, "what the database gave cannot be changed in place");
  await db.close();
});

test("transactions are whole, and read what they have done so far", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  node.write("from", { n: 10 });
  const db = await openTab(node, { clock });
  await db.caughtUp();
  await db.transact(async (tx) => {
    const from = (await tx.get<any>("from"))!;
    tx.save("from", { ...from, n: from.n - 3 });
    tx.set("to", "/n", 3);
    tx.increment("count", "/moves");
    assert.deepEqual(await tx.get("from"), { n: 7 });
  }).synced;
  assert.deepEqual(node.contents(), { count: { moves: 1 }, from: { n: 7 }, to: { n: 3 } });
  assert.equal(node.pushes.at(-1)!.transactions.length, 1);
  const failed = db.transact((tx) => {
    tx.remove("from");
    throw new Error("changed my mind");
  });
  await assert.rejects(failed, /changed my mind/);
  assert.deepEqual(await db.get("from"), { n: 7 });
  await db.close();
});

test("what cannot be written is refused at once", async () => {
  const node = new FakeNode();
  const db = await openTab(node, { options: { prefix: "todo/" } });
  const refused: [() => Promise<unknown>, RegExp][] = [
    [() => db.save("", {}), /1 to 1024 bytes/],
    [() => db.save("todo/" + "é".repeat(600), {}), /1 to 1024 bytes/],
    [() => db.save("other", {}), /does not begin with/],
    [() => db.save("todo/1", [] as any), /object with named fields/],
    [() => db.save("todo/1", "x" as any), /object with named fields/],
    [() => db.set("todo/1", "x", 1), /begin with \//],
    [() => db.set("todo/1", ["__proto__"], 1), /__proto__/],
    [() => db.increment("todo/1", "/n", 0.5), /no integer/],
    [() => db.increment("todo/1", "", 1), /no counter/],
    [() => db.set("todo/1", "/big", "x".repeat(5 << 20)), /over the limit/],
  ];
  for (const [write, message] of refused) await assert.rejects(write(), message);
  await db.save("todo/1", { fine: true });
  assert.deepEqual(await db.get("todo/1"), { fine: true });
  await db.close();
  await assert.rejects(db.save("todo/1", {}), /closed/);
});

test("a list shows what is pending, in the order of the keys, in pages", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  for (let i = 0; i < 30; i++) node.write(`k/${String(i).padStart(2, "0")}`, { i });
  const db = await openTab(node, { clock });
  await db.caughtUp();
  node.down = true;
  node.cut();
  await Promise.all([db.save("k/055", { i: "new" }), db.remove("k/03"), db.save("j", {}), db.save("l", {})]);
  const keys = (await db.list("k/")).map((s) => s.key);
  assert.equal(keys.length, 30);
  assert.deepEqual(keys, keys.slice().sort());
  assert.ok(keys.includes("k/055") && !keys.includes("k/03"));
  const paged: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = await db.list({ prefix: "k/", after, limit: 7 });
    paged.push(...page.map((s) => s.key));
    if (page.length < 7) break;
    after = page.at(-1)!.key;
  }
  assert.deepEqual(paged, keys);
  await db.close();
});
