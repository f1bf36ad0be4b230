/** A field of a document: a JSON pointer such as "/name/common", or the list of names such as ["name", "common"]. */
export type Path = string | readonly string[];
export declare function toPointer(path: Path): string;
export declare function toNames(pointer: string): string[];
export declare function below(pointer: string, name: string): string;
/** Whether inner is outer or lies below it. */
export declare function contains(outer: string, inner: string): boolean;
