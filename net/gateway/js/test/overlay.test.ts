import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { apply, difference, leaves, openConflicts, valueAt, viewOf, withSeen, type View } from "../src/overlay.js";
import { contains, toNames, toPointer } from "../src/pointer.js";
import { reached, type Item, type Op } from "../src/protocol.js";
import { decode, encode, equal, isMap, wireName, type Wire, type WireObject } from "../src/wire.js";
import { following } from "../src/indexeddb.js";
import { FakeNode } from "./support/fakenode.js";

const runs = { numRuns: Number(process.env["ANABRANCH_LAW_CASES"] ?? 1000) };

// Few names and values, so that they meet; among them those that are special somewhere.
const name = fc.constantFrom("a", "b", "c", "", "a/b", "~", "$bytes", "$int", "$$int", "constructor", "ä", "\u{1f33f}");
const scalar = fc.oneof(fc.constant(null), fc.boolean(), fc.constantFrom(0, 1, -1, 2 ** 53 - 1, 0.5, 1e300, 5e-324), fc.constantFrom("", "x", "\0", "\u{1f33f}"), fc.constantFrom(2n ** 53n, -(2n ** 63n), 2n ** 63n - 1n), fc.uint8Array({ maxLength: 4 }));
const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof({ depthSize: "small", maxDepth: 4 }, scalar, fc.array(tie("value"), { maxLength: 3 }), fc.dictionary(name, tie("value"), { maxKeys: 4, noNullPrototype: true })),
}));
const document = fc.dictionary(name, value, { maxKeys: 4, noNullPrototype: true }) as fc.Arbitrary<object>;

/** An object without members is only there while it has some, unless it was written as such: see design.md. */
const wireDocument = document.map((d) => encode(d) as WireObject);
const pathOf = fc.array(name, { maxLength: 3 }).map(toPointer);
const operation: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ op: fc.constant("set" as const), key: fc.constant("k"), path: pathOf, value: value.map((v) => encode(v)), seen: fc.constant({}) }).filter((op) => op.path !== "" || isMap(op.value)),
  fc.record({ op: fc.constant("remove" as const), key: fc.constant("k"), path: pathOf, seen: fc.constant({}) }),
  fc.record({ op: fc.constant("increment" as const), key: fc.constant("k"), path: pathOf.filter((p) => p !== ""), by: fc.integer({ min: -5, max: 5 }) }),
);
const view = fc.tuple(wireDocument, fc.array(operation, { maxLength: 4 })).map(([doc, ops]) => ops.reduce<View>(apply, { doc, counters: [] }));

function frozen<T>(x: T): T {
  if (typeof x === "object" && x !== null && !Object.isFrozen(x)) {
    Object.freeze(x);
    Object.values(x).forEach(frozen);
  }
  return x;
}

test("what is encoded is decoded as it was", () => {
  fc.assert(fc.property(value, (v) => assert.deepEqual(decode(encode(v)), v)), runs);
  fc.assert(fc.property(value, (v) => assert.deepEqual(decode(JSON.parse(JSON.stringify(encode(v)))), v)), runs);
});

test("equal is deep equality", () => {
  fc.assert(fc.property(value, value, (a, b) => {
    const [x, y] = [encode(a), encode(b)];
    assert.ok(equal(x, encode(a)));
    assert.equal(equal(x, y), JSON.stringify(sorted(x)) === JSON.stringify(sorted(y)));
  }), runs);
});

function sorted(w: Wire): unknown {
  if (Array.isArray(w)) return w.map(sorted);
  if (typeof w !== "object" || w === null) return w;
  return { of: Object.entries(w).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, sorted(v)]) };
}

test("what no document can hold is refused with a clear error", () => {
  const self: unknown[] = [];
  self.push(self);
  const bad: [unknown, RegExp][] = [
    [NaN, /NaN cannot be stored/],
    [Infinity, /Infinity cannot/],
    [undefined, /undefined cannot/],
    [() => 1, /function cannot/],
    [Symbol("x"), /symbol cannot/],
    [new Date(0), /a Date cannot be stored/],
    [new Map(), /a Map cannot/],
    ["\ud800", /surrogate/],
    [{ "\udc00": 1 }, /surrogate/],
    [JSON.parse('{"__proto__": 1}'), /__proto__/],
    [2n ** 63n, /64-bit/],
    [1e19, /64-bit/],
    [self, /nested/],
  ];
  for (const [v, message] of bad) assert.throws(() => encode(v), message);
  assert.deepEqual(encode({ a: undefined, b: -0, c: 2 ** 60 }), { b: 0, c: { $int: "1152921504606846976" } });
});

test("a member called __proto__ never reaches the app, nor is it removed", () => {
  const wire = JSON.parse('{"a":1,"__proto__":{"polluted":true}}') as WireObject;
  const shown = decode(wire) as any;
  assert.deepEqual(Object.keys(shown), ["a"]);
  assert.equal(shown.polluted, undefined);
  assert.deepEqual(difference("k", { doc: wire, counters: [] }, encode(shown) as WireObject), []);
  const next = apply({ doc: wire, counters: [] }, { op: "set", key: "k", path: "/b", value: 1, seen: {} });
  assert.ok(Object.hasOwn(next.doc!, "__proto__") && ({} as any).polluted === undefined);
});

test("law: a difference applied to what was read gives what is wanted", () => {
  fc.assert(fc.property(view, wireDocument, (read, wanted) => {
    const ops = difference("k", frozen(read), frozen(wanted));
    const result = ops.reduce(apply, read);
    assert.ok(equal(result.doc, wanted), JSON.stringify({ read, wanted, ops, result }));
  }), runs);
});

test("law: no difference, no operation", () => {
  fc.assert(fc.property(view, (read) => {
    if (read.doc) assert.deepEqual(difference("k", read, structuredClone(read.doc)), []);
  }), runs);
});

test("law: a difference touches nothing but what differs", () => {
  fc.assert(fc.property(view, wireDocument, (read, wanted) => {
    const before = new Set(leaves(read.doc)), after = new Set(leaves(wanted));
    for (const op of difference("k", read, wanted)) {
      const path = op.op === "delete" ? "" : op.path;
      for (const p of before) {
        if (!contains(path, p) || !after.has(p)) continue;
        const [old, now] = [valueAt(read.doc, toNames(p)), valueAt(wanted, toNames(p))];
        // A leaf below a field that is replaced whole may be the same only where that field was no object.
        assert.ok(!equal(old, now) || !isMap(valueAt(read.doc, toNames(path))), `${path} writes ${p}`);
      }
    }
  }), runs);
});

test("law: changes of different fields do not disturb each other, in either order", () => {
  fc.assert(fc.property(view, operation, operation, (v, one, two) => {
    const [p, q] = [one, two].map((op) => (op as { path: string }).path) as [string, string];
    if (contains(p, q) || contains(q, p)) return;
    // Removing the last member of an object removes the object, where the other may be at work.
    const ab = apply(apply(v, one), two), ba = apply(apply(v, two), one);
    if (one.op !== "remove" && two.op !== "remove") assert.ok(equal(ab.doc, ba.doc));
    if (one.op === "set" && ab.doc) assert.ok(equal(valueAt(ab.doc, toNames(p)), one.value));
  }), runs);
});

test("law: increments add up in any order", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 8 }), (ns) => {
    const ops = ns.map((by): Op => ({ op: "increment", key: "k", path: "/n", by }));
    const sum = ns.reduce((a, b) => a + b, 0);
    assert.deepEqual(ops.reduce(apply, { counters: [] }).doc, { n: sum });
    assert.deepEqual(ops.reverse().reduce(apply, { counters: [] }).doc, { n: sum });
  }), runs);
});

test("law: nothing that is given is changed", () => {
  fc.assert(fc.property(view, operation, (v, op) => void apply(frozen(v), frozen(op))), runs);
});

test("law: the overlay foretells what the node will have", () => {
  fc.assert(fc.property(wireDocument.filter(isMap), fc.array(operation, { minLength: 1, maxLength: 6 }), (doc, ops) => {
    const node = new FakeNode();
    node.write("k", doc, undefined, 1);
    const item = node.item("k")!;
    let read = viewOf(item);
    const client = "00000000000000cc";
    ops.forEach((op, i) => {
      // As the client does it: a field that is no counter is not made one, and what is gone is not removed.
      if (op.op === "increment" && !read.counters.includes(op.path)) return;
      if (op.op !== "set" && !read.doc) return;
      node.change([withSeen(op, item)], client, 10 + i);
      read = apply(read, op);
    });
    assert.ok(equal(node.doc("k"), read.doc), JSON.stringify([node.doc("k"), read.doc]));
    assert.equal(node.item("k")!.conflicts, undefined);
  }), runs);
});

test("a difference at a counter is an increment", () => {
  const read: View = { doc: { n: 5, plain: 5 }, counters: ["/n"] };
  assert.deepEqual(difference("k", read, { n: 7, plain: 7 }), [
    { op: "increment", key: "k", path: "/n", by: 2 },
    { op: "set", key: "k", path: "/plain", value: 7, seen: {} },
  ]);
  assert.deepEqual(difference("k", read, { n: "seven", plain: 5 }), [{ op: "set", key: "k", path: "/n", value: "seven", seen: {} }]);
  const far: View = { doc: { n: { $int: "9007199254740993" } }, counters: ["/n"] };
  assert.deepEqual(difference("k", far, { n: 0 }), [{ op: "increment", key: "k", path: "/n", by: { $int: "-9007199254740993" } }]);
});

test("what a change has seen: the cells that it touches, as they were read", () => {
  const item: Item = {
    key: "k",
    cursor: "0-1",
    doc: { a: 1, b: { c: 2, d: [3] }, e: {} },
    dots: { rest: true, other: ["/b/c"], hidden: ["/a/x", "/b"], empty: ["/e"] },
  };
  const set = (path: string): Op => ({ op: "set", key: "k", path, value: 1, seen: {} });
  const seen = (op: Op) => (withSeen(op, item) as { seen: object }).seen;
  assert.deepEqual(seen(set("/a")), { rest: ["/a"], hidden: ["/a/x"] }, "below too, though it does not show");
  assert.deepEqual(seen(set("/b/c")), { other: ["/b/c"], hidden: ["/b"] }, "a value above goes too");
  assert.deepEqual(seen({ op: "remove", key: "k", path: "/b/c", seen: {} }), { other: ["/b/c"] }, "but not for a removal");
  assert.deepEqual(seen({ op: "delete", key: "k", seen: {} }), { rest: ["/a", "/b/d"], other: ["/b/c"], hidden: ["/a/x", "/b"], empty: ["/e"] });
  assert.deepEqual(seen(set("/new")), {});
  assert.deepEqual((withSeen(set("/a"), undefined) as { seen: object }).seen, {});
});

test("conflicts that a pending change settles are no longer open", () => {
  const conflict = (shownAt: string, path = shownAt) => ({ path, shownAt, value: 1, author: "x", at: 1 });
  const item: Item = { key: "k", cursor: "0-1", doc: {}, conflicts: [conflict("/a"), conflict("/b", "/b/c")] };
  const open = (...ops: Op[]) => openConflicts(item, ops).map((c) => c.path);
  assert.deepEqual(open(), ["/a", "/b/c"]);
  assert.deepEqual(open({ op: "set", key: "k", path: "/a", value: 1, seen: {} }), ["/b/c"]);
  assert.deepEqual(open({ op: "set", key: "k", path: "/b/c", value: 1, seen: {} }), ["/a"]);
  assert.deepEqual(open({ op: "remove", key: "k", path: "/b/c", seen: {} }), ["/a", "/b/c"], "what hides it stays");
  assert.deepEqual(open({ op: "increment", key: "k", path: "/a", by: 1 }), ["/a", "/b/c"]);
  assert.deepEqual(open({ op: "delete", key: "k", seen: {} }), []);
});

test("pointers", () => {
  fc.assert(fc.property(fc.array(fc.string(), { maxLength: 4 }), (names) => assert.deepEqual(toNames(toPointer(names)), names)), runs);
  assert.throws(() => toPointer("a"), /begin with/);
  assert.throws(() => toPointer("/a~2"), /followed by/);
  assert.ok(contains("", "/a") && contains("/a", "/a/b") && !contains("/a", "/ab"));
});

test("cursors of one feed compare as numbers, those of two not at all", () => {
  const [a, b] = ["00000000feed0001", "00000000feed0002"];
  assert.equal(reached(`${a}-10`, `${a}-9`), true);
  assert.equal(reached(`${a}-9`, `${a}-10`), false);
  assert.equal(reached(`${a}-9`, `${a}-9`), true);
  assert.equal(reached(`${a}-9`, `${b}-9`), undefined);
  assert.equal(reached(undefined, `${b}-9`), undefined);
  assert.equal(reached(`${a}-9007199254740993`, `${a}-9007199254740992`), true);
});

test("the first key after all with a prefix", () => {
  assert.equal(following("todo/"), "todo0");
  assert.equal(following("a\uffff"), "b");
  assert.equal(following(""), undefined);
  fc.assert(fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (prefix, rest) => {
    const end = following(prefix);
    assert.ok(end === undefined || (prefix + rest < end && !end.startsWith(prefix)));
  }), runs);
});

test("names that are special in the wire form", () => {
  assert.deepEqual(["a", "$bytes", "$$int", "$other"].map(wireName), ["a", "$$bytes", "$$$int", "$other"]);
  assert.deepEqual(encode({ $bytes: "x" }), { $$bytes: "x" });
  assert.deepEqual(decode({ $$bytes: "x" }), { $bytes: "x" });
});
