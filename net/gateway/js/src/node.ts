// For Node and Electron's main process: the local data in files.
import { mkdir, readFile, unlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { FileLog, problem } from "./filelog.js";
import { open as openDatabase, StorageError, type Database, type Options, type Store } from "./index.js";

export interface NodeOptions extends Options {
  /** Where the local data are kept; made if it does not exist. One process at a time may use it. */
  directory: string;
}

/** As open of @anabranch/client, with the local data in files. */
export async function open({ directory, ...options }: NodeOptions): Promise<Database> {
  const store = await fileStore(directory);
  try {
    // One process has the files: there are no tabs to lead.
    return await openDatabase({ ...options, storage: store, platform: { lock: undefined, channel: undefined, hints: undefined, persist: undefined, ...options.platform } });
  } catch (e) {
    await store.close();
    throw e;
  }
}

const inUse = new Set<string>();

/** Opens the files of a directory. Rejects with a StorageError if another process has them, or they are damaged. */
export async function fileStore(directory: string): Promise<Store> {
  const dir = resolve(directory);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if (inUse.has(dir)) throw new StorageError("locked", `${dir} is already open in this process`);
  inUse.add(dir);
  const unlock = async () => {
    inUse.delete(dir);
    await unlink(join(dir, "lock")).catch(() => {});
  };
  try {
    await lock(dir);
  } catch (e) {
    inUse.delete(dir);
    throw e;
  }
  const store = new FileLog(dir, unlock);
  try {
    await store.load();
  } catch (e) {
    await unlock();
    throw e;
  }
  return store;
}

async function lock(dir: string): Promise<void> {
  const path = join(dir, "lock");
  for (let attempt = 1; ; attempt++) {
    try {
      return await writeFile(path, String(process.pid), { flag: "wx", mode: 0o600 });
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code !== "EEXIST" || attempt > 3) throw problem(e);
    }
    const pid = Number(await readFile(path, "utf8").catch(() => ""));
    // A process that died left it, and this one may have got its number.
    if (pid && pid !== process.pid && isAlive(pid)) throw new StorageError("locked", `${dir} is in use by process ${pid}; if that is another program, delete ${path}`);
    await unlink(path).catch(() => {});
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === "EPERM";
  }
}
