// A shopping list that several people edit at once, with or without a network.
//
//   item/…      {text, done, votes}    votes is a counter: all increments count, also those made at once
//   presence/…  {name, editing, beat}  one for each window: who is here, and what they edit
//
// An app that is built with a bundler says: import { open } from '@anabranch/client'.

import { open } from '/client/index.js';

const here = 45_000; // ms without a sign of life until somebody counts as gone; a sign comes each third of that

// The token comes in the fragment, which is sent to no server, and leaves the address at once.
const given = new URLSearchParams(location.hash.slice(1));
if (given.has('token')) {
  sessionStorage.setItem('list.token', given.get('token'));
  history.replaceState(null, '', location.pathname);
}
if (!sessionStorage.getItem('list.window')) sessionStorage.setItem('list.window', crypto.randomUUID().slice(0, 8));
const me = sessionStorage.getItem('list.window');
let myName = given.get('name') ?? sessionStorage.getItem('list.name') ?? `Guest ${me.slice(0, 3)}`;
sessionStorage.setItem('list.name', myName);

// The plug: a network for this window that can be cut off, as it happens on trains. The client knows nothing of it.
const plug = {
  out: sessionStorage.getItem('list.out') === 'yes',
  sockets: new Set(),
  cut: new AbortController(),
  pull() {
    plug.out = true;
    plug.cut.abort();
    for (const s of plug.sockets) s.close();
  },
  putBack() {
    plug.out = false;
    plug.cut = new AbortController();
  },
};

function PluggedSocket(url, protocol) {
  if (plug.out) {
    const dead = { readyState: 3, send() {}, close() {} };
    setTimeout(() => dead.onerror?.(), 0);
    return dead;
  }
  const socket = new WebSocket(url, protocol);
  plug.sockets.add(socket);
  socket.addEventListener('close', () => plug.sockets.delete(socket));
  return socket;
}

function pluggedFetch(url, init = {}) {
  if (plug.out) return Promise.reject(new TypeError('the plug is pulled'));
  return fetch(url, { ...init, signal: init.signal ? AbortSignal.any([init.signal, plug.cut.signal]) : plug.cut.signal });
}

const db = await open({
  url: location.origin,
  space: 'list',
  token: () => sessionStorage.getItem('list.token'),
  storage: `list/${me}`, // each window is somebody of their own
  conflicts: 'ask',
  platform: { WebSocket: PluggedSocket, fetch: pluggedFetch },
});
globalThis.db = db; // to play with in the console

const $ = (id) => document.getElementById(id);

// h makes an element; texts become text nodes, whatever is in them.
function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((c) => c !== false && c !== undefined));
  return node;
}

const text = (node, value) => {
  if (node.textContent !== value) node.textContent = value;
};

// What happens is told; what goes wrong stays until it is read.
function notice(message, ...buttons) {
  const node = h('p', {}, message, ...buttons.map(([label, f]) => h('button', { type: 'button', onclick: () => { f(); node.remove(); } }, label)),
    h('button', { type: 'button', 'aria-label': 'Close', onclick: () => node.remove() }, '×'));
  $('notices').append(node);
}

// Who is here ------------------------------------------------------------------------------------------------------------------

const people = new Map(); // by key: {name, editing, author, seen}

/** nameOf says who a change is by: the author of a change is the client that made it. */
function nameOf(author) {
  for (const p of people.values()) if (p.author === author) return p.name;
  return 'somebody';
}

let beat = 0;
let editing = null;
function tellPresence() {
  if (db.status !== 'live') return; // nobody sees it, and later it would be old news
  db.save(`presence/${me}`, { name: myName, editing, beat: ++beat }).catch(() => {});
}

db.watchList('presence/', (list) => {
  for (const s of list) {
    const known = people.get(s.key);
    const { name = '?', editing: at = null, beat: n } = s.value;
    people.set(s.key, { name: String(name), editing: at, author: s.meta.author, beat: n, seen: known && known.beat === n ? known.seen : Date.now() });
  }
  for (const key of people.keys()) if (!list.some((s) => s.key === key)) people.delete(key);
  drawPeople();
});

function drawPeople() {
  const now = Date.now();
  const present = [...people].filter(([key, p]) => key === `presence/${me}` || now - p.seen < here);
  $('people').replaceChildren(...present.map(([key, p]) => h('li', { 'data-tone': tone(key), title: p.name }, initials(p.name),
    h('span', { class: 'sr' }, key === `presence/${me}` ? `${p.name} (you)` : p.name))));
  for (const item of items.values()) {
    const others = present.filter(([key, p]) => key !== `presence/${me}` && p.editing === item.key);
    text(item.editors, others.length ? `${others.map(([, p]) => p.name).join(' and ')} ${others.length > 1 ? 'are' : 'is'} editing` : '');
    item.node.toggleAttribute('data-busy', others.length > 0);
  }
}

const initials = (name) => [...name.trim()].slice(0, 2).join('') || '?';
const tone = (key) => [...key].reduce((n, c) => (n * 31 + c.codePointAt(0)) % 6, 0);

setInterval(() => {
  tellPresence();
  drawPeople();
}, here / 3);
addEventListener('pagehide', () => { if (db.status === 'live') db.remove(`presence/${me}`).catch(() => {}); });

// The items --------------------------------------------------------------------------------------------------------------------

const items = new Map(); // by key

const ways = {
  saved: ['○', 'on this device only'],
  sent: ['◔', 'on its way'],
  accepted: ['✓', 'held by the node'],
  replicated: ['✓✓', 'held by another node too'],
};

db.watchList('item/', (list) => {
  for (const s of list) {
    let item = items.get(s.key);
    if (!item) {
      items.set(s.key, item = newItem(s.key));
    }
    item.draw(s);
  }
  for (const [key, item] of items) {
    if (list.some((s) => s.key === key)) continue;
    item.node.remove();
    items.delete(key);
  }
  let at = $('items').firstChild; // in the order of the keys; what is in its place is not moved, so that it keeps the focus
  for (const { key } of list) {
    const { node } = items.get(key);
    if (node === at) at = at.nextSibling;
    else $('items').insertBefore(node, at);
  }
  $('empty').hidden = list.length > 0;
  drawPeople();
  drawPending();
  drawConflicts();
});

function newItem(key) {
  let shown; // the snapshot that is on the screen
  let base; // the document when editing began: what is written is the difference to it, and what came meanwhile was not seen
  let timer;
  const done = h('input', { type: 'checkbox', 'aria-label': 'Done', onchange: () => write('done', done.checked, shown.value) });
  const field = h('input', {
    class: 'text', maxlength: 200, 'aria-label': 'Text', autocomplete: 'off',
    onfocus() {
      base = shown.value;
      editing = key;
      tellPresence();
    },
    oninput() {
      clearTimeout(timer);
      timer = setTimeout(keep, 400);
    },
    onkeydown(e) {
      if (e.key === 'Enter') field.blur();
    },
    onblur() {
      keep();
      base = undefined;
      editing = null;
      tellPresence();
      item.draw(shown);
    },
  });
  const votes = h('button', { type: 'button', class: 'votes', onclick: () => db.increment(key, '/votes').catch(fail) });
  const mark = h('span', { class: 'mark', role: 'img' });
  const editors = h('span', { class: 'editors', role: 'status' });
  const remove = h('button', { type: 'button', class: 'remove', onclick: () => db.remove(key).catch(fail) }, '×');
  const contest = h('div', { class: 'contests' });
  const node = h('li', { 'data-key': key }, h('div', { class: 'row' }, done, field, editors, votes, mark, remove), contest);

  function keep() {
    clearTimeout(timer);
    if (base && field.value !== (shown.value.text ?? '')) write('text', field.value, base);
  }

  function write(name, value, from) {
    db.save(key, { ...from, [name]: value }, { base: from }).catch(fail);
  }

  const item = {
    key, node, editors,
    draw(s) {
      shown = s;
      const { value, meta } = s;
      done.checked = value.done === true;
      node.toggleAttribute('data-done', done.checked);
      if (document.activeElement !== field) field.value = String(value.text ?? '(only what somebody wrote after it was deleted)');
      text(votes, `+${value.votes ?? 0}`);
      votes.setAttribute('aria-label', `${value.votes ?? 0} want ${field.value}: want it too`);
      remove.setAttribute('aria-label', `Remove ${field.value}`);
      const [sign, words] = ways[meta.state];
      text(mark, sign);
      mark.dataset.state = meta.state;
      mark.title = words;
      mark.setAttribute('aria-label', words);
    },
    /** settle shows what was written at the same time, to choose from. */
    settle(conflicts) {
      contest.replaceChildren(...conflicts.map((c) => {
        const take = (value) => () => c.choose(value).catch(fail);
        const say = (value) => (value === undefined ? '(nothing)' : typeof value === 'string' ? value : JSON.stringify(value));
        return h('fieldset', {},
          h('legend', {}, `Written at the same time${c.path === '/text' ? '' : ` in ${c.path}`}: which shall it be?`),
          h('button', { type: 'button', onclick: take(c.value) }, say(c.value), h('small', {}, 'shows now')),
          ...c.others.map((o) => h('button', { type: 'button', onclick: take(o.value) }, say(o.value),
            h('small', {}, `${nameOf(o.author)}, ${new Date(o.at).toLocaleTimeString()}`))),
          c.path === '/text' && h('button', { type: 'button', onclick: take([c.value, ...c.others.map((o) => o.value)].map(say).join(' + ')) }, 'Both'));
      }));
    },
  };
  return item;
}

async function drawConflicts() {
  const found = await db.listConflicts('item/');
  for (const [key, item] of items) item.settle(found.filter((c) => c.key === key));
}
db.onConflict(drawConflicts);

const fail = (error) => notice(`It was not kept: ${error.message}`);

$('add').addEventListener('submit', (e) => {
  e.preventDefault();
  const value = $('text').value.trim();
  if (!value) return;
  $('text').value = '';
  db.save(`item/${Date.now().toString(36)}-${me}`, { text: value, done: false }).catch(fail);
});

// The connection ---------------------------------------------------------------------------------------------------------------

const words = {
  live: 'Live: everybody sees changes at once',
  connecting: 'Connecting…',
  offline: 'No connection: changes are kept here',
  'needs-auth': 'The node does not take the token: start the demo again',
};

function drawStatus() {
  const unplugged = plug.out && db.status !== 'live';
  text($('status'), unplugged ? 'Offline: changes are kept here' : words[db.status]);
  $('status').dataset.status = unplugged ? 'offline' : db.status;
  $('plug').setAttribute('aria-pressed', plug.out);
  text($('plug'), plug.out ? 'Go online' : 'Work offline');
  drawPending();
}

function drawPending() {
  const n = db.pending.filter((p) => p.keys.some((k) => k.startsWith('item/'))).length;
  text($('pending'), n === 0 ? 'Nothing waits to be sent' : n === 1 ? '1 change waits to be sent' : `${n} changes wait to be sent`);
}

$('plug').addEventListener('click', () => {
  if (plug.out) plug.putBack();
  else plug.pull();
  sessionStorage.setItem('list.out', plug.out ? 'yes' : 'no');
  db.reconnect();
  drawStatus();
});

$('name').value = myName;
$('name').addEventListener('change', () => {
  myName = $('name').value.trim() || myName;
  sessionStorage.setItem('list.name', myName);
  tellPresence();
});

db.on('status', () => {
  drawStatus();
  if (db.status === 'live') tellPresence();
});
db.on('change', drawPending);
db.on('rejected', (r) => notice(`The node refused a change (${r.code}${r.detail ? `: ${r.detail}` : ''}).`, ['Try again', () => r.retry()], ['Give it up', () => r.drop()]));
db.on('error', (error) => notice(error.message));
drawStatus();
if (db.status === 'live') tellPresence();
