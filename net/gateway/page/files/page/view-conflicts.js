// Documents with values that were written at the same time: an inbox, and for each contest all values to choose from.

import { Api, Problem } from './api.js';
import { ask, attribute, h, replace, say, text } from './dom.js';
import { ago, count, moment, plural, short } from './format.js';
import { format, parse } from './jsontext.js';

const pageSize = 100;

const stale = (error) => error.status === 412 || error.status === 409;

export function conflictsView(app, { space, query }) {
  const list = h('ul', { class: 'list', 'aria-label': 'Documents with conflicts' });
  const status = h('p', { class: 'hint', role: 'status' }, 'Looking…');
  const more = h('button', { type: 'button', hidden: true, onclick: () => load(true) }, 'More');
  const all = h('button', { type: 'button', hidden: true, onclick: settleAll }, 'Keep what shows, everywhere');
  const detail = h('section', { class: 'detail', 'aria-label': 'Conflicts of one document', tabindex: '-1' });
  const node = h('div', {},
    h('h1', {}, 'Conflicts'),
    h('p', { class: 'hint' }, 'Values of one field that were written by several, who did not know of each other. The newest shows; the others are kept until somebody chooses.'),
    h('div', { class: 'bar' }, status, all),
    h('div', { class: 'split' }, h('section', { class: 'card flush listing' }, list, more), detail));

  let open = query.get('key') ?? '';
  let found = [];
  let next = '';
  let stop = new AbortController();
  let known = -1; // conflicts of the space when the list was read

  async function load(on = false) {
    try {
      const page = await app.api.get(Api.path('spaces', space, 'conflicts'), { query: { limit: pageSize, after: on ? next : '' } });
      found = on ? [...found, ...page.conflicts] : page.conflicts ?? [];
      next = page.next ?? '';
      known = page.count ?? found.length;
      more.hidden = !next;
      all.hidden = found.length === 0 || !app.mayWrite(space);
      text(status, found.length ? `${plural(known, 'conflict')} in ${plural(page.documents ?? found.length, 'document')}` : '');
      drawList();
      if (!open && found.length === 0) nothing();
      else if (!open && !on) replace(detail, h('p', { class: 'empty' }, 'Choose a document.'));
    } catch (error) {
      fail(error);
    }
  }

  function fail(error) {
    if (error.name === 'AbortError') return;
    text(status, error.message);
  }

  function nothing() {
    replace(detail, h('p', { class: 'empty good' }, 'There is no conflict in this space.'));
  }

  function drawList() {
    attribute(node.querySelector('.split'), 'data-empty', found.length === 0);
    replace(list, found.map((c) => h('li', {},
      h('a', { href: app.link(space, 'conflicts', { key: c.key }), 'aria-current': c.key === open ? 'true' : null },
        h('span', { class: 'mono' }, c.key), h('span', { class: 'mark warn' }, count(c.count))))));
  }

  async function show(key, { focus = false } = {}) {
    open = key;
    stop.abort();
    stop = new AbortController();
    attribute(node.querySelector('.split'), 'data-open', Boolean(key));
    drawList();
    if (!key) return;
    if (focus) detail.focus({ preventScroll: true });
    try {
      const answer = await app.api.request('GET', Api.path('spaces', space, 'conflicts', key), { signal: stop.signal });
      const told = parse(await answer.text());
      drawContests(key, answer.headers.get('ETag'), told.get('contests') ?? []);
    } catch (error) {
      if (error.name === 'AbortError') return;
      replace(detail, back(), h('p', { class: 'problem', role: 'alert' }, error.status === 404 ? 'This document has gone meanwhile.' : error.message));
    }
  }

  const back = () => h('p', { class: 'back' }, h('a', { href: app.link(space, 'conflicts') }, '← All documents with conflicts'));

  function drawContests(key, etag, contests) {
    const problem = h('p', { class: 'problem', role: 'alert' });
    replace(detail,
      back(),
      h('header', { class: 'bar' },
        h('h2', { class: 'mono break' }, key),
        h('a', { href: app.link(space, 'documents', { key }) }, 'Open the document')),
      problem,
      contests.length === 0
        ? h('p', { class: 'empty good' }, 'Settled: it has no conflict any more.')
        : contests.map((c, i) => contest(key, etag, c, i, problem)));
  }

  function contest(key, etag, c, number, problem) {
    const path = c.get('path');
    const name = `choice-${number}`;
    const values = [
      new Map([['value', c.get('shown')], ['author', c.get('author')], ['at', c.get('at')], ['shown', true]]),
      ...(c.get('lost') ?? []),
    ];
    const writable = app.mayWrite(space);
    const settle = async (e) => {
      e.preventDefault();
      const index = Number(new FormData(form).get(name));
      replace(problem);
      button.disabled = true;
      try {
        await app.api.send('POST', Api.path('spaces', space, 'conflicts', key), JSON.stringify(index === 0 ? { path, rule: 'last-write-wins' } : { path, index: index - 1 }), { headers: etag ? { 'If-Match': etag } : {} });
        say(`Settled ${path || 'the document'} of ${key}.`);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        text(problem, stale(error) ? 'The document has changed meanwhile; look again at what it holds now.' : error.message);
        button.disabled = false;
        if (!stale(error)) return;
      }
      await Promise.all([load(), show(key)]);
    };
    const button = h('button', { class: 'primary' }, 'Use the chosen value');
    const form = h('form', { class: 'card contest', onsubmit: settle },
      h('fieldset', { disabled: !writable },
        h('legend', { class: 'mono break' }, path || '(the whole document)'),
        values.map((v, i) => choice(name, path, v, i))),
      writable ? h('div', { class: 'actions' }, button) : h('p', { class: 'hint' }, 'This token may only read.'));
    return form;
  }

  function choice(name, path, v, i) {
    const at = v.get('at') ? new Date(Number(v.get('at'))) : undefined;
    const author = v.get('author') ?? '';
    const id = `${name}-${i}`;
    return h('label', { class: 'choice', for: id },
      h('input', { type: 'radio', name, id, value: i, checked: i === 0, required: true }),
      h('span', {},
        h('code', { class: 'value' }, v.has('value') ? format(v.get('value')) : '(removed)'),
        h('span', { class: 'hint block' },
          v.get('shown') && h('span', { class: 'mark ok' }, 'shows now'), ' ',
          at && h('time', { datetime: at.toISOString(), title: moment(at) }, `${moment(at)}, ${ago(at)}`),
          author && [' by ', h('span', { class: 'mono', title: author }, short(author))],
          (v.get('path') ?? path) !== path && [' at ', h('span', { class: 'mono' }, v.get('path')), ', hidden by what shows'])));
  }

  async function settleAll() {
    const ok = await ask({
      title: 'Keep what shows, everywhere?', yes: 'Settle all', danger: true,
      detail: `In each of the ${plural(found.length, 'document')} listed, the value that shows stays and the others are given up, here and at every peer.`,
    });
    if (!ok) return;
    all.disabled = true;
    let settled = 0;
    try {
      for (const c of [...found]) {
        await app.api.send('POST', Api.path('spaces', space, 'conflicts', c.key), JSON.stringify({ path: '', rule: 'last-write-wins' }));
        settled++;
      }
      say(`Settled ${plural(settled, 'document')}.`);
    } catch (error) {
      say(`Settled ${plural(settled, 'document')}, then: ${error.message}`, 'bad');
    }
    all.disabled = false;
    open = '';
    await load();
  }

  load();
  if (open) show(open);
  return {
    node,
    go(q) {
      const key = q.get('key') ?? '';
      show(key, { focus: true });
      if (!key) load();
    },
    update(snapshot) {
      const now = snapshot.spaces.find((s) => s.name === space)?.conflicts;
      if (now === undefined || known < 0 || now === known) return;
      known = now; // once for each change; load sets what it finds
      load();
    },
    close: () => stop.abort(),
  };
}
