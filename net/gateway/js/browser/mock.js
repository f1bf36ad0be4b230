// A gateway that is made up, for what a real one shows seldom: peers that are away, a snapshot that is being taken, refusals. It
// serves the page as the real one does. What it answers is in the hands of the test: `state` may be changed at any time.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const pageDir = fileURLToPath(new URL('../../page/', import.meta.url));

const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' };

/** hostile is what somebody may name a document, a space or a peer. */
export const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>'"&amp;`;

const hour = 3_600_000;

/** sample is a node with something of everything. */
export function sample() {
  const now = Date.now();
  const oslo = 'pck7gdpxxideiznenoorn452uhuqv3qo4cplgtrjsouseyicyjmq';
  const lima = 'c4tq5hhz7m2yb6rk3w5dn2o6p4s7x3v5j2l6a7qwertyuiopasdf';
  const nairobi = 'n7xk2q4m5l6j3h2g1f5d4s3a2p5o4i3u2y1t6r5e4w3q2m1n6b5v';
  return {
    token: 'good',
    rights: 'admin',
    node: {
      time: now, ready: true,
      you: { subject: 'ann', space: '*', rights: 'admin', expires: now + 30 * 24 * hour },
      node: { peer: 'a3k5hmvv7q2c4zl6tdy7w5u2n4p6x3rj5b7e2g4i6k2o4q6s3u5w', version: '1.4.0', started: now - 26 * hour, addresses: ['192.0.2.17:7420', '[2001:db8::17]:7420'] },
      checks: [{ name: 'open', ok: true, detail: 'it is open' }, { name: 'peers', ok: false, advisory: true, detail: '2 connected of 3 configured' }],
      clock: { state: 'sound', offsetMs: 12 },
      store: { diskBytes: 734_003_200, freeBytes: 51_200_000_000, floorBytes: 67_108_864 },
      totals: { transactions: 120_000, deltas: 340_000, commits: 9000, commitSeconds: 31 },
      rates: { seconds: 1, sentBytes: 48_000, receivedBytes: 12_000 },
      gateway: { connections: { websocket: 42, sse: 3, longpoll: 0, dashboard: 1 }, requests: 12_000 },
      peers: [
        { peer: oslo, address: '192.0.2.4:7420', connected: true, dialled: true, source: 'configured', since: now - 5 * hour, sentBytes: 7.1e9, receivedBytes: 3.2e9, skewMs: 12 },
        { peer: lima, address: '198.51.100.23:7420', connected: true, source: 'incoming', since: now - 90_000, sentBytes: 9.4e6, receivedBytes: 8.8e5, skewMs: -340 },
        { peer: nairobi, address: '203.0.113.80:7420', connected: false, dialled: true, source: 'configured', seen: now - 31 * hour, lastError: 'no answer within 10 s', skewMs: 0 },
      ],
      spaces: [
        {
          name: 'recipes', rights: 'admin', documents: 12_408, conflicts: 3, conflicted: 2, closed: true, cursor: '00000000000000aa-13000',
          stableAgeMs: 31 * hour, unpruned: 12, members: 3, counting: 3, heldBackBy: [nairobi],
          peers: [
            { peer: oslo, connected: true, level: true, known: 460_000, pending: 0, lagMs: 0 },
            { peer: lima, connected: true, level: false, known: 431_220, pending: 1840, lagMs: 95_000 },
            { peer: nairobi, connected: false, level: false, known: 380_000, pending: 8021, lagMs: 30 * hour },
          ],
        },
        { name: 'notes', rights: 'write', documents: 87, conflicts: 0, conflicted: 0, closed: true, cursor: '00000000000000aa-90', stableAgeMs: 0, heldBackBy: [], peers: [{ peer: oslo, connected: true, level: true, known: 800, pending: 0 }] },
      ],
    },
    documents: new Map([
      ['apple', { etag: '"01"', text: '{"name":{"common":"Apple"},"price":3,"sold":9007199254740993}' }],
      ['soup/pumpkin', { etag: '"02"', text: '{"title":"Pumpkin soup","serves":4,"steps":["cut","cook","season"]}' }],
      [hostile, { etag: '"03"', text: JSON.stringify({ [hostile]: hostile, deep: { [hostile]: [hostile] } }) }],
    ]),
    contests: new Map([
      ['apple', [
        { path: '/price', shown: 5, author: '0f67d410bff8c7a1', at: now - 60_000, lost: [{ path: '/price', value: 4, author: '77aa01c2bff8c7a1', at: now - 61_000 }] },
        {
          path: '/name/common', shown: 'Apple', author: '0f67d410bff8c7a1', at: now - 60_000,
          lost: [{ path: '/name/common', value: hostile, author: '77aa01c2bff8c7a1', at: now - 61_000 }],
        },
      ]],
      [hostile, [{ path: `/${hostile}`, shown: { a: 1 }, author: '01', at: now, lost: [{ path: `/${hostile}/x`, value: hostile, author: '02', at: now - 5 }] }]],
    ]),
    feed: [
      { key: 'apple', cursor: '00000000000000aa-12998', doc: { price: 5, big: { $int: '9007199254740993' } }, at: now - 4000, author: '0f67d410bff8c7a1', conflicts: [{}, {}] },
      { key: 'soup/pumpkin', cursor: '00000000000000aa-12999', deleted: true, at: now - 3000, author: '77aa01c2bff8c7a1' },
      { key: hostile, cursor: '00000000000000aa-13000', doc: { [hostile]: hostile }, at: now - 1000, author: '77aa01c2bff8c7a1' },
    ],
    /** override answers a request itself if it returns true. */
    override: () => false,
    requests: [],
  };
}

/** serve starts the made-up gateway on a free port: {url, state, send(items), tick(), close()}. */
export async function serve(state = sample()) {
  const streams = new Set();
  const server = createServer((req, res) => {
    const url = new URL(req.url, 'http://mock');
    state.requests.push(`${req.method} ${req.url}`);
    Promise.resolve(answer(state, streams, req, res, url)).catch((error) => {
      res.statusCode = 500;
      res.end(String(error));
    });
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const to = (name, event, data) => {
    for (const s of streams) if (s.name === name) s.res.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    state,
    send: (items) => to('changes', 'changes', { items, cursor: items.at(-1).cursor }),
    tick: () => to('node', 'node', state.node),
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => { server.close(resolve); });
    },
  };
}

/** policy is that of the real page. */
const policy = [.../const Policy = ((?:"[^"]*"(?: \+\s*)?)+)/.exec(await readFile(path.join(pageDir, 'page.go'), 'utf8'))[1].matchAll(/"([^"]*)"/g)]
  .map((m) => m[1]).join('');

async function answer(state, streams, req, res, url) {
  if (url.pathname === '/' || url.pathname.startsWith('/page/')) {
    const name = url.pathname === '/' ? 'index.html' : url.pathname;
    const body = await readFile(path.join(pageDir, 'files', path.normalize(name)));
    res.writeHead(200, { 'Content-Type': types[path.extname(name)], 'Content-Security-Policy': policy });
    res.end(body);
    return;
  }
  const problem = (status, code, detail, headers = {}) => {
    res.writeHead(status, { 'Content-Type': 'application/problem+json', ...headers });
    res.end(JSON.stringify({ title: code, status, code, detail }));
  };
  const json = (body, headers = {}) => {
    res.writeHead(200, { 'Content-Type': 'application/json', ...headers });
    res.end(typeof body === 'string' ? body : JSON.stringify(body));
  };
  if (state.override(req, res, { problem, json })) return;
  if (req.headers.authorization !== `Bearer ${state.token}`) return problem(401, 'unauthenticated', 'this token is not one of this node');
  const stream = (name, ...events) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const s = { name, res };
    streams.add(s);
    res.on('close', () => streams.delete(s));
    res.write(': \n\n');
    for (const [event, data] of events) res.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  if (url.pathname === '/v1/spaces') return json({ spaces: state.node.spaces.map(({ name, rights, documents, conflicts }) => ({ name, rights: state.rights === 'read' ? 'read' : rights, documents, conflicts })) });
  if (url.pathname === '/v1/node/events') return stream('node', ['node', state.node]);
  const [, , , space, what, ...rest] = url.pathname.split('/');
  const key = decodeURIComponent(rest.join('/'));
  if (!state.node.spaces.some((s) => s.name === decodeURIComponent(space ?? ''))) return problem(404, 'not-found', 'there is no such space');
  switch (what) {
    case 'status': return json(state.node.spaces[0]);
    case 'events': return stream('changes', ['changes', { items: state.feed.filter((i) => !url.searchParams.has('key') || url.searchParams.get('key') === i.key), cursor: state.feed.at(-1)?.cursor ?? 'aa-0' }]);
    case 'conflicts': return conflicts(state, req, { json, problem, key });
    case 'docs': return documents(state, req, { json, problem, key, url, res });
    default: return problem(404, 'not-found', 'there is nothing here');
  }
}

async function conflicts(state, req, { json, problem, key }) {
  if (!key) {
    const list = [...state.contests].map(([k, c]) => ({ key: k, count: c.length }));
    return json({ conflicts: list, count: list.reduce((n, c) => n + c.count, 0), documents: list.length });
  }
  if (req.method === 'POST') {
    const { path: at } = state.settled = JSON.parse(await read(req));
    const left = (state.contests.get(key) ?? []).filter((c) => at !== '' && c.path !== at);
    if (left.length) state.contests.set(key, left);
    else state.contests.delete(key);
    return json({ cursor: 'aa-1' });
  }
  if (!state.documents.has(key)) return problem(404, 'not-found', 'there is no such document');
  return json({ key, contests: state.contests.get(key) ?? [] }, { ETag: state.documents.get(key).etag });
}

async function documents(state, req, { json, problem, key, url, res }) {
  if (!key) {
    const prefix = url.searchParams.get('prefix') ?? '';
    return json({ documents: [...state.documents.keys()].filter((k) => k.startsWith(prefix)).sort().map((k) => ({ key: k, etag: '01' })) });
  }
  const doc = state.documents.get(key);
  if (req.method === 'GET') {
    if (!doc) return problem(404, 'not-found', 'there is no such document');
    if (url.searchParams.has('meta')) return json({ key, at: Date.now() - 60_000, author: '0f67d410bff8c7a1', counters: ['/sold'], doc: {}, conflicts: (state.contests.get(key) ?? []).map(() => ({})) });
    return json(doc.text, { ETag: doc.etag });
  }
  const match = req.headers['if-match'];
  if ((match && match !== doc?.etag) || (req.headers['if-none-match'] === '*' && doc)) return problem(412, 'precondition-failed', 'the document has changed');
  if (req.method === 'DELETE') {
    state.documents.delete(key);
    res.writeHead(204);
    return res.end();
  }
  const etag = `"${Math.random().toString(16).slice(2)}"`;
  state.documents.set(key, { etag, text: await read(req) });
  return json({ cursor: 'aa-1', etag }, { ETag: etag });
}

async function read(req) {
  const parts = [];
  for await (const part of req) parts.push(part);
  return Buffer.concat(parts).toString();
}
