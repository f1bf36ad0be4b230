/** What a field may hold. Arrays are one value each: they are replaced whole. */
export type Value = null | boolean | number | bigint | string | Uint8Array | readonly Value[] | {
    readonly [name: string]: Value;
};
export type Wire = null | boolean | number | string | Wire[] | WireObject;
export type WireObject = {
    [name: string]: Wire;
};
/** Whether w is an object with members, so that each member is a field of its own; everything else is one value, a leaf. */
export declare function isMap(w: Wire | undefined): w is WireObject;
/** The name of a member as it is in the wire form, and back. */
export declare function wireName(name: string): string;
export declare function appName(name: string): string;
/** Turns what an app gives into the wire form, a copy; it throws a TypeError or RangeError for what no document can hold. */
export declare function encode(value: unknown, depth?: number): Wire;
export declare function wireInt(n: bigint): Wire;
/** The integer that w is, if it is one. */
export declare function integer(w: Wire | undefined): bigint | undefined;
/** Turns the wire form into what the app sees: deeply frozen, since several readers may share it. A member called __proto__ is left out. */
export declare function decode(w: Wire): Value;
export declare function equal(a: Wire | undefined, b: Wire | undefined): boolean;
