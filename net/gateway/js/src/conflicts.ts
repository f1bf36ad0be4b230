// What was written concurrently and does not show, and what the policies "merge" and "ask" do about it. Writing the field again, having
// seen all of it, settles it. Loaded when it is first needed.
import type { Conflict, Policy, Write } from "./api.js";
import { toNames } from "./pointer.js";
import type { Platform } from "./platform.js";
import type { ItemConflict } from "./protocol.js";
import type { Value, Wire, WireObject } from "./wire.js";

/** A document whose conflicts are looked at. */
export interface Case {
  key: string;
  open: readonly ItemConflict[]; // those that no pending change settles
  shown(path: string): Value | undefined;
  choose(path: string, value: unknown): Write; // as one who has seen all of them
}

/** What the database does for it. */
export interface Court {
  platform: Platform;
  policy(): Policy;
  merge?: (conflict: Conflict) => unknown;
  look(key: string): Promise<Case>;
  decode(w: Wire): Value;
  ask(conflict: Conflict): void;
  error(e: unknown): void;
}

export class Judge {
  readonly #court: Court;
  readonly #told = new Map<string, string>(); // key → conflicts that the app was told of
  readonly #merges = new Map<string, { count: number; last: number; timer?: unknown }>();

  constructor(court: Court) {
    this.#court = court;
  }

  /** Does what the policy says about documents that have conflicts, or had. */
  async judge(keys: Iterable<string>): Promise<void> {
    for (const key of keys) {
      const found = await this.#court.look(key);
      const policy = this.#court.policy();
      if (policy === "last-write-wins") return;
      if (!found.open.length) this.#told.delete(key);
      else if (policy === "merge") this.#merge(found);
      else {
        const now = JSON.stringify(found.open.map((c) => [c.path, c.author, c.at, c.shownAt]));
        if (this.#told.get(key) === now) continue;
        this.#told.set(key, now);
        for (const c of this.conflicts(found)) this.#court.ask(c);
      }
    }
  }

  close(): void {
    for (const m of this.#merges.values()) this.#court.platform.clearTimeout(m.timer);
  }

  conflicts({ key, open, shown, choose }: Case): Conflict[] {
    const places = new Map<string, ItemConflict[]>();
    for (const c of open) places.set(c.shownAt, [...(places.get(c.shownAt) ?? []), c]);
    return [...places].map(([path, lost]) => {
      const others = lost.filter((c) => c.path === path);
      const hidden = hiddenMap(path, lost.filter((c) => c.path !== path));
      if (hidden) others.push(hidden);
      others.sort((a, b) => b.at - a.at || (a.author < b.author ? 1 : -1));
      return {
        key,
        path,
        value: shown(path),
        others: others.map(({ value, author, at }) => ({ value: this.#court.decode(value), author, at })),
        choose: (value: unknown) => choose(path, value),
      };
    });
  }

  /**
   * Two clients that merge the same conflict at once make a new one, of their results. It is none if the function gives both the same;
   * else it must not go round and round: each further merge of a document waits longer, at random.
   */
  #merge(found: Case): void {
    const { platform, merge } = this.#court;
    const past = this.#merges.get(found.key);
    if (past?.timer !== undefined) return;
    const now = platform.now();
    const count = past && now - past.last < 60_000 ? past.count + 1 : 0;
    const entry: { count: number; last: number; timer?: unknown } = { count, last: now };
    this.#merges.set(found.key, entry);
    if (count > 1) {
      entry.timer = platform.setTimeout(() => {
        // With the pause it is as if this were the first time again, but for the count.
        this.#merges.set(found.key, { count, last: -Infinity });
        void this.#again(found.key, count);
      }, platform.random() * Math.min(100 * 2 ** count, 30_000));
      return;
    }
    this.#settle(found, merge);
  }

  async #again(key: string, count: number): Promise<void> {
    try {
      const found = await this.#court.look(key);
      this.#merges.set(key, { count, last: this.#court.platform.now() });
      if (this.#court.policy() === "merge") this.#settle(found, this.#court.merge);
    } catch (e) {
      this.#court.error(e);
    }
  }

  #settle(found: Case, merge: Court["merge"]): void {
    for (const c of this.conflicts(found)) {
      try {
        void c.choose(merge ? merge(c) : c.value).catch((e) => this.#court.error(e));
      } catch (e) {
        this.#court.error(e);
      }
    }
  }
}

/** The fields that a value hides are one candidate: the object that they make. */
function hiddenMap(path: string, fields: ItemConflict[]): ItemConflict | undefined {
  if (!fields.length) return undefined;
  const newest = fields.reduce((a, b) => (b.at > a.at ? b : a));
  const value: WireObject = {};
  for (const f of fields) {
    const names = toNames(f.path.slice(path.length)).map(member);
    const last = names.pop()!;
    let o = value;
    for (const name of names) {
      const inner = Object.hasOwn(o, name) ? o[name] : undefined;
      // An inner value that competes in turn with fields below it gives way to them.
      o = o[name] = (typeof inner === "object" && inner !== null && !Array.isArray(inner) ? inner : {}) as WireObject;
    }
    // At one path the newest comes first.
    if (!Object.hasOwn(o, last)) o[last] = f.value;
  }
  return { ...newest, path, value };
}

/** The name in the wire form. __proto__ can be nobody's member here; it is never shown either. */
function member(name: string): string {
  return name === "__proto__" ? "$__proto__" : /^\$+(bytes|int)$/.test(name) ? "$" + name : name;
}
