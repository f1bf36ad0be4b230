// Changes on their way to becoming a transaction.
import type { Document, SaveOptions, Snapshot } from "./api.js";
import type { Database } from "./database.js";
import { difference, type View } from "./overlay.js";
import { toNames, toPointer, type Path } from "./pointer.js";
import type { Item, Op } from "./protocol.js";
import { decode, encode, equal, isMap, type WireObject } from "./wire.js";

/** What an app has read of a document, and may base a change on. */
export interface Base {
  key: string;
  item?: Item;
  view: View;
  snapshot?: Snapshot; // what was given to the app, if it was
}

/** A change of one document. */
export interface Draft {
  key: string;
  build(read: View): Op[];
  ops?: Op[]; // built, with what was seen
}

const maxKeyBytes = 1024;

/** Several changes that become one. */
export class Transaction {
  /** @internal */ readonly drafts: Draft[] = [];
  /** @internal */ readonly bases = new Map<string, Base>();

  /** @internal */
  constructor(
    private readonly db: Database,
    private readonly add: (d: Draft, base?: object) => Draft,
  ) {}

  /** What shows under a key, with what this transaction has done so far. */
  async get<T = Document>(key: string): Promise<T | undefined> {
    const own = this.bases.get(key);
    if (own) return own.view.doc && (decode(own.view.doc) as T);
    const value = await this.db.get<T>(key);
    const base = this.db.baseOf(key);
    if (base) this.bases.set(key, base);
    return value;
  }

  save(key: string, value: object, options: SaveOptions = {}): void {
    this.drafts.push(this.add(saving(key, value), options.base ?? value));
  }

  set(key: string, path: Path, value: unknown): void {
    this.drafts.push(this.add(setting(key, path, value)));
  }

  remove(key: string, path: Path = ""): void {
    this.drafts.push(this.add(removing(key, path)));
  }

  increment(key: string, path: Path, by: number | bigint = 1): void {
    this.drafts.push(this.add(incrementing(key, path, by)));
  }
}

export function saving(key: string, value: object): Draft {
  const wanted = encode(value);
  if (!isMap(wanted) && !equal(wanted, {})) throw new TypeError("a document is an object with named fields");
  return { key, build: (read) => difference(key, read, wanted as WireObject) };
}

export function setting(key: string, path: Path, value: unknown): Draft {
  const pointer = field(path);
  const wire = encode(value);
  if (pointer === "" && !isMap(wire) && !equal(wire, {})) throw new TypeError("a document is an object with named fields");
  return { key, build: () => [{ op: "set", key, path: pointer, value: wire, seen: {} }] };
}

export function removing(key: string, path: Path): Draft {
  const pointer = field(path);
  return {
    key,
    build: (read) => {
      if (!read.doc) return [];
      return [pointer === "" ? { op: "delete", key, seen: {} } : { op: "remove", key, path: pointer, seen: {} }];
    },
  };
}

export function incrementing(key: string, path: Path, by: number | bigint): Draft {
  const pointer = field(path);
  if (typeof by === "number" && !Number.isSafeInteger(by)) throw new RangeError(`${by} is no integer that can be added exactly`);
  if (pointer === "") throw new TypeError("a document is no counter: name a field");
  const wire = encode(BigInt(by));
  return { key, build: () => [{ op: "increment", key, path: pointer, by: wire }] };
}

function field(path: Path): string {
  const pointer = toPointer(path);
  if (toNames(pointer).includes("__proto__")) throw new TypeError("no field may be called __proto__");
  return pointer;
}

export function checkKey(key: string, prefix: string): void {
  const size = typeof key === "string" ? new TextEncoder().encode(key).length : 0;
  if (!size || size > maxKeyBytes || /\p{Surrogate}/u.test(key)) throw new RangeError(`a key is text of 1 to ${maxKeyBytes} bytes`);
  if (!key.startsWith(prefix)) throw new RangeError(`the key ${JSON.stringify(key)} does not begin with ${JSON.stringify(prefix)}, which this database was opened for`);
}
