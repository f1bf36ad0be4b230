// Documents: a list by prefix, and an editor.

import { Api } from './api.js';
import { attribute, h, replace, text } from './dom.js';
import { plural } from './format.js';
import { editor } from './editor.js';

const pageSize = 100;

export function documentsView(app, { space, query }) {
  const input = h('input', { type: 'search', id: 'prefix', value: query.get('prefix') ?? '', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', oninput: soon });
  const list = h('ul', { class: 'list', 'aria-label': 'Documents' });
  const status = h('p', { class: 'hint', role: 'status' }, 'Looking…');
  const more = h('button', { type: 'button', hidden: true, onclick: () => load(true) }, 'More');
  const make = h('button', { type: 'button', onclick: () => show('', { fresh: true, focus: true }) }, 'New document');
  const detail = h('section', { class: 'detail', 'aria-label': 'Document', tabindex: '-1' });
  const split = h('div', { class: 'split' },
    h('section', { class: 'card flush listing' },
      h('form', { class: 'bar search', role: 'search', onsubmit: (e) => { e.preventDefault(); load(); } },
        h('label', { for: 'prefix' }, 'Keys that begin with'), input),
      status, list, more),
    detail);
  const node = h('div', {}, h('div', { class: 'bar' }, h('h1', {}, 'Documents'), app.mayWrite(space) && make), split);

  let open = query.get('key') ?? '';
  let keys = [];
  let next = '';
  let timer;
  let asked = 0;
  let form;
  let cursor;

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(load, 200);
  }

  const address = (key) => app.link(space, 'documents', { prefix: input.value, key });

  async function load(on = false) {
    const mine = ++asked;
    const prefix = input.value;
    app.moveTo(address(open), { quietly: true });
    try {
      const page = await app.api.get(Api.path('spaces', space, 'docs'), { query: { prefix, keys: 1, limit: pageSize, after: on === true ? next : '' } });
      if (mine !== asked) return; // a newer question is on its way
      const found = (page.documents ?? []).map((d) => d.key);
      keys = on === true ? [...keys, ...found] : found;
      next = page.next ?? '';
      more.hidden = !next;
      text(status, keys.length ? `${plural(keys.length, 'document')}${next ? ' so far' : ''}`
        : prefix ? 'No key begins with that.' : 'There is no document in this space yet.');
      draw();
    } catch (error) {
      if (mine === asked) text(status, error.message);
    }
  }

  function draw() {
    const focused = document.activeElement?.closest('.list a')?.dataset.key;
    replace(list, keys.map((key) => h('li', {},
      h('a', { href: address(key), 'data-key': key, class: 'mono', 'aria-current': key === open ? 'true' : null }, key))));
    if (focused !== undefined) [...list.querySelectorAll('a')].find((a) => a.dataset.key === focused)?.focus();
  }

  async function show(key, { fresh = false, focus = false } = {}) {
    if (form && !(await form.mayLeave())) {
      app.moveTo(address(open), { quietly: true });
      return;
    }
    form?.close();
    form = undefined;
    open = key;
    attribute(split, 'data-open', Boolean(key || fresh));
    draw();
    if (!key && !fresh) {
      replace(detail, h('p', { class: 'empty' }, 'Choose a document to look at or edit.'));
      return;
    }
    form = editor(app, {
      space, key,
      async onSaved(saved) {
        if (fresh) await show(saved, { focus: true });
        load();
      },
      onGone() {
        form.close();
        form = undefined;
        show('');
        load();
      },
    });
    replace(detail, h('p', { class: 'back' }, h('a', { href: address(''), onclick: () => fresh && !open && show('') }, '← All documents')), form.node);
    if (focus) (fresh ? form.node.querySelector('input') : detail).focus({ preventScroll: true });
  }

  load();
  show(open);
  return {
    node,
    go(q) {
      const prefix = q.get('prefix') ?? '';
      if (prefix !== input.value) {
        input.value = prefix;
        load();
      }
      const key = q.get('key') ?? '';
      if (key !== open) show(key, { focus: true });
    },
    update(snapshot) {
      const now = snapshot.spaces.find((s) => s.name === space)?.documents;
      if (cursor !== undefined && now !== cursor && !next) load(); // one more or less; a long list stays as it was read
      cursor = now;
    },
    close() {
      clearTimeout(timer);
      form?.close();
    },
  };
}
