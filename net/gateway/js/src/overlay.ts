// The view of a document: what the node has, with the client's own pending changes on top. Everything here is pure, and no
// argument is changed.
import type { Item, ItemConflict, Op, Seen } from "./protocol.js";
import { below, contains, toNames } from "./pointer.js";
import { appName, equal, integer, isMap, wireInt, wireName, type Wire, type WireObject } from "./wire.js";

/** What shows of a document, undefined if it does not exist, which of its leaves are counters, and where something is hidden. */
export interface View {
  doc?: WireObject;
  counters: readonly string[];
  hidden?: readonly string[];
}

export function viewOf(item?: Item): View {
  return { doc: item?.doc, counters: item?.counters ?? [], hidden: item?.conflicts?.map((c) => c.path) };
}

export function valueAt(doc: Wire | undefined, names: readonly string[]): Wire | undefined {
  for (const name of names) {
    const member = wireName(name);
    if (!isMap(doc) || !Object.hasOwn(doc, member)) return undefined;
    doc = doc[member];
  }
  return doc;
}

/** Applies one operation as the node will, if nobody else writes meanwhile. */
export function apply(view: View, op: Op): View {
  if (op.op === "delete") return { counters: [] };
  const names = toNames(op.path);
  const isSet = op.op === "set";
  const left = (all?: readonly string[]) => all?.filter((c) => !contains(op.path, c) && !(isSet && contains(c, op.path))) ?? [];
  switch (op.op) {
    case "set":
    case "remove":
      return { doc: (isSet ? put(view.doc, names, op.value) : take(view.doc, names)) as WireObject | undefined, counters: left(view.counters), hidden: left(view.hidden) };
    case "increment": {
      const counted = view.counters.includes(op.path);
      const old = counted ? (integer(valueAt(view.doc, names)) ?? 0n) : 0n;
      const doc = put(view.doc, names, wireInt(old + integer(op.by)!)) as WireObject;
      return { ...view, doc, counters: counted ? view.counters : [...view.counters, op.path] };
    }
  }
}

function put(at: Wire | undefined, names: readonly string[], value: Wire): Wire {
  if (names.length === 0) return value;
  const name = wireName(names[0]!);
  const o = isMap(at) ? at : {};
  return { ...o, [name]: put(Object.hasOwn(o, name) ? o[name] : undefined, names.slice(1), value) };
}

/** Removes a subtree. An object that is left without members goes too: nothing says any more that it exists. */
function take(at: Wire | undefined, names: readonly string[]): Wire | undefined {
  if (names.length === 0) return undefined;
  const name = wireName(names[0]!);
  if (!isMap(at) || !Object.hasOwn(at, name)) return at;
  const inner = take(at[name], names.slice(1));
  const { [name]: _, ...rest } = at;
  if (inner !== undefined) return { ...at, [name]: inner };
  return Object.keys(rest).length ? rest : undefined;
}

/** The operations, still without what was seen, that turn what was read into what is wanted, and touch nothing else. */
export function difference(key: string, read: View, wanted: WireObject): Op[] {
  const ops: Op[] = [];
  const walk = (old: Wire | undefined, now: Wire, path: string): void => {
    if (isMap(old) && isMap(now)) {
      const from = ops.length;
      for (const name of Object.keys({ ...old, ...now }).sort()) {
        const inner = below(path, appName(name));
        if (Object.hasOwn(now, name)) walk(Object.hasOwn(old, name) ? old[name] : undefined, now[name]!, inner);
        // A member of this name is never shown to the app, so its absence says nothing.
        else if (name !== "__proto__") ops.push({ op: "remove", key, path: inner, seen: {} });
      }
      // A value that lies hidden here would show again if what is newer went: it goes with it.
      if (read.hidden?.includes(path) && ops.slice(from).some((op) => op.op === "remove")) ops.splice(from, Infinity, { op: "set", key, path, value: now, seen: {} });
      return;
    }
    if (equal(old, now)) return;
    const from = integer(old), to = integer(now);
    if (from !== undefined && to !== undefined && read.counters.includes(path)) {
      ops.push({ op: "increment", key, path, by: wireInt(to - from) }); // so that what others add meanwhile counts
    } else {
      ops.push({ op: "set", key, path, value: now, seen: {} });
    }
  };
  walk(read.doc, wanted, "");
  return ops;
}

/** Fills in the dots that the author of op had read: of the cells at its path, below, and, for a set, of values above. */
export function withSeen(op: Op, item?: Item): Op {
  if (op.op === "increment") return op;
  if (item?.large) throw new RangeError(`the document ${JSON.stringify(item.key)} of ${item.large} bytes is too large to be here, so it cannot be changed from here`);
  const path = op.op === "delete" ? "" : op.path;
  const touched = (cell: string) => contains(path, cell) || (op.op === "set" && contains(cell, path));
  const seen: Seen = {};
  for (const [dot, cells] of cellsOf(item)) {
    const hit = cells.filter(touched);
    if (hit.length) seen[dot] = hit;
  }
  return { ...op, seen };
}

/** The live dots of an item, and in which cells each is. */
export function cellsOf(item?: Item): [dot: string, cells: string[]][] {
  const dots = Object.entries(item?.dots ?? {});
  const listed = new Set(dots.flatMap(([, cells]) => (cells === true ? [] : cells)));
  // One dot may stand for the leaves that no other lists.
  return dots.map(([dot, cells]) => [dot, cells === true ? leaves(item!.doc).filter((p) => !listed.has(p)) : cells]);
}

export function leaves(w: Wire | undefined, path = ""): string[] {
  if (isMap(w)) return Object.keys(w).flatMap((name) => leaves(w[name], below(path, appName(name))));
  return w === undefined ? [] : [path];
}

/** The conflicts of an item that none of the operations on top of it settles. */
export function openConflicts(item: Item | undefined, pending: readonly Op[]): ItemConflict[] {
  return (item?.conflicts ?? []).filter((c) => !pending.some((op) => settles(op, c.shownAt)));
}

/** Whether an operation settles what competes at path: it replaces what was there, having seen all of it. */
function settles(op: Op, path: string): boolean {
  return op.op === "delete" || (op.op !== "increment" && (contains(op.path, path) || (op.op === "set" && contains(path, op.path))));
}
