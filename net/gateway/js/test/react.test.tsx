import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement as h, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import TestRenderer, { act } from "react-test-renderer";
import type { Database } from "../src/index.js";
import { useDocument, useList, useStatus, type UsedDocument } from "../src/react.js";
import { FakeNode } from "./support/fakenode.js";
import { Clock, openTab, rest, until } from "./support/harness.js";

(globalThis as any).IS_REACT_ACT_ENVIRONMENT = true;

interface Todo {
  title: string;
  done?: boolean;
}

/** Lets the database's answers in, and React render them. */
async function settled(what: string, condition: () => unknown): Promise<void> {
  await until(what, async () => {
    await act(async () => rest(1));
    return condition();
  });
}

async function mounted(db: Database, component: (p: { db: Database }) => any) {
  let renderer!: TestRenderer.ReactTestRenderer;
  await act(async () => void (renderer = TestRenderer.create(h(StrictMode, null, h(component, { db })))));
  return { text: () => JSON.stringify(renderer.toJSON()), unmount: () => act(async () => renderer.unmount()) };
}

test("useDocument", async () => {
  const node = new FakeNode();
  node.write("todo/1", { title: "milk", note: "2 l" });
  const db = await openTab(node);
  await db.caughtUp();
  let used!: UsedDocument<Todo>;
  let renders = 0;
  const view = await mounted(db, ({ db }) => {
    used = useDocument<Todo>(db, "todo/1");
    renders++;
    return h("p", null, used.loading ? "…" : (used.value?.title ?? "none"), " ", used.meta?.synced ? "synced" : "not synced");
  });
  assert.match(view.text(), /…/);
  await settled("it shows", () => view.text().includes("milk"));
  // Saved from what this rendering shows: what came meanwhile in other fields is left alone.
  const { value, save } = used;
  node.writeBlind("todo/1", "/note", "3 l", undefined, Date.now() + 1000);
  await settled("the change came", async () => (await db.get<any>("todo/1")).note === "3 l");
  await act(async () => void save({ ...value!, title: "oat milk" }));
  await settled("it shows", () => view.text().includes("oat milk"));
  await settled("it is synced", () => !view.text().includes("not synced"));
  assert.deepEqual(node.doc("todo/1"), { title: "oat milk", note: "3 l" });
  await act(async () => void used.save((old) => ({ ...old!, done: true })));
  await settled("it is done", () => used.value?.done);
  await settled("all is quiet", () => used.meta?.synced && !db.pending.length);
  await act(async () => rest());
  const before = renders;
  node.write("todo/2", { title: "other" });
  await settled("another change came", () => db.get("todo/2"));
  await act(async () => rest());
  assert.equal(renders, before, "other documents do not concern it");
  await act(async () => void used.remove());
  await settled("it is gone", () => view.text().includes("none"));
  await view.unmount();
  await db.close();
});

test("useList", async () => {
  const node = new FakeNode();
  for (const n of [1, 2, 3]) node.write(`todo/${n}`, { title: "t" + n });
  node.write("other", { title: "no" });
  const db = await openTab(node);
  await db.caughtUp();
  const lists: unknown[] = [];
  const view = await mounted(db, ({ db }) => {
    const list = useList<Todo>(db, "todo/");
    lists.push(list);
    return h("ul", null, list?.map((s) => h("li", { key: s.key }, s.value!.title)));
  });
  await settled("it shows", () => view.text().includes("t3"));
  assert.doesNotMatch(view.text(), /no/);
  const before = lists.at(-1) as any[];
  node.delete("todo/2");
  node.write("todo/4", { title: "t4" });
  await settled("it changed", () => view.text().includes("t4") && !view.text().includes("t2"));
  const after = lists.at(-1) as any[];
  assert.equal(after[0], before[0], "what did not change is the same object");
  await view.unmount();
  await db.close();
});

test("useStatus", async () => {
  const node = new FakeNode();
  const clock = new Clock();
  node.down = true;
  const db = await openTab(node, { clock });
  const view = await mounted(db, ({ db }) => {
    const { status, pending } = useStatus(db);
    return h("p", null, status, " ", pending.length);
  });
  await settled("it is offline", () => view.text().includes("offline"));
  await act(async () => db.save("a", { n: 1 }));
  await settled("one waits", () => view.text().includes('"1"'));
  node.down = false;
  await act(() => clock.advance(30_000));
  await settled("all is sent", () => view.text().includes("live") && view.text().includes('"0"'));
  await view.unmount();
  await db.close();
});

test("on a server nothing is read, and nothing breaks", async () => {
  const node = new FakeNode();
  const db = await openTab(node);
  const App = () => {
    const { loading } = useDocument(db, "a");
    const list = useList(db);
    const { status } = useStatus(db);
    return h("p", null, String(loading), String(list), typeof status);
  };
  assert.equal(renderToString(h(App)).replace(/<!-- -->/g, ""), "<p>trueundefinedstring</p>");
  await db.close();
});
