// The dashboard of a real node: what it does reaches the engine, and what happens there reaches the page.

import assert from 'node:assert/strict';
import test, { after, before, describe } from 'node:test';
import { launch, skip } from './chromium.js';
import { faint } from './looks.js';
import { build, Node, until } from './node.js';

/** compete writes a field as a client that had not read it, which makes a conflict. */
export function compete(node, token, space, key, path, value, client = '00000000000000c1') {
  return node.ask(token, 'POST', `/v1/spaces/${space}/push`, {
    client, floor: 1, transactions: [{ seq: Date.now(), at: Date.now(), ops: [{ op: 'set', key, path, value, seen: {} }] }],
  });
}

describe('the dashboard of a node', { skip, timeout: 600_000 }, () => {
  let built;
  let browser;
  let a;
  let b;
  let token;
  before(async () => {
    built = await build();
    browser = await launch();
    // Two nodes that are connected. Each must know the other's ID before it starts.
    const second = await Node.identity(built.command);
    a = await Node.open(built.command, { allow: [second.id] });
    b = Object.assign(new Node(), { command: built.command, peers: [a], allow: [], dir: second.dir, listen: '127.0.0.1:0', gateway: '127.0.0.1:0' });
    await b.start();
    token = await a.token();
    for (let i = 0; i < 130; i++) {
      await a.ask(token, 'PUT', `/v1/spaces/recipes/docs/soup/${String(i).padStart(3, '0')}`, { title: `Soup ${i}`, serves: i });
    }
    await a.ask(token, 'PUT', '/v1/spaces/recipes/docs/apple', { name: { common: 'Apple' }, price: 3 });
    await compete(a, token, 'recipes', 'apple', '/price', 4);
  });
  after(async () => {
    await browser?.close();
    await a?.close();
    await b?.close();
    await built?.remove();
  });

  const visit = (name, hash, run, { expect = [], options } = {}) => test(name, async () => {
    const window = await browser.context(options);
    try {
      const page = await window.page();
      await page.goto(`${a.url}/#token=${token}`);
      await page.getByRole('link', { name: 'recipes', exact: true }).waitFor();
      await page.evaluate((h) => { location.hash = h; }, hash);
      await run(page, window);
      assert.deepEqual(window.problems.filter((p) => !expect.some((e) => e.test(p))), []);
    } finally {
      await window.close();
    }
  });

  visit('shows the node, its space and its peer, without an error or a violation of its policy', '#/', async (page) => {
    await page.getByRole('region', { name: 'Health' }).getByText('1 peer connected').waitFor();
    await page.getByText(a.id, { exact: true }).waitFor();
    await page.getByRole('row').filter({ hasText: b.id.slice(0, 12) }).getByText('level').waitFor();
    await page.locator('.plot canvas').first().waitFor();
    assert.deepEqual(await faint(page), []);
    await page.getByRole('link', { name: 'recipes', exact: true }).click();
    await page.getByText('1 of 1').waitFor();
    await page.getByText(/^Every member has everything/).waitFor();
  });

  visit('shows that a peer is away and whom stability waits for', '#/spaces/recipes', async (page) => {
    await page.getByText('1 of 1').waitFor();
    await b.process.end(); // it says goodbye; of one that is killed a node hears nothing for half a minute
    await a.ask(token, 'PUT', '/v1/spaces/recipes/docs/away', { n: 1 });
    await page.getByText(/It waits for .* lacks 1 change/).waitFor();
    await page.getByText(/away, 1 change behind/).waitFor();
    await b.start();
    await page.getByText(/^Every member has everything/).waitFor();
  });

  visit('finds documents by prefix and edits one', '#/spaces/recipes/documents', async (page) => {
    await page.getByText('100 documents so far').waitFor();
    await page.getByRole('button', { name: 'More' }).click();
    await page.getByText(/^13\d documents$/).waitFor();
    await page.getByLabel('Keys that begin with').fill('soup/01');
    await page.getByText('10 documents').waitFor();
    await page.getByRole('link', { name: 'soup/012' }).click();
    const area = page.getByLabel('Document, as JSON');
    await until('the text', () => area.inputValue().then((v) => v.includes('Soup 12') || v));
    await area.fill('{"title": "Pumpkin soup", "serves": 9007199254740993}');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Saved soup/012.').waitFor();
    const exact = (await b.cli('get', '--space', 'recipes', 'soup/012')); // at the other node
    await until('the other node', async () => /"serves": 9007199254740993/.test(await b.cli('get', '--space', 'recipes', 'soup/012')) || exact);
  });

  visit('follows a change under the editor, and merges where both were at work', '#/spaces/recipes/documents?key=soup%2F020', async (page) => {
    const area = page.getByLabel('Document, as JSON');
    await until('the text', () => area.inputValue().then((v) => v.includes('Soup 20') || v));
    await a.ask(token, 'PATCH', '/v1/spaces/recipes/docs/soup/020', { serves: 21 }, { 'Content-Type': 'application/merge-patch+json' });
    await until('the new text', () => area.inputValue().then((v) => v.includes('"serves": 21') || v));
    await area.fill('{"title": "Leek soup", "serves": 21}');
    await a.ask(token, 'PATCH', '/v1/spaces/recipes/docs/soup/020', { serves: 22 }, { 'Content-Type': 'application/merge-patch+json' });
    await page.getByText('It has changed meanwhile').waitFor();
    await page.getByRole('button', { name: 'Keep my changes, on top of it' }).click();
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Saved soup/020.').waitFor();
    assert.deepEqual((await a.documents('recipes'))['soup/020'], { title: 'Leek soup', serves: 22 });
  });

  visit('refuses to save over what it has not seen', '#/spaces/recipes/documents?key=soup%2F030', async (page, window) => {
    await window.context.route('**/events?*', (route) => route.abort()); // the page hears nothing
    await page.reload();
    const area = page.getByLabel('Document, as JSON');
    await until('the text', () => area.inputValue().then((v) => v.includes('Soup 30') || v));
    await a.ask(token, 'PUT', '/v1/spaces/recipes/docs/soup/030', { title: 'Soup 30', serves: 1 });
    await area.fill('{"title": "Mine", "serves": 30}');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.locator('.newer').getByText('/serves').waitFor();
    assert.deepEqual((await a.documents('recipes'))['soup/030'], { title: 'Soup 30', serves: 1 });
  }, { expect: [/412/, /ERR_FAILED/] });

  visit('lists conflicts and settles one by the value chosen', '#/spaces/recipes/conflicts', async (page) => {
    await page.getByText('1 conflict in 1 document').waitFor();
    await page.getByRole('link', { name: /apple/ }).click();
    const contest = page.locator('.contest').filter({ hasText: '/price' });
    await contest.locator('label').filter({ hasNotText: 'shows now' }).click();
    const value = Number(await contest.locator('label').filter({ hasNotText: 'shows now' }).locator('code').textContent());
    await contest.getByRole('button').click();
    await page.getByText('Settled /price of apple.').waitFor();
    await page.getByText('Settled: it has no conflict any more.').waitFor();
    assert.equal((await a.documents('recipes')).apple.price, value);
    assert.equal((await a.ask(token, 'GET', '/v1/spaces/recipes/conflicts')).count, 0);
  });

  visit('shows a change made by REST as it arrives', '#/spaces/recipes/changes', async (page) => {
    await page.getByText(/^Live/).waitFor();
    await a.ask(token, 'PUT', '/v1/spaces/recipes/docs/fresh', { by: 'REST' });
    const first = page.locator('.feed li').first();
    await first.filter({ hasText: 'fresh' }).waitFor();
    await first.locator('summary').click();
    await first.getByText('"by": "REST"').waitFor();
    await a.ask(token, 'DELETE', '/v1/spaces/recipes/docs/fresh');
    await page.locator('.feed li').first().filter({ hasText: 'deleted' }).waitFor();
  });

  visit('goes on after the node was killed and started again', '#/spaces/recipes/changes', async (page) => {
    await page.getByText(/^Live/).waitFor();
    await a.kill();
    await page.getByText('The connection broke; trying again').waitFor();
    await page.getByText('The node does not answer').waitFor();
    await a.start();
    await page.getByText(/^Live/).waitFor();
    await a.ask(token, 'PUT', '/v1/spaces/recipes/docs/again', { n: 1 });
    await page.locator('.feed li').first().filter({ hasText: 'again' }).waitFor();
    await page.locator('#health').filter({ hasText: 'Healthy' }).waitFor();
  }, { expect: [/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/] });

  visit('asks for another token when this one is revoked', '#/spaces/recipes/documents', async (page) => {
    const made = JSON.parse(await a.cli('token', 'create', '--space', 'recipes', '--read', '--output', 'jsonl'));
    await page.evaluate((t) => { location.hash = `#token=${t}`; }, made.token);
    await page.getByRole('link', { name: 'recipes', exact: true }).waitFor();
    assert.ok(!page.url().includes('token'));
    await a.revoke(made.id);
    await page.getByText('The token was revoked.').waitFor();
  }, { expect: [/401/] });

  visit('is a way from sign-in to a saved edit for the keyboard alone', '#/', async (page) => {
    await page.evaluate(() => sessionStorage.clear());
    await page.goto(a.url);
    await page.reload();
    await page.getByLabel('Access token').waitFor();
    await page.keyboard.insertText(token); // the field has the focus
    await page.keyboard.press('Enter');
    await page.getByRole('link', { name: 'recipes', exact: true }).waitFor();
    /** to presses Tab until something that fits has the focus. */
    const to = async (what) => {
      for (let i = 0; i < 200; i++) {
        await page.keyboard.press('Tab');
        if (await page.evaluate((w) => document.activeElement.matches(w), what)) return;
      }
      throw new Error(`Tab does not reach ${what}`);
    };
    await to('a[href="#/spaces/recipes"]');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'recipes' }).waitFor();
    await to('nav a[href="#/spaces/recipes/documents"]');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Documents' }).waitFor();
    await to('.list a');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('textarea')?.value);
    await to('textarea');
    await page.keyboard.press('Control+a');
    await page.keyboard.insertText('{"typed": true}');
    await page.keyboard.press('Control+s');
    await page.getByText(/^Saved /).waitFor();
    assert.equal(Object.values(await a.documents('recipes')).filter((d) => d.typed).length, 1);
  });
});
