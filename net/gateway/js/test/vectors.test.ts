// What clients in every language have to agree on with a node: testdata/gateway/v1, whose README tells the rules.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { incrementing, removing, saving, setting, type Draft } from "../src/drafts.js";
import { cellsOf, leaves, valueAt, viewOf, withSeen } from "../src/overlay.js";
import { toNames } from "../src/pointer.js";
import type { Item, Op } from "../src/protocol.js";
import { decode, encode, equal, type Wire } from "../src/wire.js";

const read = (file: string) => JSON.parse(readFileSync(`../../../testdata/gateway/v1/${file}`, "utf8"));

test("vectors: items", () => {
  const { items } = read("items.json") as { items: { name: string; item: string; cells?: Record<string, string[]>; leaves?: [string, Wire][] }[] };
  assert.ok(items.length > 10);
  for (const v of items) {
    const item = JSON.parse(v.item) as Item;
    const cells: Record<string, string[]> = {};
    for (const [dot, paths] of cellsOf(item)) for (const path of paths) (cells[path] ??= []).push(dot);
    const expected = structuredClone(v.cells ?? {});
    for (const all of [cells, expected]) Object.values(all).forEach((dots) => dots.sort());
    assert.deepEqual(cells, expected, v.name);
    const shown = leaves(item.doc).map((p) => [p, valueAt(item.doc, toNames(p))]);
    assert.deepEqual(byPath(shown as [string, Wire][]), byPath(v.leaves ?? []), v.name);
    // What an app gets and gives back unchanged is the same.
    if (item.doc) assert.ok(equal(encode(decode(item.doc)), item.doc), v.name);
  }
});

function byPath(all: [string, Wire][]): [string, Wire][] {
  return all.slice().sort(([a], [b]) => (a < b ? -1 : 1));
}

test("vectors: edits", () => {
  const { cases } = read("edits.json") as { cases: { name: string; item: Item; edit: any; ops: Op[] }[] };
  assert.ok(cases.length > 20);
  for (const v of cases) {
    const { save, set, remove, increment, delete: whole } = v.edit;
    const { key } = v.item;
    const app = (w: Wire) => decode(w) as object;
    const draft: Draft = save
      ? saving(key, app(save))
      : set
        ? setting(key, set.path, app(set.value))
        : remove
          ? removing(key, remove.path)
          : increment
            ? incrementing(key, increment.path, increment.by)
            : (assert.ok(whole), removing(key, ""));
    const ops = draft.build(viewOf(v.item)).map((op) => withSeen(op, v.item));
    assert.deepEqual(ops.map(normal), v.ops.map(normal), v.name);
  }
});

/** Dots and cells have no order. */
function normal(op: Op): Op {
  if (op.op === "increment") return op;
  return { ...op, seen: Object.fromEntries(Object.entries(op.seen ?? {}).map(([dot, cells]) => [dot, cells.slice().sort()])) };
}
