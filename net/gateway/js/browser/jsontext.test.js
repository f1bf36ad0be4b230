// The page's JSON: nothing that is read and written again may change, and what is wrong is told with its place.

import assert from 'node:assert/strict';
import test from 'node:test';
import { difference, Exact, format, fromChannel, merge, parse } from '../../page/files/page/jsontext.js';

const again = (text) => format(parse(text), 0);

test('what is read is written as it was', () => {
  for (const text of [
    '9007199254740993', '-9223372036854775808', '1.0', '1e400', '-0', '0.1', 'null', 'true', '""', '[]', '{}',
    '{"__proto__": {"x": 1}, "b": 1, "10": 2, "2": 3, "constructor": null}', '[1, [2, {"a": []}]]',
    '"\\u2028 \\"quoted\\" \\\\ \\n"',
  ]) assert.equal(again(text), text.replace('\\u2028', '\u2028'));
});

test('it reads what the browser reads, and refuses what the browser refuses', () => {
  for (const text of [
    '', ' ', '{', '}', '[1,]', '{"a":1,}', '{a:1}', "{'a':1}", '01', '1.', '.5', '+1', '-', '1e', 'nul', 'NaN', '"a', '"\n"', '"\\x"', '"\\u12"', '1 2',
    '[1 2]', '{"a" 1}', '{"a":}', '\ufeff1', '//', '{"a":1}x', '[', '"\\',
  ]) {
    assert.throws(() => JSON.parse(text), SyntaxError, text);
    assert.throws(() => parse(text), { name: 'JSONError' }, text);
  }
  for (const text of ['1', '-1.5e+3', ' [ 1 , "a" , {"b" : [true,false,null]} ] ', '"\\ud83d\\ude00\\/"', '{"":0}']) {
    assert.deepEqual(JSON.parse(again(text)), JSON.parse(text));
  }
});

test('an error names line and column', () => {
  assert.throws(() => parse('{\n  "a": 1,\n  b\n}'), { line: 3, column: 3, message: /^line 3, column 3: a member begins/ });
  assert.throws(() => parse('{"a":1,"a":2}'), /the name "a" is there twice/);
  assert.throws(() => parse('['.repeat(100_000)), /too deep/);
});

test('a difference goes by field, and lists are one value', () => {
  const paths = (a, b) => difference(parse(a), parse(b)).map((d) => d.path);
  assert.deepEqual(paths('{"a":1,"b":{"c":2,"d":[1]}}', '{"b":{"d":[1,2],"c":2},"e/f":3}'), ['/a', '/b/d', '/e~1f']);
  assert.deepEqual(paths('{"a":{}}', '{"a":{"b":1}}'), ['/a']);
  assert.deepEqual(paths('{"a":{"$bytes":"AA=="}}', '{"a":{"$bytes":"AQ=="}}'), ['/a']);
  assert.deepEqual(paths('{"a":9007199254740993}', '{"a":9007199254740992}'), ['/a']);
});

test('a merge keeps both sides, and mine where both changed one field', () => {
  const run = (base, mine, theirs) => {
    const { value, clashes } = merge(parse(base), parse(mine), parse(theirs));
    return [format(value, 0), clashes];
  };
  assert.deepEqual(run('{"a":1,"b":1}', '{"a":2,"b":1}', '{"a":1,"b":3,"c":4}'), ['{"a": 2, "b": 3, "c": 4}', []]);
  assert.deepEqual(run('{"a":1,"b":1}', '{"b":1}', '{"a":1,"b":3}'), ['{"b": 3}', []]);
  assert.deepEqual(run('{"a":1,"b":1}', '{"a":2,"b":1}', '{"b":1}'), ['{"b": 1, "a": 2}', ['/a']]);
  assert.deepEqual(run('{"a":{"x":1,"y":1}}', '{"a":{"x":2,"y":1}}', '{"a":{"x":3,"y":5}}'), ['{"a": {"x": 2, "y": 5}}', ['/a/x']]);
  assert.deepEqual(run('{"a":1}', '{"a":2}', '{"a":2}'), ['{"a": 2}', []]);
});

test('large integers of the streams read as numbers', () => {
  const doc = fromChannel(parse('{"n":{"$int":"9007199254740993"},"$$int":{"$$$int":1},"list":[{"$int":"-9007199254740993"}],"$bytes":"AA=="}'));
  assert.ok(doc.get('n') instanceof Exact);
  assert.equal(format(doc, 0), '{"n": 9007199254740993, "$int": {"$$int": 1}, "list": [-9007199254740993], "$bytes": "AA=="}');
});
