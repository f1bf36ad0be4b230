// JSON for an editor. The browser's own would change what it reads: integers beyond 2^53 lose digits, and a member that is named
// __proto__ or 10 changes its place. Here objects are Maps, and a number that a double would change stays its text (Exact).

/** Exact is a number as it is written. */
export class Exact {
  constructor(text) {
    this.text = text;
  }
}

/** JSONError says where a text is not JSON; line and column count from 1. */
export class JSONError extends Error {
  constructor(message, source, offset) {
    const before = source.slice(0, offset);
    const line = before.split('\n').length;
    const column = offset - before.lastIndexOf('\n');
    super(`line ${line}, column ${column}: ${message}`);
    this.name = 'JSONError';
    this.offset = offset;
    this.line = line;
    this.column = column;
  }
}

const maxDepth = 200; // a document has 64 levels, and its arrays some more; beyond this it is no document

const numberForm = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y;
const plainText = /[^"\\\u0000-\u001f]*/y;
const space = /[ \t\n\r]*/y;
const escapes = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

/** parse reads a text whole. It throws a JSONError. */
export function parse(source) {
  const reader = new Reader(source);
  const value = reader.value(0);
  if (reader.peek() !== '') reader.fail('there is something after the end of the value');
  return value;
}

class Reader {
  constructor(source) {
    this.source = source;
    this.at = 0;
  }

  fail(message, at = this.at) {
    throw new JSONError(message, this.source, at);
  }

  match(form) {
    form.lastIndex = this.at;
    const found = form.exec(this.source);
    if (!found) return '';
    this.at = form.lastIndex;
    return found[0];
  }

  peek() {
    this.match(space);
    return this.source.charAt(this.at);
  }

  value(depth) {
    if (depth > maxDepth) this.fail('it is nested too deep');
    const c = this.peek();
    switch (c) {
      case '{': return this.object(depth);
      case '[': return this.array(depth);
      case '"': return this.string();
      case '': return this.fail('a value is missing');
      default: return c === '-' || (c >= '0' && c <= '9') ? this.number() : this.word();
    }
  }

  number() {
    const found = this.match(numberForm);
    if (!found) this.fail('this is no number');
    return String(Number(found)) === found ? Number(found) : new Exact(found);
  }

  word() {
    for (const [name, value] of [['true', true], ['false', false], ['null', null]]) {
      if (this.source.startsWith(name, this.at)) {
        this.at += name.length;
        return value;
      }
    }
    return this.fail('a value begins with ", {, [, a digit, true, false or null');
  }

  string() {
    const begin = this.at++;
    let out = '';
    for (;;) {
      out += this.match(plainText);
      const c = this.source.charAt(this.at);
      if (c === '"') break;
      if (c !== '\\') this.fail(c === '' ? 'this text has no end' : 'a line break or control character in a text: write \\n', c === '' ? begin : this.at);
      out += this.escape();
    }
    this.at++;
    return out;
  }

  escape() {
    const c = this.source.charAt(this.at + 1);
    if (c === 'u') {
      const hex = this.source.slice(this.at + 2, this.at + 6);
      if (!/^[0-9a-fA-F]{4}$/.test(hex)) this.fail('\\u needs four hexadecimal digits');
      this.at += 6;
      return String.fromCharCode(parseInt(hex, 16));
    }
    if (!Object.hasOwn(escapes, c)) this.fail(`there is no escape \\${c}`);
    this.at += 2;
    return escapes[c];
  }

  array(depth) {
    this.at++;
    const out = [];
    if (this.peek() === ']') {
      this.at++;
      return out;
    }
    for (;;) {
      out.push(this.value(depth + 1));
      if (this.next(']')) return out;
    }
  }

  object(depth) {
    this.at++;
    const out = new Map();
    if (this.peek() === '}') {
      this.at++;
      return out;
    }
    for (;;) {
      if (this.peek() !== '"') this.fail('a member begins with its name in double quotes');
      const begin = this.at;
      const name = this.string();
      if (out.has(name)) this.fail(`the name ${JSON.stringify(name)} is there twice`, begin);
      if (this.peek() !== ':') this.fail('after a name comes a colon');
      this.at++;
      out.set(name, this.value(depth + 1));
      if (this.next('}')) return out;
    }
  }

  /** next passes a comma, or the end, and reports whether it was the end. */
  next(end) {
    const c = this.peek();
    if (c !== ',' && c !== end) this.fail(`after a value comes a comma or ${end}`);
    this.at++;
    return c === end;
  }
}

/** format writes a value, with an indent if it is not 0. */
export function format(value, indent = 2, level = 0) {
  if (value instanceof Exact) return value.text;
  const broken = indent > 0;
  const inner = broken ? `\n${' '.repeat(indent * (level + 1))}` : '';
  const outer = broken ? `\n${' '.repeat(indent * level)}` : '';
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]';
    return `[${value.map((v) => inner + format(v, indent, level + 1)).join(broken ? ',' : ', ')}${outer}]`;
  }
  if (value instanceof Map) {
    if (value.size === 0) return '{}';
    const members = [...value].map(([k, v]) => `${inner}${JSON.stringify(k)}: ${format(v, indent, level + 1)}`);
    return `{${members.join(broken ? ',' : ', ')}${outer}}`;
  }
  return JSON.stringify(value);
}

/** equal compares values; the order of members does not matter. */
export function equal(a, b) {
  if (a instanceof Exact || b instanceof Exact) return a instanceof Exact && b instanceof Exact && a.text === b.text;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((v, i) => equal(v, b[i]));
  if (a instanceof Map) return b instanceof Map && a.size === b.size && [...a].every(([k, v]) => b.has(k) && equal(v, b.get(k)));
  return a === b;
}

/** pointer adds a name to a JSON pointer. */
export const pointer = (path, name) => `${path}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;

/** isBranch reports whether a value has members that merge by themselves: an object that is not empty, nor stands for bytes. */
export const isBranch = (v) => v instanceof Map && v.size > 0 && !(v.size === 1 && v.has('$bytes'));

/**
 * difference lists what changed from one document to another: [{path, from, to}], by leaf as the engine merges them; from or to
 * is undefined where there is nothing.
 */
export function difference(from, to, path = '') {
  if (isBranch(from) && isBranch(to)) {
    const names = new Set([...from.keys(), ...to.keys()]);
    return [...names].flatMap((name) => difference(from.get(name), to.get(name), pointer(path, name)));
  }
  return equal(from, to) ? [] : [{ path, from, to }];
}

/**
 * merge brings what changed from base to mine onto theirs: {value, clashes}. Where both changed a field differently, mine is
 * taken and the path is a clash.
 */
export function merge(base, mine, theirs, path = '') {
  if (equal(mine, theirs) || equal(base, theirs)) return { value: mine, clashes: [] };
  if (equal(base, mine)) return { value: theirs, clashes: [] };
  if (!isBranch(mine) || !isBranch(theirs)) return { value: mine, clashes: [path] };
  const value = new Map();
  const clashes = [];
  for (const name of new Set([...theirs.keys(), ...mine.keys()])) {
    const before = base instanceof Map ? base.get(name) : undefined;
    const merged = merge(before, mine.get(name), theirs.get(name), pointer(path, name));
    clashes.push(...merged.clashes);
    if (merged.value !== undefined) value.set(name, merged.value);
  }
  return { value, clashes };
}

/** fromChannel undoes how the streams write large integers ({"$int": "…"}), so that a document reads as it does elsewhere. */
export function fromChannel(value) {
  if (Array.isArray(value)) return value.map(fromChannel);
  if (!(value instanceof Map)) return value;
  if (value.size === 1 && value.has('$int')) return new Exact(String(value.get('$int')));
  return new Map([...value].map(([k, v]) => [/^\$+int$/.test(k) && k.length > 4 ? k.slice(1) : k, fromChannel(v)]));
}
