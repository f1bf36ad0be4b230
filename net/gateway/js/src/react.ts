// Hooks for React 18 and later.
import { useCallback, useMemo, useSyncExternalStore } from "react";
import type { Database, Document, Pending, Problem, SaveOptions, Snapshot, Status, Write } from "./index.js";

/** A document as a component sees it; loading until it has been read for the first time. */
export interface UsedDocument<T> {
  readonly value: T | undefined;
  readonly meta: Snapshot["meta"] | undefined;
  readonly loading: boolean;
  /** Saves by difference from the value of this rendering, whatever came since. */
  save(value: T | ((old: T | undefined) => T)): Write;
  remove(): Write;
}

/** The document under a key, rendered anew when it or its state changes. */
export function useDocument<T extends object = Document>(db: Database, key: string): UsedDocument<T> {
  const snapshot = useWatch(useMemo(() => watching((f: (s: Snapshot<T>) => void) => db.watch<T>(key, f)), [db, key]));
  return useMemo(() => {
    const base = snapshot?.value;
    return {
      value: base,
      meta: snapshot?.meta,
      loading: !snapshot,
      save: (value) => db.save(key, typeof value === "function" ? value(base) : value, { base } as SaveOptions),
      remove: () => db.remove(key),
    };
  }, [db, key, snapshot]);
}

/** The documents whose keys begin with prefix, in the order of their keys; undefined until they have been read for the first time. */
export function useList<T = Document>(db: Database, prefix = ""): readonly Snapshot<T>[] | undefined {
  return useWatch(useMemo(() => watching((f: (l: readonly Snapshot<T>[]) => void) => db.watchList<T>(prefix, f)), [db, prefix]));
}

/** Whether the client is in contact with a node, and what that node does not have yet. */
export function useStatus(db: Database): { readonly status: Status; readonly problem?: Problem; readonly pending: readonly Pending[] } {
  const source = useMemo(() => {
    const look = () => ({ status: db.status, problem: db.problem, pending: db.pending });
    let last = look();
    const get = () => {
      const now = look();
      // What is the same must be the same object, or React renders without end.
      if (JSON.stringify(now) !== JSON.stringify(last)) last = now;
      return last;
    };
    const subscribe = (f: () => void) => {
      const stops = (["status", "change", "rejected"] as const).map((e) => db.on(e, f));
      return () => stops.forEach((stop) => stop());
    };
    return { get, subscribe };
  }, [db]);
  const get = useCallback(() => source.get(), [source]);
  return useSyncExternalStore(source.subscribe, get, get);
}

interface Source<T> {
  subscribe(f: () => void): () => void;
  get(): T | undefined;
}

function watching<T>(watch: (f: (now: T) => void) => () => void): Source<T> {
  let last: T | undefined;
  return {
    get: () => last,
    subscribe: (f) =>
      watch((now) => {
        last = now;
        f();
      }),
  };
}

function useWatch<T>(source: Source<T>): T | undefined {
  return useSyncExternalStore(source.subscribe, source.get, nothing);
}

/** A server renders no local data. */
function nothing(): undefined {}
