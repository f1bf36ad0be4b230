import type { Item, ItemConflict, Op } from "./protocol.js";
import { type Wire, type WireObject } from "./wire.js";
/** What shows of a document, undefined if it does not exist, which of its leaves are counters, and where something is hidden. */
export interface View {
    doc?: WireObject;
    counters: readonly string[];
    hidden?: readonly string[];
}
export declare function viewOf(item?: Item): View;
export declare function valueAt(doc: Wire | undefined, names: readonly string[]): Wire | undefined;
/** Applies one operation as the node will, if nobody else writes meanwhile. */
export declare function apply(view: View, op: Op): View;
/** The operations, still without what was seen, that turn what was read into what is wanted, and touch nothing else. */
export declare function difference(key: string, read: View, wanted: WireObject): Op[];
/** Fills in the dots that the author of op had read: of the cells at its path, below, and, for a set, of values above. */
export declare function withSeen(op: Op, item?: Item): Op;
/** The live dots of an item, and in which cells each is. */
export declare function cellsOf(item?: Item): [dot: string, cells: string[]][];
export declare function leaves(w: Wire | undefined, path?: string): string[];
/** The conflicts of an item that none of the operations on top of it settles. */
export declare function openConflicts(item: Item | undefined, pending: readonly Op[]): ItemConflict[];
