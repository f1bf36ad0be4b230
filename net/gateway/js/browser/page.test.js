// The dashboard before a made-up gateway (mock.js): what it shows, how it looks, and that names and values stay text.

import assert from 'node:assert/strict';
import test, { after, before, describe } from 'node:test';
import { launch, skip } from './chromium.js';
import { faint, noteShifts, shifts, wider } from './looks.js';
import { hostile, serve } from './mock.js';

const views = {
  node: ['#/', 'Peers'],
  space: ['#/spaces/recipes', 'Stability'],
  documents: ['#/spaces/recipes/documents?key=apple', 'Document, as JSON'],
  conflicts: ['#/spaces/recipes/conflicts?key=apple', '/price'],
  changes: ['#/spaces/recipes/changes', 'soup/pumpkin'],
};

describe('the page', { skip }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  /** visit runs a test on a fresh gateway and window, and fails if anything went wrong on the console that is not expected. */
  const visit = (name, { expect = [], options, prepare, hash = '#token=good' } = {}, run) => test(name, async () => {
    const gateway = await serve();
    prepare?.(gateway.state);
    const window = await browser.context(options);
    try {
      await noteShifts(window.context);
      const page = await window.page();
      await page.goto(`${gateway.url}/${hash}`);
      await run(page, gateway, window);
      const unexpected = window.problems.filter((p) => !expect.some((e) => e.test(p)));
      assert.deepEqual(unexpected, []);
    } finally {
      await window.close();
      await gateway.close();
    }
  });
  const go = (page, [hash, text]) => page.evaluate((h) => { location.hash = h; }, hash)
    .then(() => page.locator('main').getByText(text, { exact: true }).first().waitFor());

  visit('takes the token out of the address, keeps it for the tab, and asks without it', {}, async (page, gateway, window) => {
    await page.getByRole('heading', { name: 'Node', exact: true }).waitFor();
    assert.equal(new URL(page.url()).hash, '#/');
    await page.reload();
    await page.getByRole('heading', { name: 'Node', exact: true }).waitFor();
    assert.ok(gateway.state.requests.every((r) => !r.includes('good')), 'the token is in an address');
    const other = await window.page(); // a new tab has a storage of its own
    await other.goto(gateway.url);
    await other.getByLabel('Access token').fill('good');
    await other.keyboard.press('Enter');
    await other.getByRole('heading', { name: 'Node', exact: true }).waitFor();
    await other.getByRole('button', { name: 'Sign out' }).click();
    await other.getByLabel('Access token').waitFor();
    assert.equal(await other.evaluate(() => sessionStorage.length), 0);
  });

  visit('says why a token is refused', { hash: '#token=bad', expect: [/401/] }, async (page, gateway) => {
    await page.getByText('The node does not take this token.').waitFor();
    await page.getByLabel('Access token').fill('good');
    await page.keyboard.press('Enter');
    await page.getByRole('link', { name: 'recipes' }).waitFor();
    gateway.state.override = (req, res, { problem }) => (req.url.startsWith('/v1') ? (problem(401, 'token-expired', 'expired'), true) : false);
    await page.evaluate(() => { location.hash = '#/spaces/recipes/documents'; });
    await page.getByText('The token has expired.').waitFor();
  });

  visit('puts the node in words', {}, async (page, gateway) => {
    const health = page.getByRole('region', { name: 'Health' });
    await health.getByText('Needs a look').waitFor();
    await health.getByText('peers: 2 connected of 3 configured').waitFor();
    await page.getByText('1 d 7 h, for n7xk2q4m5l6j…').waitFor();
    await page.getByText('1,840 changes behind, 1 min 35 s').waitFor();
    gateway.state.node.checks = [];
    Object.assign(gateway.state.node.spaces[0], { stableAgeMs: 0, heldBackBy: [] });
    gateway.state.node.time += 1000;
    gateway.state.node.totals.transactions += 7;
    gateway.tick();
    await health.getByText('Healthy').waitFor();
    await page.getByText('all is stable').first().waitFor();
    await page.getByRole('img', { name: 'Changes a second: written here 7.0, received 0' }).waitFor();
    await page.locator('.plot canvas').first().waitFor();
  });

  visit('says that the node does not answer, and goes on when it does', { expect: [/500/] }, async (page, gateway) => {
    await page.getByText('Needs a look').first().waitFor();
    gateway.state.override = (req, res, { problem }) => (req.url.startsWith('/v1/node/events') ? (problem(500, 'internal', 'it is ill'), true) : false);
    await page.reload();
    await page.getByText('No news from the node').waitFor();
    gateway.state.override = () => false;
    await page.getByText('Needs a look').first().waitFor();
  });

  visit('shows an empty node, and a token that may only read', {
    prepare(state) {
      state.node.spaces = [{ name: 'new', rights: 'read' }];
      state.node.peers = [];
      state.documents.clear();
      state.contests.clear();
      state.feed = [];
    },
  }, async (page) => {
    await page.getByText('There is no peer: everything is on this node alone.').waitFor();
    await go(page, ['#/spaces/new/documents', 'There is no document in this space yet.']);
    assert.equal(await page.getByRole('button', { name: 'New document' }).count(), 0);
    await go(page, ['#/spaces/new/conflicts', 'There is no conflict in this space.']);
    await go(page, ['#/spaces/new/changes', 'Nothing has changed yet. What changes shows here at once.']);
  });

  visit('shows hostile names and values as text', {}, async (page, gateway) => {
    gateway.state.node.peers[0].address = hostile;
    gateway.state.node.spaces[1].name = hostile;
    gateway.tick();
    await page.locator('tbody a').filter({ hasText: hostile }).waitFor();
    for (const [hash, where] of [
      [`documents?key=${encodeURIComponent(hostile)}`, 'h2'], [`conflicts?key=${encodeURIComponent(hostile)}`, 'legend'], ['changes', '.feed .key'],
      [`documents?prefix=${encodeURIComponent(hostile)}`, '.list a'],
    ]) {
      await page.evaluate((h) => { location.hash = `#/spaces/recipes/${h}`; }, hash);
      await page.locator(where).filter({ hasText: hostile }).first().waitFor();
    }
    await go(page, ['#/spaces/recipes/changes', hostile]);
    await page.locator('.feed summary').filter({ hasText: hostile }).click();
    await page.locator('.feed pre').filter({ hasText: 'onerror' }).waitFor();
    assert.equal(await page.locator('main img, main script').count(), 0);
    assert.ok(!(await page.title()).includes('owned'));
  });

  visit('forbids what the page must not do', { expect: [/Trusted ?HTML|TrustedHTML|Content Security Policy|violates/i] }, async (page) => {
    assert.equal(await page.evaluate(() => {
      try {
        document.body.innerHTML = '<b>x</b>';
        return 'made HTML from text';
      } catch (error) {
        return error.name;
      }
    }), 'TypeError');
    assert.equal(await page.evaluate(() => fetch('http://192.0.2.1/').then(() => 'reached', () => 'refused')), 'refused');
  });

  visit('saves what was edited, checks it while it is typed, and keeps large numbers', {}, async (page, gateway) => {
    await go(page, views.documents);
    const area = page.getByLabel('Document, as JSON');
    await page.waitForFunction(() => document.querySelector('textarea').value.includes('9007199254740993'));
    await area.fill('{"price": 4,}');
    await page.getByText('Not JSON: line 1, column 13').waitFor();
    assert.ok(await page.getByRole('button', { name: 'Save' }).isDisabled());
    await area.fill('{"price": 4, "sold": 9007199254740993}');
    await page.getByText('Valid JSON; 2 fields changed.').waitFor();
    await page.keyboard.press('Control+s');
    await page.getByText('Saved apple.').waitFor();
    assert.equal(gateway.state.documents.get('apple').text, '{"price": 4, "sold": 9007199254740993}');
  });

  visit('shows what changed meanwhile, and saves on top of it', { expect: [/412/] }, async (page, gateway) => {
    await go(page, views.documents);
    await page.waitForFunction(() => document.querySelector('textarea').value.includes('Apple'));
    await page.getByLabel('Document, as JSON').fill('{"name":{"common":"Golden"},"price":3}');
    gateway.state.documents.set('apple', { etag: '"99"', text: '{"name":{"common":"Apple"},"price":7,"sold":9007199254740993}' });
    await page.getByRole('button', { name: 'Save' }).click();
    const newer = page.locator('.newer');
    await newer.getByText('/price').waitFor();
    await newer.getByText('not touched').waitFor();
    await newer.getByRole('button', { name: 'Keep my changes, on top of it' }).click();
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Saved apple.').waitFor();
    assert.deepEqual(JSON.parse(gateway.state.documents.get('apple').text), { name: { common: 'Golden' }, price: 7 });
  });

  visit('makes and deletes a document, and asks before it gives up an edit', {}, async (page, gateway) => {
    await go(page, ['#/spaces/recipes/documents', 'apple']);
    await page.getByRole('button', { name: 'New document' }).click();
    await page.getByLabel('Key', { exact: true }).fill('a/ß ?#%');
    await page.getByLabel('Document, as JSON').fill('{"a": 1}');
    await page.getByRole('button', { name: 'Create' }).click();
    await page.getByRole('heading', { name: 'a/ß ?#%' }).waitFor();
    assert.equal(gateway.state.documents.get('a/ß ?#%').text, '{"a": 1}');
    await page.waitForFunction(() => document.querySelector('textarea')?.value.includes('"a"'));
    await page.getByLabel('Document, as JSON').fill('{"a": 2}');
    await page.locator('.list a').filter({ hasText: 'apple' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    assert.equal(await page.getByLabel('Document, as JSON').inputValue(), '{"a": 2}');
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByText('Choose a document to look at or edit.').waitFor();
    assert.ok(!gateway.state.documents.has('a/ß ?#%'));
  });

  visit('settles a conflict by the value that was chosen', {}, async (page, gateway) => {
    await go(page, views.conflicts);
    const contest = page.locator('.contest').filter({ hasText: '/price' });
    await contest.locator('label').filter({ hasText: '77aa01c2' }).click();
    await contest.getByRole('button').click();
    await page.getByText('Settled /price of apple.').waitFor();
    await page.waitForFunction(() => document.querySelectorAll('.contest').length === 1);
    assert.deepEqual(gateway.state.settled, { path: '/price', index: 0 });
    await page.locator('.contest').getByRole('button').click(); // what shows is chosen already
    await page.getByText('Settled: it has no conflict any more.').waitFor();
    assert.deepEqual(gateway.state.settled, { path: '/name/common', rule: 'last-write-wins' });
  });

  visit('shows changes as they arrive, and pauses', {}, async (page, gateway) => {
    await go(page, views.changes);
    gateway.send([{ key: 'fresh', cursor: 'aa-13001', doc: { a: 1 }, at: Date.now() }]);
    await page.locator('.feed li').first().filter({ hasText: 'fresh' }).waitFor();
    await page.getByRole('button', { name: 'Pause' }).click();
    gateway.send([{ key: 'later', cursor: 'aa-13002', doc: { a: 1 }, at: Date.now() }]);
    await page.getByText('Paused; 1 change waiting').waitFor();
    assert.equal(await page.locator('.feed li').filter({ hasText: 'later' }).count(), 0);
    await page.getByRole('button', { name: 'Go on' }).click();
    await page.locator('.feed li').first().filter({ hasText: 'later' }).waitFor();
  });

  visit('can be used with the keyboard alone', {}, async (page) => {
    await page.getByText('Needs a look').first().waitFor();
    await page.keyboard.press('Tab');
    const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
    assert.equal(await focused(), 'Skip to the content');
    assert.ok(await page.locator('#skip').evaluate((e) => e.getBoundingClientRect().top >= 0), 'the skip link does not show');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
    // Everything that can be used is reached by Tab, shows that it has the focus, and lets go of it again.
    await go(page, views.documents);
    await page.waitForFunction(() => document.querySelector('textarea').value !== '');
    await page.evaluate(() => { document.activeElement.blur(); });
    const usable = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input, select, textarea, [tabindex="0"]')]
      .filter((e) => e.checkVisibility() && !e.disabled).length);
    const reached = new Set();
    for (let i = 0; i < usable + 3; i++) {
      await page.keyboard.press('Tab');
      const at = await page.evaluate(() => {
        const e = document.activeElement;
        if (e === document.body) return null;
        const style = getComputedStyle(e);
        return { name: e.outerHTML.slice(0, 120), shows: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
      });
      if (!at) continue; // the browser's own part
      assert.ok(at.shows, `no focus is seen on ${at.name}`);
      reached.add(at.name);
    }
    assert.equal(reached.size, usable);
  });

  for (const [size, viewport] of Object.entries({ desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } })) {
    for (const colorScheme of ['light', 'dark']) {
      visit(`is readable: ${size}, ${colorScheme}`, { options: { viewport, colorScheme, isMobile: size === 'phone', hasTouch: size === 'phone' } }, async (page, gateway) => {
        for (const [name, view] of Object.entries(views)) {
          await go(page, view);
          gateway.tick();
          assert.deepEqual(await faint(page), [], name);
          assert.ok((await wider(page)) <= 0, `${name} is wider than the window`);
        }
        const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        assert.equal(dark, colorScheme === 'dark' ? 'rgb(14, 22, 25)' : 'rgb(243, 246, 247)');
      });
    }
  }

  visit('has a switch for the theme, which lasts', { options: { colorScheme: 'light' } }, async (page) => {
    await page.getByRole('button', { name: 'Use the dark theme' }).click();
    await page.getByRole('button', { name: 'Use the light theme' }).waitFor();
    assert.deepEqual(await faint(page), []);
    await page.reload();
    await page.getByRole('button', { name: 'Use the light theme' }).waitFor();
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(14, 22, 25)');
  });

  visit('does not move while it is filled', {}, async (page, gateway) => {
    await page.getByText('1,840 changes behind, 1 min 35 s').waitFor();
    await page.locator('.plot canvas').first().waitFor({ state: 'attached' });
    for (let i = 1; i < 5; i++) {
      gateway.state.node.time += 1000;
      gateway.state.node.totals.transactions += 10 ** i;
      gateway.tick();
      await page.getByRole('img', { name: new RegExp(`written here ${(10 ** i).toLocaleString('en')}`) }).waitFor();
    }
    assert.ok((await shifts(page)) < 0.1, `what is shown moved: ${await shifts(page)}`);
  });
});
