import assert from "node:assert/strict";
import { test } from "node:test";
import type { Database, TransportName } from "../src/index.js";
import { FakeNode } from "./support/fakenode.js";
import { Browser, Clock, openTab, rest, until } from "./support/harness.js";

async function roundTrip(node: FakeNode, db: Database): Promise<void> {
  await db.caughtUp();
  node.write("from/node", { n: 1 });
  await until("a change came", () => db.get("from/node"));
  await db.save("from/client", { n: 2 }).synced;
  assert.deepEqual(node.doc("from/client"), { n: 2 });
  await until("it is settled", () => db.pending.length === 0);
  node.delete("from/node");
  await until("the deletion came", async () => !(await db.get("from/node")));
}

for (const [name, transport] of [["WebSocket", "websocket"], ["SSE", "sse"], ["polling", "poll"]] as const) {
  test(name, async () => {
    const node = new FakeNode();
    node.write("before", { n: 0 });
    const clock = new Clock();
    const db = await openTab(node, { clock, options: { transports: [transport] } });
    await roundTrip(node, db);
    assert.deepEqual(await db.get("before"), { n: 0 });
    // Broken and mended.
    node.cut();
    await until("it noticed", () => db.status === "offline");
    node.write("meanwhile", { n: 3 });
    await clock.advance(30_000);
    await until("the change came", () => db.get("meanwhile"));
    // A token that runs out.
    node.tokens.clear();
    node.cut();
    await until("it noticed", () => db.status !== "live");
    await clock.advance(30_000);
    assert.equal(db.status, "needs-auth");
    node.tokens.set("good", "someone");
    db.reconnect();
    await until("it is live", () => db.status === "live");
    await db.close();
    await rest();
    assert.equal(node.connections, 0);
  });

  test(`${name}: an increment counts once when the answer is lost`, async () => {
    const node = new FakeNode();
    const clock = new Clock();
    const db = await openTab(node, { clock, options: { transports: [transport] } });
    await db.caughtUp();
    node.loseAcks = 2;
    const w = db.increment("a", "/n", 5);
    await w;
    await clock.advance(60_000);
    await w.synced;
    assert.deepEqual(node.doc("a"), { n: 5 });
    await db.close();
  });

  test(`${name}: a silent node is given up within 30 seconds`, async () => {
    const node = new FakeNode();
    const clock = new Clock();
    const db = await openTab(node, { clock, options: { transports: [transport] } });
    await db.caughtUp();
    node.mute = true;
    node.silent = true;
    for (let i = 0; i < 30 && db.status === "live"; i++) await clock.advance(1000);
    assert.notEqual(db.status, "live");
    await db.close();
  });
}

test("a blocked WebSocket: server-sent events, remembered, and back up when it gets through", async () => {
  const node = new FakeNode();
  const browser = new Browser(), clock = new Clock();
  node.blockWebSocket = true;
  let db = await openTab(node, { browser, clock });
  await roundTrip(node, db);
  assert.equal(node.sockets.size, 0);
  assert.equal(node.streams.size, 1);
  await db.close();
  // The next opening begins with what worked.
  let sockets = 0;
  const Socket = node.WebSocket;
  const WebSocket = class extends Socket {
    constructor(url: string, protocol: string) {
      super(url, protocol);
      sockets++;
    }
  };
  db = await openTab(node, { browser, clock, platform: { WebSocket } });
  await until("it is live", () => db.status === "live");
  assert.equal(sockets, 0);
  // Now and then it looks whether the better way is open.
  const minutes = async (n: number) => {
    for (let i = 0; i < 4 * n; i++) {
      await clock.advance(15_000);
      node.beat();
      await rest();
    }
  };
  await minutes(1);
  assert.equal(sockets, 1);
  assert.equal(node.streams.size, 1, "a failed look harms nothing");
  node.blockWebSocket = false;
  await minutes(3);
  await until("it uses a WebSocket", () => node.sockets.size === 1);
  await until("and no longer the stream", () => node.streams.size === 0);
  assert.equal(db.status, "live");
  await roundTrip(node, db);
  await db.close();
});

test("neither WebSocket nor events: long polling", async () => {
  const node = new FakeNode();
  node.blockWebSocket = node.blockSSE = true;
  const db = await openTab(node);
  await roundTrip(node, db);
  await db.close();
});

test("a network that swallows WebSockets without a word is left after ten seconds", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  class Hanging {
    readyState = 0;
    send() {}
    close() {}
  }
  const db = await openTab(node, { clock, platform: { WebSocket: Hanging as any } });
  await clock.advance(10_000);
  await until("it is live", () => db.status === "live");
  assert.equal(node.streams.size, 1);
  await db.close();
});

test("changing the transport at any point loses and repeats nothing", async () => {
  const ways: TransportName[] = ["websocket", "sse", "poll"];
  const node = new FakeNode();
  node.chunk = 3;
  const browser = new Browser(), clock = new Clock();
  let seed = 7;
  const random = (n: number) => (seed = (seed * 48271) % 0x7fffffff) % n;
  let total = 0;
  const writes: Promise<void>[] = [];
  for (let round = 0; round < 25; round++) {
    const db = await openTab(node, { browser, clock, options: { transports: [ways[random(3)]!] } });
    for (let i = random(5); i >= 0; i--) {
      total++;
      writes.push(db.increment("count", "/n", 1));
      node.write(`doc/${random(20)}`, { round, i });
      if (random(4) === 0) node.delete(`doc/${random(20)}`);
    }
    await rest(random(30));
    if (random(3) === 0) {
      node.loseAcks = 1;
      await rest(random(30));
      node.cut();
    }
    await db.close();
    node.loseAcks = 0;
  }
  await Promise.all(writes);
  const db = await openTab(node, { browser, clock });
  await until("all is sent", () => db.pending.length === 0);
  assert.deepEqual(node.doc("count"), { n: total });
  const here = async () => Object.fromEntries((await db.list()).map((s) => [s.key, s.value]));
  await until("all is here", async () => JSON.stringify(await here()) === JSON.stringify(node.contents()));
  await db.close();
});
