// One space: how far each peer is, what is stable and whom it waits for.

import { chart } from './charts.js';
import { attribute, firstAsking, h, rows, text, time } from './dom.js';
import { ago, bytes, count, dateOf, plural, short } from './format.js';
import { lag, stability } from './snapshot.js';

export function spaceView(app, { space }) {
  const tiles = Object.fromEntries(['Documents', 'Conflicts', 'Peers level', 'Changes they lack'].map((name) => [name, h('strong', {}, '–')]));
  const sentence = h('p');
  const waiting = h('p', { class: 'hint' });
  const body = h('tbody');
  const empty = h('p', { class: 'empty' }, 'No other node keeps this space. An invitation lets one in: ', h('code', {}, 'anabranch invite'), '.');
  const gone = h('p', { class: 'problem', role: 'alert', hidden: true }, 'There is no such space here, or the token gives no rights in it.');
  const behind = chart({
    title: 'Changes that connected peers lack', words: (n) => count(Math.round(n)), series: [{ name: 'the furthest', class: 'one', colour: '--line-1' }],
  });
  const past = { seconds: [], lacks: [] };
  const draw = rows(body, (p) => p.peer, memberRow);

  const node = firstAsking([
    h('h1', {}, space),
    gone,
    h('dl', { class: 'tiles' }, Object.entries(tiles).map(([name, value]) => h('div', { class: 'card' }, h('dt', {}, name), h('dd', {}, value)))),
    h('div', { class: 'pair' },
      behind.node,
      h('section', { class: 'card' }, h('h2', {}, 'Stability'), sentence, waiting)),
    h('section', { class: 'card' },
      h('h2', {}, 'Peers'),
      h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Peers of this space' },
        h('table', { class: 'stack' }, h('thead', {}, h('tr', {}, ['Peer', 'Lag', 'Has', 'Heard', 'Counts for stability'].map((t) => h('th', { scope: 'col' }, t)))), body)),
      empty),
  ]);

  return {
    node: node.node,
    update(snapshot) {
      node.arrived();
      const s = snapshot.spaces.find((x) => x.name === space);
      gone.hidden = Boolean(s);
      if (!s) return;
      const lacks = Math.max(0, ...s.peers.filter((p) => p.connected).map((p) => p.pending ?? 0));
      text(tiles.Documents, count(s.documents));
      text(tiles.Conflicts, s.conflicts ? `${count(s.conflicts)} in ${plural(s.conflicted, 'document')}` : 'none');
      text(tiles['Peers level'], s.peers.length ? `${s.peers.filter((p) => lag(p).level === 'ok').length} of ${s.peers.length}` : 'no peers');
      text(tiles['Changes they lack'], count(s.peers.reduce((sum, p) => sum + (p.pending ?? 0), 0)));
      text(sentence, stability(s.stability));
      text(waiting, s.stability.waiting > 0 ? `${plural(s.stability.waiting, 'trace')} of older changes can go, and will when there is time.` : '');
      past.seconds.push(snapshot.time / 1000);
      past.lacks.push(lacks);
      if (past.seconds.length > 300) {
        past.seconds.shift();
        past.lacks.shift();
      }
      behind.draw(past.seconds, [past.lacks]);
      draw(membersOf(s));
      empty.hidden = body.childElementCount > 0;
    },
    close: () => behind.close(),
  };
}

/** membersOf brings together what is known of each peer of a space, and of members that are not connected. */
function membersOf(s) {
  const all = new Map(s.peers.map((p) => [p.peer, p]));
  for (const m of s.stability.members) all.set(m.peer, { pending: 0, ...all.get(m.peer), ...m, isMember: true });
  const holds = new Set(s.stability.heldBy.map((m) => m.peer));
  return [...all.values()].map((p) => ({ ...p, holdsBack: holds.has(p.peer) }));
}

function memberRow() {
  const id = h('span', { class: 'mono' });
  const state = h('span', {});
  const error = h('span', { class: 'hint block' });
  const has = h('td', { 'data-label': 'Has' });
  const heard = h('time', {});
  const counts = h('td', { 'data-label': 'Counts' });
  return {
    node: h('tr', {}, h('th', { scope: 'row' }, id), h('td', { 'data-label': 'Lag' }, h('div', {}, state, error)), has, h('td', { 'data-label': 'Heard' }, heard), counts),
    update(p) {
      text(id, short(p.peer));
      attribute(id, 'title', p.peer);
      const l = lag(p);
      text(state, l.words);
      attribute(state, 'class', `dot ${l.level}`);
      text(error, [p.lastError, p.snapshot && `${bytes(p.snapshot.bytes)} given`].filter(Boolean).join('; '));
      text(has, plural(p.known ?? 0, 'change'));
      const date = p.connected ? undefined : dateOf(p.heard);
      time(heard, date, p.connected ? 'now' : date ? ago(date) : '–');
      text(counts, p.evicted ? 'no: evicted' : !p.isMember ? 'no: not a member' : !p.counts ? 'no: away too long' : p.holdsBack ? 'yes; it is waited for' : 'yes');
      attribute(counts, 'class', p.holdsBack ? 'warn' : null);
    },
  };
}
