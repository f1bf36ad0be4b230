// One space: how far each peer is, what is stable and whom it waits for.

import { chart } from './charts.js';
import { attribute, firstAsking, h, rows, text } from './dom.js';
import { bytes, count, plural, short } from './format.js';
import { holders, lag, stability } from './snapshot.js';

export function spaceView(app, { space }) {
  const tiles = Object.fromEntries(['Documents', 'Conflicts', 'Peers level', 'Changes they lack'].map((name) => [name, h('strong', {}, '–')]));
  const sentence = h('p');
  const waiting = h('p', { class: 'hint' });
  const members = h('p', { class: 'hint' });
  const repairs = h('p', { class: 'hint' });
  const body = h('tbody');
  const empty = h('p', { class: 'empty' }, 'No other node keeps this space. An invitation lets one in: ', h('code', {}, 'anabranch invite'), '.');
  const gone = h('p', { class: 'problem', role: 'alert', hidden: true }, 'There is no such space here, or the token gives no rights in it.');
  const behind = chart({
    title: 'Changes that connected peers lack', words: (n) => count(Math.round(n)), whole: true, series: [{ name: 'the furthest', class: 'one', colour: '--line-1' }],
  });
  const past = { seconds: [], lacks: [] };
  const draw = rows(body, (p) => p.peer, memberRow);

  const node = firstAsking([
    h('h1', {}, space),
    gone,
    h('dl', { class: 'tiles' }, Object.entries(tiles).map(([name, value]) => h('div', { class: 'card' }, h('dt', {}, name), h('dd', {}, value)))),
    h('div', { class: 'pair' },
      behind.node,
      h('section', { class: 'card' }, h('h2', {}, 'Stability'), sentence, waiting, members, repairs)),
    h('section', { class: 'card' },
      h('h2', {}, 'Peers'),
      h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Peers of this space' },
        h('table', { class: 'stack' }, h('thead', {}, h('tr', {}, ['Peer', 'Lag', 'Stability'].map((t) => h('th', { scope: 'col' }, t)))), body)),
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
      text(sentence, stability(s));
      text(waiting, s.unpruned > 0 ? `${plural(s.unpruned, 'trace')} of older changes can go, and will when there is time.` : '');
      text(members, s.members === undefined ? '' : `${plural(s.members, 'other node keeps', 'other nodes keep')} this space; deleted things wait for ${s.counting === s.members ? 'all' : count(s.counting)} of them.`);
      text(repairs, s.repairs > 0 ? `${plural(s.repairs, 'repair')} since the node was started.` : '');
      past.seconds.push(snapshot.time / 1000);
      past.lacks.push(lacks);
      if (past.seconds.length > 300) {
        past.seconds.shift();
        past.lacks.shift();
      }
      behind.draw(past.seconds, [past.lacks]);
      draw(s.peers.map((p) => ({ ...p, holdsBack: holders(s).includes(p.peer) })));
      empty.hidden = body.childElementCount > 0;
    },
    close: () => behind.close(),
  };
}

function memberRow() {
  const id = h('span', { class: 'mono' });
  const state = h('span', {});
  const error = h('span', { class: 'hint block' });
  const waits = h('td', { 'data-label': 'Stability' });
  return {
    node: h('tr', {}, h('th', { scope: 'row' }, id), h('td', { 'data-label': 'Lag' }, h('div', {}, state, error)), waits),
    update(p) {
      text(id, short(p.peer));
      attribute(id, 'title', p.peer);
      const l = lag(p);
      text(state, l.words);
      attribute(state, 'class', `dot ${l.level}`);
      text(error, [p.lastError, p.snapshot && `${bytes(p.snapshot.bytes)} given`].filter(Boolean).join('; '));
      text(waits, p.holdsBack ? 'waits for it' : 'does not wait for it');
      attribute(waits, 'class', p.holdsBack ? 'warn' : null);
    },
  };
}
