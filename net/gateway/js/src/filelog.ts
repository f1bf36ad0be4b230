// One log file that is appended to, and now and then written anew.
//
// A line is a transaction: its checksum and what it changes, as JSON. A power cut may take away, or tear, what was written after the last line
// that somebody waited for; those lines are dropped at the next opening. What is wrong before that is damage, and is said.
import { open, rename, unlink, type FileHandle } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { StorageError } from "./index.js";
import type { DocRecord, Meta, Mode, PendingRecord, Store, Tx } from "./store.js";

/** One record that a transaction changes: in which of the three maps, under which key; no value: it goes. */
type Change = [map: 0 | 1 | 2, key: string | number, value?: unknown];
const [metas, docs, pending] = [0, 1, 2] as const;

interface Waiting {
  text: string;
  durable: boolean;
  resolve(): void;
  reject(e: unknown): void;
}

const compactFactor = 3; // the log is written anew when it is so many times as long as what it says
const compactMinimum = 1 << 20;

/** A store in the file `log` of a directory, of which it is the only user. */
export class FileLog implements Store {
  #maps: [Map<"", Meta>, Map<string, DocRecord>, Map<number, PendingRecord>] = [new Map(), new Map(), new Map()];
  #keys?: string[]; // of docs, sorted; undefined when they must be sorted again
  #file!: FileHandle;
  #length = 0; // of the part of the log that is known to be good
  #content = 0; // length that the log had when it was last written anew
  #turn: Promise<unknown> = Promise.resolve(); // transactions run one after the other
  #waiting: Waiting[] = [];
  #writing?: Promise<void>;
  #broken?: StorageError;
  readonly #path: string;
  readonly #dir: string;
  readonly #unlock: () => Promise<void>;

  constructor(dir: string, unlock: () => Promise<void>) {
    this.#dir = dir;
    this.#unlock = unlock;
    this.#path = join(dir, "log");
  }

  async load(): Promise<void> {
    try {
      // Opened to append: what a failed write left is cut off, never written over.
      this.#file = await open(this.#path, "a", 0o600);
      this.#read();
      await this.#file.truncate(this.#length);
      await this.#syncDirectory();
    } catch (e) {
      throw problem(e);
    }
  }

  #read(): void {
    const bytes = readFileSync(this.#path);
    for (const map of this.#maps) map.clear();
    let good = 0, bad = false, syncs = 0;
    for (let from = 0, end: number; from < bytes.length; from = end + 1) {
      end = bytes.indexOf(10, from);
      const line = end < 0 ? undefined : parse(bytes.subarray(from, end));
      if (!line) bad = true;
      else if (!bad) {
        for (const change of line.changes) this.#set(change);
        good = end + 1;
      } else if (line.durable && ++syncs > 1) {
        // The sync before the second one was over when the second was written: what is wrong before was on disk, and right.
        throw new StorageError("damaged", `${this.#path} is damaged at byte ${good}: restore a backup, or remove ${this.#dir} and lose what was not synced`);
      }
      if (end < 0) break;
    }
    this.#length = good;
    this.#content ||= good;
  }

  /** Makes a change, and returns the one that takes it back. */
  #set([map, key, value]: Change): Change {
    const m = this.#maps[map] as Map<string | number, unknown>;
    const old = m.get(key);
    if (map === docs && !old !== !value) this.#keys = undefined;
    if (value) m.set(key, value);
    else m.delete(key);
    return [map, key, old];
  }

  run<T>(mode: Mode, f: (tx: Tx) => Promise<T>): Promise<T> {
    const turn = this.#turn.then(async () => {
      if (this.#broken) throw this.#broken;
      const undo: Change[] = [], texts: string[] = [];
      const put = (...change: Change) => {
        // What is kept is what can be read back, and not the object that the caller goes on with.
        const text = JSON.stringify(change);
        undo.push(this.#set(JSON.parse(text)));
        texts.push(text);
      };
      let result: T;
      try {
        result = await f(this.#tx(put));
      } catch (e) {
        for (const change of undo.reverse()) this.#set(change);
        throw e;
      }
      // Others see it from here on, but nobody is told that it is kept before it is: what follows it is behind it in the log.
      return { result, written: texts.length ? this.#write(texts, mode === "durable") : undefined };
    });
    this.#turn = turn.catch(() => {});
    return turn.then(async ({ result, written }) => {
      await written;
      return result;
    });
  }

  #tx(put: (...change: Change) => void): Tx {
    const [m, d, p] = this.#maps;
    const copy = <V>(x: V): V => structuredClone(x);
    const inOrder = (wanted: (x: PendingRecord) => boolean, limit?: number) => copy([...p.values()].filter(wanted).sort((x, y) => x.seq - y.seq).slice(0, limit));
    return {
      meta: async () => copy(m.get("")),
      putMeta: (x) => put(metas, "", x),
      doc: async (key) => copy(d.get(key)),
      docs: async (prefix, after = "", limit = Infinity) => {
        this.#keys ??= [...d.keys()].sort();
        const found: DocRecord[] = [];
        for (let i = position(this.#keys, after > prefix ? after : prefix); found.length < limit; i++) {
          const key = this.#keys[i];
          if (!key?.startsWith(prefix)) break;
          if (key !== after) found.push(copy(d.get(key)!));
        }
        return found;
      },
      contested: async () => copy([...d.values()].filter((x) => x.contested).sort((x, y) => (x.key < y.key ? -1 : 1))),
      putDoc: (x) => put(docs, x.key, x),
      deleteDoc: (key) => put(docs, key),
      sweep: async (gen) => {
        const gone = [...d.values()].filter((x) => x.gen !== gen).map((x) => x.key);
        for (const key of gone) put(docs, key);
        return gone;
      },
      pending: async (from = 0, limit) => inOrder((x) => x.seq >= from, limit),
      pendingOf: async (key) => inOrder((x) => x.keys.includes(key)),
      putPending: (x) => put(pending, x.seq, x),
      deletePending: (seq) => put(pending, seq),
    };
  }

  #write(changes: string[], durable: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ text: format(changes, durable), durable, resolve, reject });
      this.#writing ??= this.#flush().finally(() => (this.#writing = undefined));
    });
  }

  /** Writes what waits, all of it with one sync. */
  async #flush(): Promise<void> {
    await undefined; // for what else is written in this turn
    while (this.#waiting.length) {
      const batch = this.#waiting.splice(0);
      let written = false;
      try {
        if (this.#broken) throw this.#broken;
        const bytes = Buffer.from(batch.map((w) => w.text).join(""));
        await this.#file.appendFile(bytes);
        written = true;
        if (batch.some((w) => w.durable)) await this.#file.datasync();
        this.#length += bytes.length;
        batch.forEach((w) => w.resolve());
        // In a moment in which everything that others see is written.
        if (!this.#waiting.length && this.#length > compactMinimum && this.#length > compactFactor * this.#content) await this.#compact();
      } catch (e) {
        await this.#failed(written, e);
        for (const w of [...batch, ...this.#waiting.splice(0)]) w.reject(problem(e));
      }
    }
  }

  /** Goes back to what the disk has. After a failed sync nobody knows what that is until the files are opened again. */
  async #failed(written: boolean, e: unknown): Promise<void> {
    try {
      if (written) throw e;
      await this.#file.truncate(this.#length);
      this.#read();
    } catch (e) {
      this.#broken ??= new StorageError("failed", `${this.#path} is not used until it is opened again: ${(e as Error).message}`, { cause: e });
    }
  }

  /** Writes the log anew, with only what it says in the end. Until the new one is whole and on disk the old one counts. */
  async #compact(): Promise<void> {
    const path = this.#path + ".new";
    const changes = this.#maps.flatMap((map, i) => [...map].map(([key, value]) => JSON.stringify([i, key, value])));
    let length = 0, file: FileHandle | undefined;
    try {
      file = await open(path, "w", 0o600);
      for (let i = 0; i < changes.length; i += 100) {
        // All of it is on disk before it counts.
        const bytes = Buffer.from(format(changes.slice(i, i + 100), true));
        await file.appendFile(bytes);
        length += bytes.length;
      }
      await file.datasync();
      await rename(path, this.#path);
    } catch {
      // For example because the disk is too full for both. The old log goes on.
      await unlink(path).catch(() => {});
      this.#content = this.#length;
      return;
    } finally {
      await file?.close();
    }
    await this.#syncDirectory();
    await this.#file.close();
    this.#file = await open(this.#path, "a", 0o600);
    this.#length = this.#content = length;
  }

  async #syncDirectory(): Promise<void> {
    if (process.platform === "win32") return; // there a directory cannot be opened
    const d = await open(this.#dir, "r");
    await d.sync().finally(() => d.close());
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#writing;
    this.#broken ??= new StorageError("failed", `${this.#dir} is closed`);
    await this.#file.close();
    await this.#unlock();
  }
}

/** A line: checksum, whether somebody waits for the disk, changes. */
function format(changes: string[], durable: boolean): string {
  const text = `${+durable} [${changes}]`;
  return `${checksum(text)} ${text}\n`;
}

function parse(bytes: Buffer): { durable: boolean; changes: Change[] } | undefined {
  const line = bytes.toString();
  const text = line.slice(9);
  return line.slice(0, 8) === checksum(text) ? { durable: text[0] === "1", changes: JSON.parse(text.slice(2)) } : undefined;
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, "0");
}

/** Where in the sorted keys the first is that is not less. */
function position(keys: string[], key: string, low = 0, high = keys.length): number {
  const middle = (low + high) >> 1;
  return low === high ? low : keys[middle]! < key ? position(keys, key, middle + 1, high) : position(keys, key, low, middle);
}

export function problem(e: unknown): StorageError {
  if (e instanceof StorageError) return e;
  const { code, message } = e as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") return new StorageError("quota", `the disk is full: nothing was saved (${message})`, { cause: e });
  return new StorageError("failed", message, { cause: e });
}
