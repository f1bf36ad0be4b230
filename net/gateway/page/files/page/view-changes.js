// A space's changes as they arrive.

import { Api, Problem } from './api.js';
import { attribute, h, replace, text } from './dom.js';
import { clock, count, moment, plural, short } from './format.js';
import { format, fromChannel, parse } from './jsontext.js';

const shownAtMost = 500;
const lookBack = 50; // changes from before, so that the page is not empty

export function changesView(app, { space, query }) {
  const state = h('p', { class: 'hint', role: 'status' }, 'Connecting…');
  const pause = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => setPaused(!paused) }, 'Pause');
  const prefix = h('input', { type: 'search', id: 'prefix', value: query.get('prefix') ?? '', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off' });
  const list = h('ol', { class: 'feed', 'aria-label': 'Changes, the newest first' });
  const empty = h('p', { class: 'empty' }, 'Nothing has changed yet. What changes shows here at once.');
  const form = h('form', { class: 'bar', role: 'search', onsubmit: (e) => { e.preventDefault(); restart(); } },
    h('label', { for: 'prefix' }, 'Keys that begin with'), prefix,
    h('button', {}, 'Show'), pause);

  let paused = false;
  let held = [];
  let stop = new AbortController();
  let seen = 0;
  let connection = 'Connecting…';

  const drawState = () => {
    text(state, paused ? `Paused; ${plural(held.length, 'change')} waiting` : `${connection}${seen ? ` · ${plural(seen, 'change')} seen` : ''}`);
  };

  function setPaused(now) {
    paused = now;
    attribute(pause, 'aria-pressed', paused);
    text(pause, paused ? 'Go on' : 'Pause');
    if (!paused) {
      add(held);
      held = [];
    }
    drawState();
  }

  function add(items) {
    if (items.length === 0) return;
    const frame = document.createDocumentFragment();
    for (const item of items.slice(-shownAtMost).reverse()) frame.append(row(app, space, item));
    list.prepend(frame);
    while (list.childElementCount > shownAtMost) list.lastChild.remove();
    empty.hidden = true;
  }

  function onEvent(name, data) {
    if (name === 'reset') {
      connection = 'The place in the history is gone; showing it from the beginning';
      drawState();
      return;
    }
    if (name !== 'changes') return;
    const items = parse(data).get('items') ?? [];
    seen += items.length;
    if (paused) held = [...held, ...items].slice(-shownAtMost);
    else add(items);
    drawState();
  }

  function onState(now) {
    if (now instanceof Problem) connection = now.status === 0 ? 'The connection broke; trying again' : now.message;
    else connection = now === 'live' ? 'Live' : 'Connecting…';
    attribute(state, 'data-level', now === 'live' ? 'ok' : now instanceof Problem ? 'bad' : null);
    drawState();
  }

  async function restart() {
    stop.abort();
    stop = new AbortController();
    const { signal } = stop;
    held = [];
    seen = 0;
    replace(list);
    empty.hidden = false;
    app.moveTo(app.link(space, 'changes', { prefix: prefix.value }), { quietly: true });
    const since = await recent();
    if (!signal.aborted) app.api.follow(Api.path('spaces', space, 'events'), { query: { prefix: prefix.value, since }, onEvent, onState, signal });
  }

  /** recent is a cursor some changes ago: arrival numbers count up, and a document keeps only its last. */
  async function recent() {
    try {
      const status = await app.api.get(Api.path('spaces', space, 'status'));
      const [feed, arrival] = String(status.cursor ?? '').split('-');
      if (!arrival) return '';
      const from = BigInt(arrival) - BigInt(lookBack);
      return from > 0n ? `${feed}-${from}` : '';
    } catch {
      return ''; // from the beginning, then
    }
  }

  restart();
  return {
    node: h('div', {},
      h('h1', {}, 'Changes'),
      h('p', { class: 'hint' }, `What changes in ${space}, here or at a peer, as it arrives. A document shows as it is after its last change.`),
      form, state, h('section', { class: 'card flush' }, list, empty)),
    close: () => stop.abort(),
  };
}

function row(app, space, item) {
  const key = item.get('key');
  const deleted = item.get('deleted') === true;
  const conflicts = item.get('conflicts')?.length ?? 0;
  const at = item.get('at');
  const when = at ? new Date(Number(at)) : undefined;
  const author = item.get('author');
  const body = h('pre', { class: 'json' });
  const details = h('details', {
    ontoggle: () => {
      if (details.open && !body.textContent) body.textContent = deleted ? '(deleted)' : format(fromChannel(item.get('doc')));
    },
  }, h('summary', {},
    h('span', { class: `mark ${deleted ? 'bad' : conflicts ? 'warn' : 'ok'}` }, deleted ? 'deleted' : conflicts ? plural(conflicts, 'conflict') : 'changed'),
    h('span', { class: 'mono key' }, key),
    h('span', { class: 'hint' },
      when && h('time', { datetime: when.toISOString(), title: moment(when) }, clock(when)),
      author && h('span', { class: 'mono', title: `written by ${author}` }, ` ${short(author).slice(0, 8)}`))),
  body,
  h('p', { class: 'actions' },
    !deleted && h('a', { href: app.link(space, 'documents', { key }) }, 'Open'),
    conflicts > 0 && h('a', { href: app.link(space, 'conflicts', { key }) }, `Look at ${count(conflicts)} ${conflicts === 1 ? 'conflict' : 'conflicts'}`)));
  return h('li', {}, details);
}
