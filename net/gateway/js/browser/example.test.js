// The example of `anabranch demo --web`: two people, each with a node of their own.

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import test, { after, before, describe } from 'node:test';
import { directory, launch, skip } from './chromium.js';
import { faint, wider } from './looks.js';
import { build, start, until } from './node.js';

describe('the shared list', { skip, timeout: 300_000 }, () => {
  let built;
  let browser;
  let temporary;
  let demo;
  before(async () => {
    built = await build();
    browser = await launch();
    temporary = await directory();
    demo = await start(built.command, ['demo', '--web', '--output', 'jsonl'], { TMPDIR: temporary.path });
  });
  after(async () => {
    await demo?.end();
    await browser?.close();
    await built?.remove();
    await temporary?.remove();
  });

  const windows = [];
  const join = async (i, options) => {
    const w = await browser.context(options);
    windows.push(w);
    const page = await w.page();
    await page.goto(demo.ready.people[i].list);
    await page.getByText('Live: everybody sees changes at once').waitFor();
    return page;
  };
  const texts = (page) => page.locator('.text').evaluateAll((all) => all.map((e) => e.value));

  test('two people edit it, one of them offline, and choose where they wrote the same', async () => {
    const ann = await join(0);
    const ben = await join(1, { viewport: { width: 390, height: 844 }, colorScheme: 'dark', isMobile: true, hasTouch: true });
    for (const page of [ann, ben]) await until('the items', async () => (await texts(page)).join() === 'Milk,Bread,Coffee' || texts(page));
    assert.ok(!ann.url().includes('token'));

    // Who edits what.
    await ben.getByLabel('Text').first().focus();
    await ann.getByText('Ben is editing').waitFor();
    await ben.getByLabel('Text').first().blur();
    await ann.getByText('Ben is editing').waitFor({ state: 'hidden' });

    // A change comes at once, and its mark goes as far as the other node.
    await ann.getByLabel('What is missing?').fill('<b>Butter</b>');
    await ann.keyboard.press('Enter');
    await until('the new item', async () => (await texts(ben)).includes('<b>Butter</b>') || texts(ben));
    await ann.getByRole('img', { name: 'held by another node too' }).first().waitFor();

    // One pulls the plug; both go on.
    await ben.getByRole('button', { name: 'Work offline' }).click();
    await ben.getByText('Offline: changes are kept here').waitFor();
    await ben.getByLabel('Text').first().fill('Oat milk');
    await ben.keyboard.press('Enter');
    await ben.getByText('1 change waits to be sent').waitFor();
    await ben.getByRole('button', { name: 'want Bread' }).click();
    await ben.getByText('2 changes wait to be sent').waitFor();
    await ben.getByRole('img', { name: 'on this device only' }).first().waitFor();
    await ann.getByLabel('Text').first().fill('Milk, 2 litres');
    await ann.keyboard.press('Enter');
    await ann.getByRole('button', { name: 'want Bread' }).click();
    for (const page of [ann, ben]) assert.deepEqual(await faint(page), []);

    // A reload keeps all of it, and the plug is still out.
    await ben.reload();
    await ben.getByText('2 changes wait to be sent').waitFor();
    assert.equal((await texts(ben))[0], 'Oat milk');

    // Back online: both see the conflict, one chooses.
    await ben.getByRole('button', { name: 'Go online' }).click();
    await ben.getByText('Nothing waits to be sent').waitFor();
    for (const page of [ann, ben]) {
      await page.getByRole('group', { name: /Written at the same time/ }).waitFor();
      assert.deepEqual(await faint(page), []);
      assert.ok((await wider(page)) <= 0);
    }
    await ann.getByRole('group').getByRole('button', { name: 'Oat milk' }).click();
    for (const page of [ann, ben]) {
      await page.getByRole('group').waitFor({ state: 'detached' });
      await until('the items', async () => (await texts(page)).join() === 'Oat milk,Bread,Coffee,<b>Butter</b>' || texts(page));
      await page.getByRole('button', { name: '2 want Bread' }).waitFor();
    }

    // Both online: what comes while somebody types was not seen by them, and is not written over.
    await ann.getByLabel('Text').nth(2).focus();
    await ben.getByText('Ann is editing').waitFor();
    await ben.getByLabel('Text').nth(2).fill('Decaf');
    await ben.keyboard.press('Enter');
    await ben.getByText('Nothing waits to be sent').waitFor();
    await ann.waitForFunction(async () => (await globalThis.db.get('item/03')).text === 'Decaf');
    await ann.getByLabel('Text').nth(2).fill('Espresso');
    await ann.keyboard.press('Enter');
    for (const page of [ann, ben]) await page.getByRole('group').getByRole('button', { name: 'Decaf' }).waitFor();
    assert.deepEqual(windows.flatMap((w) => w.problems), []);
  });

  test('each node has a dashboard, which shows the list', async () => {
    const w = await browser.context();
    const page = await w.page();
    await page.goto(demo.ready.people[1].dashboard);
    await page.getByRole('link', { name: 'list', exact: true }).click();
    await page.getByText('1 of 1').waitFor();
    assert.deepEqual(w.problems, []);
    await w.close();
  });

  test('it ends when it is interrupted, and leaves nothing behind', async () => {
    await demo.end('SIGINT');
    assert.equal(demo.child.exitCode, 0);
    assert.deepEqual(await readdir(temporary.path), []);
  });
});
