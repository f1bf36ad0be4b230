// The editor of one document: JSON as text, checked while it is typed, saved only onto what was read (If-Match).

import { Api, Problem } from './api.js';
import { ask, attribute, h, replace, say, text } from './dom.js';
import { moment, plural, short } from './format.js';
import { difference, equal, format, fromChannel, JSONError, merge, parse } from './jsontext.js';

/**
 * editor shows a document, or a form for a new one if key is "". onSaved(key) and onGone() tell what became of it. It returns
 * {node, mayLeave(), close()}.
 */
export function editor(app, { space, key, onSaved, onGone }) {
  const fresh = key === '';
  const writable = app.mayWrite(space);
  const name = h('input', { id: 'new-key', required: true, maxlength: '1024', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off' });
  const area = h('textarea', {
    id: 'json', class: 'mono', spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', autocorrect: 'off', rows: '18', readonly: !writable,
    'aria-describedby': 'json-state', oninput: check, onkeydown: keys,
  });
  const state = h('p', { class: 'hint', id: 'json-state', role: 'status' });
  const facts = h('p', { class: 'hint' });
  const problem = h('div', { role: 'alert' });
  const save = h('button', { class: 'primary' }, fresh ? 'Create' : 'Save');
  const tidy = h('button', { type: 'button', onclick: reformat }, 'Tidy');
  const revert = h('button', { type: 'button', onclick: () => setText(format(base)) }, 'Undo all');
  const remove = h('button', { type: 'button', class: 'danger', onclick: del }, 'Delete');
  const node = h('form', { class: 'editor', onsubmit: (e) => { e.preventDefault(); store(); } },
    fresh
      ? [h('h2', {}, 'New document'), h('label', { for: 'new-key' }, 'Key'), name]
      : h('header', { class: 'bar' }, h('h2', { class: 'mono break' }, key)),
    facts, problem,
    h('label', { for: 'json' }, 'Document, as JSON'), area, state,
    writable ? h('div', { class: 'actions' }, save, tidy, !fresh && revert, !fresh && remove) : h('p', { class: 'hint' }, 'This token may only read.'));

  let base = new Map(); // what the text began as
  let etag; // of base
  let latest; // {etag, doc} that came meanwhile
  let settled = fresh; // loaded, or known to be gone
  const stop = new AbortController();

  const path = (k) => Api.path('spaces', space, 'docs', k);

  function value() {
    const found = parse(area.value);
    if (!(found instanceof Map)) throw new JSONError('a document is an object: { … }', area.value, 0);
    return found;
  }

  function changed() {
    try {
      return settled && !equal(value(), base);
    } catch {
      return true;
    }
  }

  function setText(now) {
    area.value = now;
    check();
  }

  function check() {
    try {
      const changes = difference(base, value());
      attribute(area, 'aria-invalid', null);
      attribute(state, 'data-level', null);
      text(state, fresh ? 'Valid JSON.' : changes.length ? `Valid JSON; ${plural(changes.length, 'field')} changed.` : 'As it is stored.');
      save.disabled = !fresh && changes.length === 0;
      revert.disabled = changes.length === 0;
    } catch (error) {
      attribute(area, 'aria-invalid', 'true');
      attribute(state, 'data-level', 'bad');
      text(state, `Not JSON: ${error.message}.`);
      save.disabled = true;
      revert.disabled = false;
    }
  }

  function keys(e) {
    if ((e.ctrlKey || e.metaKey) && e.key === 's') {
      e.preventDefault();
      if (writable && !save.disabled) node.requestSubmit();
    }
  }

  function reformat() {
    try {
      setText(format(value()));
    } catch (error) {
      area.focus();
      if (error.offset !== undefined) area.setSelectionRange(error.offset, error.offset + 1);
    }
  }

  async function load() {
    text(state, 'Reading…');
    try {
      const answer = await app.api.request('GET', path(key), { signal: stop.signal });
      base = parse(await answer.text());
      etag = answer.headers.get('ETag');
      latest = undefined;
      settled = true;
      area.disabled = false;
      replace(problem);
      setText(format(base));
      describe();
    } catch (error) {
      if (error.name === 'AbortError') return;
      area.disabled = save.disabled = true;
      text(state, '');
      replace(problem, h('p', { class: 'problem' }, error.status === 404 ? 'There is no such document: it was deleted, or never written.' : error.message));
    }
  }

  /** describe tells who wrote it last, and of its conflicts. */
  async function describe() {
    try {
      const item = await app.api.exact(path(key), { query: { meta: 1 }, signal: stop.signal });
      tell(item);
    } catch {
      replace(facts); // it is only an addition
    }
  }

  function tell(item) {
    const at = item.get('at') ? new Date(Number(item.get('at'))) : undefined;
    const conflicts = item.get('conflicts')?.length ?? 0;
    const counters = item.get('counters') ?? [];
    replace(facts,
      at && ['Last written ', h('time', { datetime: at.toISOString() }, moment(at))],
      item.get('author') && [' by ', h('span', { class: 'mono', title: item.get('author') }, short(item.get('author')))], at && '. ',
      counters.length > 0 && [`Counters: ${counters.join(', ')}. To change one here makes it a plain number. `],
      conflicts > 0 && h('a', { class: 'warn', href: app.link(space, 'conflicts', { key }) }, `It has ${plural(conflicts, 'conflict')}: look at them.`));
  }

  /** follow keeps an eye on the document while it is open. */
  function follow() {
    app.api.follow(Api.path('spaces', space, 'events'), {
      query: { key }, signal: stop.signal, onState() {},
      async onEvent(event, data) {
        if (event !== 'changes' || !settled) return;
        const item = parse(data).get('items')?.findLast((i) => i.get('key') === key);
        if (!item) return;
        if (item.get('deleted')) {
          replace(problem, h('p', { class: 'problem' }, 'It was deleted meanwhile. Saving writes it again.'));
          etag = undefined;
          return;
        }
        tell(item);
        if (!equal(fromChannel(item.get('doc')), latest?.doc ?? base)) await newer();
      },
    });
  }

  /** newer fetches what the document has become, and shows it at once if nothing was edited. */
  async function newer() {
    let answer;
    let doc;
    try {
      answer = await app.api.request('GET', path(key), { signal: stop.signal });
      doc = parse(await answer.text());
    } catch {
      return; // it was closed meanwhile; or else the next event, or saving, finds out
    }
    if (answer.headers.get('ETag') === etag || equal(doc, base)) {
      etag = answer.headers.get('ETag');
      return;
    }
    if (!changed()) {
      base = doc;
      etag = answer.headers.get('ETag');
      setText(format(base));
      text(state, 'It has just changed elsewhere; this is what it is now.');
      return;
    }
    latest = { doc, etag: answer.headers.get('ETag') };
    showNewer();
  }

  /** showNewer says what changed on the node under an edit, and how to go on. */
  function showNewer() {
    let mine;
    try {
      mine = value();
    } catch {
      mine = undefined; // it can still be taken over, once it is JSON
    }
    const merged = mine && merge(base, mine, latest.doc);
    const theirs = difference(base, latest.doc);
    const mineAt = new Map((mine ? difference(base, mine) : []).map((d) => [d.path, d]));
    const show = (v) => (v === undefined ? h('em', {}, 'nothing') : h('code', { class: 'value' }, format(v)));
    replace(problem, h('section', { class: 'card newer' },
      h('h3', {}, 'It has changed meanwhile'),
      h('p', {}, `Nothing was saved. ${plural(theirs.length, 'field')} changed on the node since you began:`),
      h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'What changed' },
        h('table', {},
          h('thead', {}, h('tr', {}, ['Field', 'Was', 'Is now', 'Yours'].map((t) => h('th', { scope: 'col' }, t)))),
          h('tbody', {}, theirs.map((d) => h('tr', {},
            h('th', { scope: 'row', class: 'mono break' }, d.path || '(the whole document)'), h('td', {}, show(d.from)), h('td', {}, show(d.to)),
            h('td', {}, mineAt.has(d.path) ? show(mineAt.get(d.path).to) : h('span', { class: 'hint' }, 'not touched'))))))),
      merged && merged.clashes.length > 0 && h('p', {}, `You both changed ${merged.clashes.map((c) => c || 'the whole document').join(', ')}; to keep your changes takes yours there.`),
      h('div', { class: 'actions' },
        merged && h('button', { type: 'button', class: 'primary', onclick: () => rebase(merged.value) }, 'Keep my changes, on top of it'),
        h('button', { type: 'button', onclick: () => rebase(latest.doc) }, 'Take what is there'))));
  }

  function rebase(doc) {
    base = latest.doc;
    etag = latest.etag;
    latest = undefined;
    replace(problem);
    setText(format(doc));
    area.focus();
  }

  async function store() {
    let doc;
    try {
      doc = value();
    } catch {
      return; // check() has said so
    }
    if (latest) {
      showNewer();
      return;
    }
    const at = fresh ? name.value : key;
    save.disabled = true;
    text(state, 'Saving…');
    try {
      const answer = await app.api.send('PUT', path(at), area.value, { headers: etag ? { 'If-Match': etag } : { 'If-None-Match': '*' } });
      base = doc;
      etag = answer.headers.get('ETag') ?? (await answer.json()).etag;
      if (etag && !etag.startsWith('"')) etag = `"${etag}"`;
      replace(problem);
      say(`Saved ${at}.`);
      if (!fresh) {
        check();
        describe();
      }
      settled = true;
      onSaved(at);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      check();
      if (error.status === 412 && !fresh) await conflict();
      else replace(problem, h('p', { class: 'problem' }, error.status === 412 ? 'There is a document with this key already.' : `Not saved: ${error.message}`));
    }
  }

  /** conflict is what follows a 412: the document is no longer what it was when it was read. */
  async function conflict() {
    try {
      const answer = await app.api.request('GET', path(key));
      latest = { doc: parse(await answer.text()), etag: answer.headers.get('ETag') };
      showNewer();
    } catch (error) {
      if (error.status === 404) etag = undefined;
      replace(problem, h('p', { class: 'problem' }, error.status === 404 ? 'It was deleted meanwhile. To save writes it again.' : error.message));
    }
  }

  async function del() {
    const ok = await ask({
      title: 'Delete this document?', yes: 'Delete', danger: true,
      detail: `${key} is deleted here and at every peer. What somebody else writes to it at the same time survives.`,
    });
    if (!ok) return;
    try {
      await app.api.send('DELETE', path(key), undefined, { headers: etag ? { 'If-Match': etag } : {} });
      say(`Deleted ${key}.`);
      settled = false;
      onGone();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 412) await conflict();
      else replace(problem, h('p', { class: 'problem' }, `Not deleted: ${error.message}`));
    }
  }

  const warn = (e) => {
    if (changed()) e.preventDefault();
  };
  addEventListener('beforeunload', warn);

  if (fresh) setText('{\n  \n}');
  else {
    area.disabled = true;
    load().then(follow);
  }
  return {
    node,
    async mayLeave() {
      if (!writable || !settled || (fresh && !name.value) || !changed()) return true;
      return ask({ title: 'Leave without saving?', detail: 'What you changed here is given up.', yes: 'Leave', danger: true });
    },
    close() {
      stop.abort();
      removeEventListener('beforeunload', warn);
    },
  };
}
