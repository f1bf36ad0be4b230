import assert from "node:assert/strict";
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawn } from "node:child_process";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { fileStore, open } from "../src/node.js";
import { StorageError } from "../src/index.js";
import type { DocRecord, Meta, PendingRecord, Store, Tx } from "../src/store.js";
import { IndexedDBStore } from "../src/indexeddb.js";
import { FakeNode } from "./support/fakenode.js";
import { Clock, until } from "./support/harness.js";
import { IDBFactory } from "fake-indexeddb";

function directory(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "anabranch-test-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

const doc = (key: string, n = 0, gen = 1): DocRecord => ({ key, gen, item: { key, cursor: "0-1", doc: { n } } });
const pending = (seq: number, ...keys: string[]): PendingRecord => ({ seq, at: seq, keys, state: "saved", ops: [] });
const meta = (seq: number) => ({ seq, client: "c" }) as Meta;

/** All that a store says. */
const all = (store: Store) =>
  store.run("read", async (tx) => ({ meta: await tx.meta(), docs: await tx.docs(""), pending: await tx.pending() }));

test("a file store keeps what it was given, and reads it back", async (t) => {
  const dir = directory(t);
  let store = await fileStore(dir);
  await store.run("durable", async (tx) => {
    tx.putMeta(meta(3));
    for (const key of ["b", "a", "c"]) tx.putDoc(doc(key));
    tx.putPending(pending(1, "a"));
    tx.putPending(pending(2, "a", "b"));
  });
  await store.run("lazy", async (tx) => {
    tx.deleteDoc("c");
    tx.deletePending(1);
  });
  const before = await all(store);
  assert.deepEqual(before.docs.map((d) => d.key), ["a", "b"]);
  assert.deepEqual(before.pending.map((p) => p.seq), [2]);
  await store.close();
  store = await fileStore(dir);
  assert.deepEqual(await all(store), before);
  await store.close();
});

test("a transaction that throws changes nothing", async (t) => {
  const store = await fileStore(directory(t));
  await store.run("durable", async (tx) => tx.putDoc(doc("a", 1)));
  const before = await all(store);
  await assert.rejects(
    store.run("durable", async (tx) => {
      tx.putDoc(doc("a", 2));
      tx.putDoc(doc("b"));
      tx.deleteDoc("a");
      tx.putPending(pending(1, "a"));
      tx.putMeta(meta(1));
      throw new Error("no");
    }),
    /no/,
  );
  assert.deepEqual(await all(store), before);
  await store.close();
});

test("what a torn tail held is dropped, what is wrong before it is said", async (t) => {
  const dir = directory(t);
  const log = join(dir, "log");
  let store = await fileStore(dir);
  const ends: number[] = [];
  for (let i = 0; i < 4; i++) {
    await store.run("durable", async (tx) => tx.putDoc(doc("k" + i)));
    ends.push(statSync(log).size);
  }
  await store.close();
  const bytes = readFileSync(log);
  const keys = async () => (await all(store)).docs.map((d) => d.key).join();
  // Cut off at any byte: exactly the whole lines are left.
  for (let cut = 0; cut <= bytes.length; cut += 7) {
    writeFileSync(log, bytes.subarray(0, cut));
    store = await fileStore(dir);
    const whole = ends.filter((e) => e <= cut).length;
    assert.equal(await keys(), ["k0", "k1", "k2", "k3"].slice(0, whole).join(), `cut at ${cut}`);
    // It goes on from there.
    await store.run("durable", async (tx) => tx.putDoc(doc("more")));
    await store.close();
    store = await fileStore(dir);
    assert.ok((await keys()).endsWith("more"));
    await store.close();
  }
  // Garbage at the end, as a power cut may leave it.
  writeFileSync(log, bytes);
  appendFileSync(log, Buffer.concat([Buffer.alloc(100), Buffer.from("\n00000000 1 []\n")]));
  store = await fileStore(dir);
  assert.equal(await keys(), "k0,k1,k2,k3");
  await store.close();
  // A changed byte in what had been synced and was followed by more.
  const damaged = Buffer.from(bytes);
  damaged[ends[0]! + 20]! ^= 1;
  writeFileSync(log, damaged);
  await assert.rejects(fileStore(dir), (e) => e instanceof StorageError && e.code === "damaged" && /byte/.test(e.message));
  assert.deepEqual(readFileSync(log), damaged, "and it is left as it is");
});

test("the log is written anew when most of it is old", async (t) => {
  const dir = directory(t);
  let store = await fileStore(dir);
  const text = "x".repeat(10_000);
  for (let i = 0; i < 400; i++) await store.run(i % 10 ? "lazy" : "durable", async (tx) => tx.putDoc({ ...doc("a" + (i % 3)), item: { key: "a", cursor: "0-1", doc: { text, i } } }));
  await until("it is short", () => statSync(join(dir, "log")).size < 1_500_000);
  const before = await all(store);
  await store.close();
  store = await fileStore(dir);
  assert.deepEqual(await all(store), before);
  await store.close();
});

test("one user at a time, and a lock that a dead process left is taken", async (t) => {
  const dir = directory(t);
  const store = await fileStore(dir);
  await assert.rejects(fileStore(dir), /already open/);
  await store.close();
  const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  writeFileSync(join(dir, "lock"), String(other.pid));
  await assert.rejects(fileStore(dir), (e) => e instanceof StorageError && e.code === "locked");
  const gone = new Promise((resolve) => other.on("exit", resolve));
  other.kill("SIGKILL");
  await gone;
  await (await fileStore(dir)).close();
  writeFileSync(join(dir, "lock"), String(process.pid));
  await (await fileStore(dir)).close();
});

test("both stores do the same", async (t) => {
  type Step = [kind: string, key: string, n: number];
  const step = fc.tuple(fc.constantFrom("doc", "delete", "pending", "settle", "meta", "sweep", "throw"), fc.constantFrom("a", "b", "b/c", "\uffff", "\u{1f33f}"), fc.integer({ min: 1, max: 5 })) as fc.Arbitrary<Step>;
  const act = async (store: Store, steps: Step[]) =>
    store.run("lazy", async (tx: Tx) => {
      for (const [kind, key, n] of steps) {
        if (kind === "doc") tx.putDoc({ ...doc(key, n, n), ...(n === 3 && { contested: 1 as const }) });
        if (kind === "delete") tx.deleteDoc(key);
        if (kind === "pending") tx.putPending(pending(n, key, "z"));
        if (kind === "settle") tx.deletePending(n);
        if (kind === "meta") tx.putMeta(meta(n));
        if (kind === "sweep") await tx.sweep(n);
        if (kind === "throw" && n === 5) throw new Error("no");
      }
      return [await tx.meta(), await tx.doc("a"), await tx.docs("b"), await tx.docs("", "a", 2), await tx.docs("\uffff"), await tx.contested(), await tx.pending(2, 2), await tx.pendingOf("a"), await tx.pendingOf("z")];
    }).catch((e) => e.message);
  let n = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(step, { maxLength: 6 }), { maxLength: 5 }), async (transactions) => {
      const dir = join(directory(t), "store");
      (globalThis as any).indexedDB = new IDBFactory();
      let files = await fileStore(dir);
      const indexed = new IndexedDBStore("both" + n++);
      for (const steps of transactions) {
        assert.deepEqual(await act(files, steps), await act(indexed, steps));
        if (n % 2) {
          await files.close();
          files = await fileStore(dir);
        }
      }
      await files.close();
      await indexed.close();
    }),
    { numRuns: 50 },
  );
});

test("an app that is killed while it saves loses nothing that was said to be saved", async (t) => {
  const dir = directory(t);
  let random = 12345;
  for (let round = 0; round < 8; round++) {
    const child = spawn(process.execPath, [process.env["ANABRANCH_TEST_BUILD"] + "/programs/saver.mjs", dir], { stdio: ["ignore", "pipe", "inherit"] });
    const gone = new Promise((resolve) => child.on("exit", resolve));
    let said = "";
    random = (random * 48271) % 0x7fffffff;
    const enough = random % 500; // so many bytes of what it says, then it dies in the middle of something
    await new Promise<void>((resolve) => {
      child.stdout.on("data", (d) => {
        said += d;
        if (said.length > enough) resolve();
      });
      child.on("exit", () => resolve());
    });
    child.kill("SIGKILL");
    await gone;
    const last = Number(said.slice(0, said.lastIndexOf("\n")).split("\n").at(-1));
    const store = await fileStore(dir);
    const { meta, pending } = await all(store);
    const saved = pending.flatMap((p) => p.ops.map((op) => (op.op === "set" && op.key === "last" ? (op.value as { n?: number }).n ?? op.value : 0))).map(Number);
    assert.ok(Math.max(...saved) >= last, `round ${round}: ${last} was said, ${Math.max(...saved)} is there`);
    assert.equal(new Set(pending.map((p) => p.seq)).size, pending.length);
    assert.equal(meta!.seq, pending.at(-1)!.seq);
    const counted = pending.filter((p) => p.ops[0]!.op === "increment").length;
    assert.ok(counted >= last - 1 && counted <= Math.max(...saved) + 1);
    await store.close();
  }
});

test("a client on files: saved, killed, opened again, sent", async (t) => {
  const dir = directory(t);
  const node = new FakeNode();
  const clock = new Clock();
  node.down = true;
  const options = { directory: dir, url: "http://node.test", space: "notes", token: () => "good", platform: { now: clock.now, setTimeout: clock.setTimeout, clearTimeout: clock.clearTimeout, random: () => 0.5, WebSocket: node.WebSocket, fetch: node.fetch } };
  let db = await open(options);
  await db.save("a", { n: 1 });
  await db.increment("a", "/views", 2);
  // As a kill leaves it: another opens a copy of the files as they are now.
  const copy = directory(t);
  copyFileSync(join(dir, "log"), join(copy, "log"));
  await db.close();
  node.down = false;
  db = await open({ ...options, directory: copy });
  assert.equal(db.isFresh, false);
  await until("it is sent", () => db.pending.length === 0);
  assert.deepEqual(node.doc("a"), { n: 1, views: 2 });
  assert.deepEqual(await db.get("a"), { n: 1, views: 2 });
  await db.close();
});
