// The two forms of a value: what an app sees, and what travels and is stored ("wire"), which is plain JSON. In the wire form
// binary data is {"$bytes": base64}, an integer beyond ±(2^53−1) is {"$int": digits}, and a member that is really
// called $bytes or $int (or that with further $ before it) has one more $.

/** What a field may hold. Arrays are one value each: they are replaced whole. */
export type Value = null | boolean | number | bigint | string | Uint8Array | readonly Value[] | { readonly [name: string]: Value };

export type Wire = null | boolean | number | string | Wire[] | WireObject;
export type WireObject = { [name: string]: Wire };

const special = /^\$+(bytes|int)$/;
const intLimit = 1n << 63n;
const maxDepth = 64;

/** Whether w is an object with members, so that each member is a field of its own; everything else is one value, a leaf. */
export function isMap(w: Wire | undefined): w is WireObject {
  if (typeof w !== "object" || w === null || Array.isArray(w)) return false;
  const names = Object.keys(w);
  return names.length > 1 || (names.length === 1 && names[0] !== "$bytes" && names[0] !== "$int");
}

/** The name of a member as it is in the wire form, and back. */
export function wireName(name: string): string {
  return special.test(name) ? "$" + name : name;
}

export function appName(name: string): string {
  return special.test(name) ? name.slice(1) : name;
}

/** Turns what an app gives into the wire form, a copy; it throws a TypeError or RangeError for what no document can hold. */
export function encode(value: unknown, depth = 0): Wire {
  if (depth > maxDepth) throw new RangeError(`a value is nested more than ${maxDepth} deep`);
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      return text(value);
    case "bigint":
      return int(value);
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`${value} cannot be stored`);
      if (Number.isSafeInteger(value)) return value === 0 ? 0 : value;
      return Number.isInteger(value) && Math.abs(value) < 1e21 ? int(BigInt(value)) : value;
    case "object":
      if (value === null) return null;
      if (Array.isArray(value)) return Array.from(value, (v) => encode(v, depth + 1));
      if (value instanceof Uint8Array) return { $bytes: toBase64(value) };
      return encodeObject(value, depth);
  }
  throw new TypeError(`a ${typeof value} cannot be stored`);
}

function encodeObject(value: object, depth: number): WireObject {
  const proto = Object.getPrototypeOf(value);
  // A plain object of another realm (a frame, node:vm) has a prototype of its own, which has no prototype.
  if (proto !== null && Object.getPrototypeOf(proto) !== null) {
    throw new TypeError(`a ${value.constructor?.name ?? "class instance"} cannot be stored: give plain objects`);
  }
  const o: WireObject = {};
  for (const [name, v] of Object.entries(value)) {
    if (name === "__proto__") throw new TypeError("no field may be called __proto__");
    if (v !== undefined) o[wireName(text(name))] = encode(v, depth + 1);
  }
  return o;
}

function text(s: string): string {
  // A lone surrogate is no text: it has no UTF-8.
  if (/\p{Surrogate}/u.test(s)) throw new TypeError("text with half a surrogate pair cannot be stored");
  return s;
}

function int(n: bigint): Wire {
  if (n < -intLimit || n >= intLimit) throw new RangeError(`${n} is no 64-bit integer`);
  return wireInt(n);
}

export function wireInt(n: bigint): Wire {
  const small = Number(n);
  return Number.isSafeInteger(small) ? small : { $int: String(n) };
}

/** The integer that w is, if it is one. */
export function integer(w: Wire | undefined): bigint | undefined {
  if (typeof w === "number") return Number.isSafeInteger(w) ? BigInt(w) : undefined;
  if (typeof w === "object" && w !== null && !Array.isArray(w) && typeof w["$int"] === "string" && /^-?\d+$/.test(w["$int"])) return BigInt(w["$int"]);
  return undefined;
}

/** Turns the wire form into what the app sees: deeply frozen, since several readers may share it. A member called __proto__ is left out. */
export function decode(w: Wire): Value {
  if (typeof w !== "object" || w === null) return w;
  if (Array.isArray(w)) return Object.freeze(w.map(decode));
  if (!isMap(w)) {
    if (typeof w["$bytes"] === "string") return fromBase64(w["$bytes"]);
    const n = integer(w);
    if (n !== undefined) return n;
  }
  const o: Record<string, Value> = {};
  for (const name of Object.keys(w)) if (name !== "__proto__") o[appName(name)] = decode(w[name]!);
  return Object.freeze(o);
}

export function equal(a: Wire | undefined, b: Wire | undefined): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((v, i) => equal(v, b[i]!));
  }
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((n) => Object.hasOwn(b, n) && equal(a[n]!, b[n]!));
}

function toBase64(bytes: Uint8Array): string {
  let s = "";
  for (let i = 0; i < bytes.length; i += 0x8000) s += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(s);
}

function fromBase64(s: string): Uint8Array {
  return Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
}
