import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { build } from "esbuild";
import { connect, serve, type Answer, type Note, type Request } from "../examples/electron/src/bridge.js";
import { open } from "../src/node.js";
import { FakeNode } from "./support/fakenode.js";
import { until } from "./support/harness.js";

/** A window and its end in the main process. Messages are copied, as between processes. */
function openWindow(db: Parameters<typeof serve>[0]) {
  let receive!: (a: Answer) => void;
  const end = serve(db, (a) => setImmediate((copy) => receive(copy), structuredClone(a)));
  const send = (r: Request) => void setImmediate((copy) => end.handle(copy), structuredClone(r));
  return { notes: connect(send, (f) => void (receive = f)), end, send };
}

test("windows work on the main process's database by the bridge", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "anabranch-electron-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const node = new FakeNode();
  const db = await open({ directory, url: "http://node.test", space: "notes", token: () => "good", platform: { WebSocket: node.WebSocket, fetch: node.fetch } });
  const [one, two] = [openWindow(db), openWindow(db)];
  let seen: readonly Note[] = [];
  let status = "";
  two.notes.watch("note/", (l) => (seen = l));
  const stop = one.notes.status((s) => (status = s.status));
  await until("it is live", () => status === "live");
  stop();
  await one.notes.save("note/1", { title: "milk", done: false });
  await until("the other window shows it", () => seen.length === 1);
  const before = seen[0]!;
  // Each saves what it changed, though it had not seen the other's change.
  await one.notes.save("note/1", { title: "milk", done: true });
  await two.notes.save("note/1", { ...before.value, title: "oat milk" }, before);
  await until("both are there", () => JSON.stringify(seen[0]?.value) === '{"title":"oat milk","done":true}' && seen[0]?.meta.synced);
  assert.deepEqual(node.doc("note/1"), { title: "oat milk", done: true });
  await assert.rejects(one.notes.save("", {}), /1 to 1024 bytes/);
  // What is no request is passed over.
  for (const bad of [null, "x", {}, { id: 1, call: "eval" }, { id: "1", call: "remove", key: "note/1" }, { id: 1, call: "remove", key: 5 }]) one.send(bad as Request);
  await one.notes.remove("note/1");
  await until("it is gone", () => !seen.length);
  two.end.close();
  await db.close();
});

test("the processes' own files compile", async () => {
  for (const file of ["main.ts", "preload.ts", "renderer.ts"]) {
    const { outputFiles } = await build({
      entryPoints: ["examples/electron/src/" + file],
      bundle: true,
      write: false,
      platform: "node",
      format: "esm",
      external: ["electron"],
      alias: { "@anabranch/client/node": "./src/node.ts", "@anabranch/client": "./src/index.ts" },
      logLevel: "silent",
    });
    assert.ok(outputFiles[0]!.text.length > 500);
    assert.ok(file !== "preload.ts" || !/from "node:/.test(outputFiles[0]!.text), "a sandboxed preload has no Node");
  }
});
