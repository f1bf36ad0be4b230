// @anabranch/client in real browsers, with real nodes: what is in the end must be what the engine has, and what was written.
//
// The app here is an empty page: what it does, the tests tell it. It is given to the browser by the tests, not by the node, so that it opens
// without one, as an installed app does.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test, { after, before, describe } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { directory, executable, flags, launch, skip } from './chromium.js';
import { build, Node, until } from './node.js';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const space = 'notes';

describe('the client in a browser', { skip, timeout: 900_000 }, () => {
  let built;
  let browser;
  before(async () => {
    built = await build();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await built?.remove();
  });

  /** install lets a context open the app at the node's origin whether the node is there or not. */
  async function install(context, node) {
    await context.route(`${node.url}/app/**`, async (route) => {
      const name = new URL(route.request().url()).pathname.slice('/app/'.length);
      if (name === '') await route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>app</title><link rel="icon" href="data:,">' });
      else await route.fulfill({ contentType: 'text/javascript', body: await readFile(dist + name.replace(/[^a-z.-]/g, '')) });
    });
  }

  /** App is one page with the client open in it. */
  class App {
    static async open(context, node, token, options = {}) {
      const app = new App();
      app.page = await context.newPage();
      app.sockets = [];
      app.page.on('websocket', (ws) => app.sockets.push(ws));
      const { wait = true, ...rest } = options;
      Object.assign(app, { node, token, options: rest });
      await app.load({ wait });
      return app;
    }

    async load({ wait = true } = {}) {
      await this.page.goto(`${this.node.url}/app/`);
      await this.page.evaluate(async ([url, token, name, options]) => {
        const { open } = await import('/app/index.js');
        globalThis.token = token;
        const { hurry, ...rest } = options; // what the client does once a minute or more seldom it does each second
        const platform = hurry && { setTimeout: (f, ms) => setTimeout(f, ms >= 60_000 ? 1000 : ms) };
        globalThis.db = await open({ url, space: name, token: () => globalThis.token, ...rest, ...(platform && { platform }) });
        globalThis.seen = [];
        db.on('status', ({ status }) => globalThis.seen.push(status));
      }, [this.node.url, this.token, space, this.options]);
      if (wait) await this.live();
    }

    /** run runs a function in the page; db is there. */
    run(f, ...args) {
      return this.page.evaluate(f, ...args);
    }

    status() {
      return this.run(() => db.status);
    }

    live() {
      return until('the status', () => this.status().then((s) => s === 'live' || s));
    }

    settled() {
      return until('what waits to be sent', () => this.run(() => db.pending.length).then((n) => n === 0 || n));
    }

    /** documents are all that the client shows, by key. */
    documents() {
      return this.run(async () => Object.fromEntries((await db.list()).map((s) => [s.key, s.value])));
    }

    save(key, value) {
      return this.run(([k, v]) => db.save(k, v), [key, value]);
    }
  }

  /** equal waits until all apps show what the nodes' engines have, and returns it. */
  async function equal(nodes, apps) {
    for (const app of apps) await app.settled();
    await until('the documents of all', async () => {
      const want = await nodes[0].documents(space);
      for (const n of nodes.slice(1)) {
        const other = await n.documents(space);
        if (!same(want, other)) return { want, other };
      }
      for (const [i, a] of apps.entries()) {
        const shown = await a.documents();
        if (!same(want, shown)) return { app: i, want, shown };
      }
      return true;
    });
    return nodes[0].documents(space);
  }

  const sorted = (v) => (v && typeof v === 'object' && !Array.isArray(v) ? Object.fromEntries(Object.keys(v).sort().map((k) => [k, sorted(v[k])])) : v);
  const same = (a, b) => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));

  /** with gives a test a node, with a token for its space, and makes windows with the app. */
  const scenario = (name, run) => test(name, async () => {
    const node = await Node.open(built.command);
    const contexts = [];
    const world = {
      node,
      token: await node.token({ space, rights: 'write' }),
      /** window opens a context of its own; before it is asked what the network is like. */
      async window(prepare) {
        const w = await browser.context();
        contexts.push(w);
        await install(w.context, node);
        await prepare?.(w.context);
        return w.context;
      },
      async app(options, prepare) {
        return App.open(await world.window(prepare), node, world.token, options);
      },
    };
    try {
      await run(world);
      for (const w of contexts) assert.deepEqual(w.problems.filter((p) => !/ERR_|WebSocket|40[13]|Failed to load/.test(p)), [], 'on the console');
    } finally {
      for (const w of contexts) await w.close();
      await node.close();
    }
  });

  scenario('edits made offline in two browsers meet, and are what the node has', async ({ node, app }) => {
    const a = await app();
    await a.save('todo/1', { title: 'milk', done: false, tags: ['x'] });
    await a.save('todo/2', { title: 'bread' });
    await a.settled();
    const b = await app();
    await until('what b has', async () => Object.keys(await b.documents()).length === 2 || b.documents());
    await a.page.context().setOffline(true);
    await b.page.context().setOffline(true);
    await node.kill(); // a WebSocket that is open does not mind setOffline
    await a.run(async () => {
      await db.save('todo/1', { ...(await db.get('todo/1')), title: 'oat milk' });
      await db.increment('todo/1', '/views', 2);
      await db.save('only/a', { by: 'a' });
      await db.remove('todo/2');
    });
    await b.run(async () => {
      await db.save('todo/1', { ...(await db.get('todo/1')), done: true });
      await db.increment('todo/1', '/views', 3);
      await db.save('todo/2', { ...(await db.get('todo/2')), title: 'rye bread' });
    });
    assert.equal((await a.run(async () => (await db.read('todo/1')).meta)).synced, false);
    await node.start();
    await a.page.context().setOffline(false);
    await b.page.context().setOffline(false);
    await a.live();
    await b.live();
    const all = await equal([node], [a, b]);
    assert.deepEqual(all, {
      'todo/1': { title: 'oat milk', done: true, tags: ['x'], views: 5 }, // each field as it was written last, and all increments
      'todo/2': { title: 'rye bread' }, // a removal takes what its author had seen, and no more
      'only/a': { by: 'a' },
    });
    assert.equal((await a.run(async () => (await db.read('todo/1')).meta)).synced, true);
  });

  scenario('what waits survives a reload without a node, and is sent once', async ({ node, app }) => {
    const a = await app();
    await a.save('n', { count: 0 });
    await a.settled();
    await node.kill();
    for (let i = 0; i < 5; i++) await a.run(() => db.increment('n', '/hits'));
    await a.load({ wait: false });
    assert.deepEqual(await a.documents(), { n: { count: 0, hits: 5 } });
    assert.equal(await a.run(() => db.pending.length), 5);
    await a.run(() => db.increment('n', '/hits'));
    await node.start();
    await a.run(() => db.reconnect());
    await a.live();
    assert.deepEqual(await equal([node], [a]), { n: { count: 0, hits: 6 } });
  });

  /** hammer lets each app count and write documents while the node is stopped again and again, and waits until all is settled. */
  async function hammer(node, apps, each, stop) {
    const writing = Promise.all(apps.map((x, who) => x.run(async ([n, me]) => {
      for (let i = 0; i < n; i++) {
        await db.transact((tx) => {
          tx.increment('counter', '/n');
          tx.save(`doc/${me}/${i}`, { i });
        });
        await new Promise((resolve) => { setTimeout(resolve, 10); });
      }
    }, [each, who])));
    for (let i = 0; i < 3; i++) {
      const done = () => node.documents(space).then((d) => d.counter?.n ?? 0);
      const before = await done();
      await until('progress', async () => await done() > before || await apps[0].run(() => db.pending.length === 0));
      await stop();
      await node.start();
      for (const x of apps) await x.run(() => db.reconnect());
    }
    await writing;
    for (const x of apps) await x.live();
    for (const x of apps) await until('what waits', () => x.run(() => db.pending.length).then((n) => n === 0 || n));
  }

  for (const [how, signal] of [['stopped', 'SIGTERM'], ['killed', 'SIGKILL']]) {
    scenario(`each transaction is applied once, however often the node is ${how} while they come`, async ({ node, app }) => {
      const apps = [await app(), await app()];
      await hammer(node, apps, 50, () => node.process.end(signal));
      const all = await equal([node], apps);
      assert.equal(all.counter.n, 100);
      assert.equal(Object.keys(all).length, 101);
    });
  }

  test('the whole browser is killed between a change and its acknowledgement, and nothing is lost or counted twice', async () => {
    const node = await Node.open(built.command);
    const profile = await directory();
    const token = await node.token({ space, rights: 'write' });
    const launchProfile = async () => {
      const context = await chromium.launchPersistentContext(profile.path, { executablePath: executable, args: flags });
      await install(context, node);
      return context;
    };
    let context = await launchProfile();
    try {
      let a = await App.open(context, node, token);
      for (let round = 0; round < 3; round++) {
        // Resolved means: on the local disk. What was not resolved may be there or not.
        const kept = await a.run(async () => {
          for (let i = 0; i < 20; i++) await db.increment('counter', '/n');
          db.increment('maybe', '/n');
          return 20;
        });
        assert.equal(kept, 20);
        const gone = new Promise((resolve) => { context.on('close', resolve); });
        const cdp = await context.browser()?.newBrowserCDPSession?.() ?? await context.newCDPSession(a.page);
        await cdp.send('Browser.crash').catch(() => {}); // it has no time to put anything in order
        await gone;
        context = await launchProfile();
        a = await App.open(context, node, token);
        await a.settled();
        assert.equal((await node.documents(space)).counter.n, 20 * (round + 1));
      }
      await equal([node], [a]);
    } finally {
      await context.close().catch(() => {});
      await node.close();
      await profile.remove();
    }
  });

  scenario('an expired token stops it, a new one lets it go on, and nothing is lost', async ({ node, window, token }) => {
    let a;
    for (const seconds of [6, 40, 300]) { // a slow machine gets more time to begin
      a = await App.open(await window(), node, await node.token({ space, rights: 'write', expires: `${seconds}s` }), { wait: false });
      await a.save('before', { n: 1 });
      const begun = () => a.run(() => (db.pending.length === 0 ? 'yes' : db.status === 'needs-auth' ? 'no' : ''));
      await until('the beginning', async () => (await begun()) !== '');
      if ((await begun()) === 'yes') break;
    }
    await until('the status', () => a.status().then((s) => s === 'needs-auth' || s), { timeout: 360_000 });
    await a.save('meanwhile', { n: 2 });
    assert.equal(await a.run(async () => (await db.read('meanwhile')).meta.synced), false);
    assert.deepEqual(await node.documents(space), { before: { n: 1 } });
    await a.run((t) => {
      globalThis.token = t;
      db.reconnect();
    }, token);
    await a.live();
    assert.deepEqual(await equal([node], [a]), { before: { n: 1 }, meanwhile: { n: 2 } });
  });

  scenario('another tab takes over when the one that leads is closed', async ({ node, window, token }) => {
    const context = await window();
    const tabs = [];
    for (let i = 0; i < 3; i++) tabs.push(await App.open(context, node, token));
    await tabs[2].save('a', { by: 2 });
    for (const t of tabs) await until('the other tabs', async () => same(await t.documents(), { a: { by: 2 } }) || t.documents());
    const connected = () => tabs.map((t) => (t.page.isClosed() ? 0 : t.sockets.filter((s) => !s.isClosed()).length)).join();
    assert.equal(connected(), '1,0,0');
    const closed = Date.now();
    await tabs[0].page.close();
    await tabs[1].run(() => db.save('b', { by: 1 }).synced);
    console.log(`another tab leads, and a node has what it wrote, after ${Date.now() - closed} ms`);
    for (const t of tabs.slice(1)) await t.live();
    await until('one connection', async () => ['0,1,0', '0,0,1'].includes(connected()) || connected());
    await tabs[1].page.close();
    await tabs[2].save('c', { by: 2 });
    await tabs[2].live();
    assert.deepEqual(await equal([node], [tabs[2]]), { a: { by: 2 }, b: { by: 1 }, c: { by: 2 } });
  });

  scenario('without WebSocket it comes and goes by event streams, without these by long polling', async ({ node, app, token }) => {
    const blockSockets = (context) => context.addInitScript(() => { // as a proxy does that knows no upgrade
      globalThis.tried = 0;
      globalThis.WebSocket = class {
        constructor() {
          globalThis.tried++;
          setTimeout(() => this.onerror?.(new Event('error')));
        }
        close() {}
      };
    });
    const requests = [];
    const note = (context) => context.on('request', (r) => requests.push(new URL(r.url()).pathname.split('/').at(-1)));
    const a = await app({}, async (context) => {
      await blockSockets(context);
      note(context);
    });
    await a.save('by', { sse: true });
    await a.settled();
    assert.ok(requests.includes('events') && requests.includes('push'), String(requests));
    requests.length = 0;
    const b = await app({}, async (context) => {
      await blockSockets(context);
      await context.route('**/events?*', (route) => route.abort());
      note(context);
    });
    await b.save('by', { ...(await b.documents()).by, poll: true });
    await b.settled();
    assert.ok(requests.includes('changes') && requests.includes('push'), String(requests));
    await node.ask(token, 'PUT', `/v1/spaces/${space}/docs/rest`, { by: 'curl' });
    const all = await equal([node], [a, b]);
    assert.deepEqual(all.rest, { by: 'curl' });
    assert.equal(all.by.poll, true);
    assert.ok(await a.run(() => globalThis.tried) > 0, 'it did not try a WebSocket');
  });

  scenario('it goes back to the WebSocket once that gets through', async ({ node, app }) => {
    const a = await app({ hurry: true }, (context) => context.addInitScript(() => {
      const Real = WebSocket;
      globalThis.blocked = true;
      globalThis.WebSocket = function (...args) {
        if (!globalThis.blocked) return new Real(...args);
        const dead = { readyState: 3, send() {}, close() {} };
        setTimeout(() => dead.onerror?.(new Event('error')));
        return dead;
      };
    }));
    await a.save('n', { by: 'stream' });
    await a.settled();
    assert.equal(a.sockets.length, 0);
    await a.run(() => { globalThis.blocked = false; });
    await until('a WebSocket', async () => a.sockets.some((s) => !s.isClosed()) || a.sockets.length);
    await a.save('n', { by: 'socket' });
    assert.deepEqual(await equal([node], [a]), { n: { by: 'socket' } });
    await until('the status', () => a.status().then((s) => s === 'live' || s));
  });

  scenario('clocks that are a day off, ahead or behind, lose nothing', async ({ node, app }) => {
    const off = (ms) => (context) => context.addInitScript((by) => {
      const real = Date.now.bind(Date);
      Date.now = () => real() + by;
    }, ms);
    const day = 86_400_000;
    const ahead = await app({}, off(day));
    const behind = await app({}, off(-day));
    const right = await app();
    await ahead.save('x', { title: 'ahead', a: 1 });
    await ahead.settled();
    await until('what is there', async () => (await behind.documents()).x?.a === 1 || behind.documents());
    await behind.run(async () => { await db.save('x', { ...(await db.get('x')), title: 'behind' }); }); // it has seen the other: it replaces it
    await behind.settled();
    await until('what is there', async () => (await right.documents()).x?.title === 'behind' || right.documents());
    await right.run(async () => { await db.save('x', { ...(await db.get('x')), title: 'right' }); });
    assert.deepEqual(await equal([node], [ahead, behind, right]), { x: { title: 'right', a: 1 } });
    assert.equal((await right.run(async () => (await db.listConflicts()).length)), 0);
  });

  scenario('a conflict is offered, and the choice settles it everywhere', async ({ node, app, token }) => {
    const a = await app({ conflicts: 'ask' });
    const b = await app({ conflicts: 'ask' });
    await a.save('doc', { title: 'first' });
    await until('what b has', async () => (await b.documents()).doc?.title === 'first' || b.documents());
    for (const x of [a, b]) {
      await x.run(() => {
        globalThis.conflicts = [];
        db.onConflict((c) => globalThis.conflicts.push({ path: c.path, value: c.value, others: c.others.map((o) => o.value) }));
      });
    }
    await node.kill();
    await a.run(async () => { await db.save('doc', { ...(await db.get('doc')), title: 'by a' }); });
    await b.run(async () => { await db.save('doc', { ...(await db.get('doc')), title: 'by b' }); });
    await node.start();
    for (const x of [a, b]) await x.run(() => db.reconnect());
    await until('the conflict', () => a.run(() => globalThis.conflicts.length > 0 || globalThis.conflicts));
    await until('the conflict', () => b.run(() => globalThis.conflicts.length > 0 || globalThis.conflicts));
    const [found] = await a.run(() => globalThis.conflicts);
    assert.equal(found.path, '/title');
    assert.deepEqual([found.value, ...found.others].sort(), ['by a', 'by b']);
    assert.equal((await node.ask(token, 'GET', `/v1/spaces/${space}/conflicts`)).count, 1);
    await a.run(async (losing) => {
      const [c] = await db.listConflicts();
      await c.choose(losing);
    }, found.others[0]);
    assert.deepEqual(await equal([node], [a, b]), { doc: { title: found.others[0] } });
    assert.equal((await node.ask(token, 'GET', `/v1/spaces/${space}/conflicts`)).count, 0);
    assert.equal(await b.run(async () => (await db.listConflicts()).length), 0);
  });

  test('two browsers at two nodes, which were cut off from each other, meet through them', async () => {
    const second = await Node.identity(built.command);
    const one = await Node.open(built.command, { allow: [second.id] });
    const other = Object.assign(new Node(), { command: built.command, peers: [one], allow: [], dir: second.dir, listen: '127.0.0.1:0', gateway: '127.0.0.1:0' });
    await other.start();
    const windows = [await browser.context(), await browser.context()];
    try {
      const apps = [];
      for (const [i, n] of [one, other].entries()) {
        await install(windows[i].context, n);
        apps.push(await App.open(windows[i].context, n, await n.token({ space, rights: 'write' })));
      }
      const [a, b] = apps;
      await a.save('doc', { from: 'a' });
      await until('what b has', async () => (await b.documents()).doc?.from === 'a' || b.documents());
      assert.equal(await a.run(async () => db.save('told', { n: 1 }).replicated), 1); // held by the other node too
      await other.kill();
      await a.run(async () => { await db.save('doc', { ...(await db.get('doc')), a: 1 }); });
      await b.run(async () => { await db.save('doc', { ...(await db.get('doc')), b: 2 }); });
      await other.start();
      await b.run(() => db.reconnect());
      assert.deepEqual(await equal([one, other], [a, b]), { doc: { from: 'a', a: 1, b: 2 }, told: { n: 1 } });
    } finally {
      for (const w of windows) await w.close();
      await one.close();
      await other.close();
    }
  });

  scenario('the first 10,000 documents come with progress, and the page answers meanwhile', async ({ node, window, token }) => {
    for (let i = 0; i < 10; i++) {
      await node.ask(token, 'POST', `/v1/spaces/${space}/batch`, {
        ops: Array.from({ length: 1000 }, (_, k) => ({ op: 'put', key: `doc/${String(i * 1000 + k).padStart(5, '0')}`, value: { n: i * 1000 + k, text: 'x'.repeat(100) } })),
      });
    }
    const page = await (await window()).newPage();
    await page.goto(`${node.url}/app/`);
    const told = await page.evaluate(async ([url, token, name]) => {
      const { open } = await import('/app/index.js');
      let frames = 0;
      let longest = 0;
      let last = performance.now();
      const frame = () => {
        frames++;
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
      globalThis.db = await open({ url, space: name, token: () => token });
      const progress = [];
      db.on('progress', (p) => progress.push({ ...p, frames }));
      const began = performance.now();
      await db.caughtUp();
      return { progress, frames, longest, took: performance.now() - began, count: (await db.list()).length };
    }, [node.url, token, space]);
    assert.equal(told.count, 10_000);
    const { progress } = told;
    assert.ok(progress.length >= 5, `${progress.length} times progress`);
    assert.ok(progress.every((p, i) => i === 0 || p.done >= progress[i - 1].done), 'progress goes backwards');
    assert.ok(progress.at(-1).done >= 9_000 && progress.at(-1).total >= 10_000, JSON.stringify(progress.at(-1)));
    assert.ok(told.frames > progress.length / 2, `the page drew ${told.frames} frames during ${progress.length} steps`);
    console.log(`10,000 documents in ${Math.round(told.took)} ms, ${told.frames} frames, the longest ${Math.round(told.longest)} ms`);
  });
});
