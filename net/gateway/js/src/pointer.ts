// JSON pointers (RFC 6901) name the fields of a document. "" is the document itself, "/a~1b/c" is the path ["a/b", "c"].

/** A field of a document: a JSON pointer such as "/name/common", or the list of names such as ["name", "common"]. */
export type Path = string | readonly string[];

export function toPointer(path: Path): string {
  if (typeof path !== "string") return path.map((name) => "/" + escapeName(name)).join("");
  if (path !== "" && path[0] !== "/") throw new TypeError(`path ${JSON.stringify(path)} must be empty or begin with /`);
  if (/~(?![01])/.test(path)) throw new TypeError(`path ${JSON.stringify(path)}: ~ must be followed by 0 or 1`);
  return path;
}

export function toNames(pointer: string): string[] {
  return pointer === "" ? [] : pointer.slice(1).split("/").map((name) => name.replace(/~1/g, "/").replace(/~0/g, "~"));
}

export function below(pointer: string, name: string): string {
  return pointer + "/" + escapeName(name);
}

function escapeName(name: string): string {
  return name.replace(/~/g, "~0").replace(/\//g, "~1");
}

/** Whether inner is outer or lies below it. */
export function contains(outer: string, inner: string): boolean {
  return inner.startsWith(outer) && (inner.length === outer.length || inner[outer.length] === "/");
}
