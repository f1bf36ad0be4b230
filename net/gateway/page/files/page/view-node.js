// The node: who it is, how it is, how much passes through it, its spaces and peers.

import { chart } from './charts.js';
import { attribute, firstAsking, h, replace, rows, text, time } from './dom.js';
import { ago, bytes, count, dateOf, duration, rate, short } from './format.js';
import { health, holders, lag } from './snapshot.js';

export function nodeView(app) {
  const sentence = h('p', { class: 'sentence', 'data-level': 'ok' });
  const points = h('ul', { class: 'points' });
  const identity = facts(['Peer ID', 'Version', 'Uptime', 'Addresses', 'Clock', 'Disk', 'Clients']);
  const changes = chart({
    title: 'Changes a second', words: rate,
    series: [{ name: 'written here', class: 'one', colour: '--line-1' }, { name: 'received', class: 'two', colour: '--line-2', dash: [6, 4] }],
  });
  const traffic = chart({
    title: 'Between nodes, a second', words: bytes,
    series: [{ name: 'sent', class: 'one', colour: '--line-1' }, { name: 'received', class: 'two', colour: '--line-2', dash: [6, 4] }],
  });
  const spaces = table('Spaces', ['Space', 'Documents', 'Conflicts', 'Not stable for', 'Peers'], 'There is no space yet. The first write makes one.');
  const peers = table('Peers', ['Peer', 'State', 'Lag', 'Clock', 'Sent', 'Received'], 'There is no peer: everything is on this node alone.');

  const drawSpaces = rows(spaces.body, (s) => s.name, () => spaceRow(app));
  const drawPeers = rows(peers.body, (p) => p.peer || p.address, () => peerRow());

  const content = [
    h('h1', {}, 'Node'),
    h('div', { class: 'pair' },
      h('section', { class: 'card', 'aria-label': 'Health' }, sentence, points),
      h('section', { class: 'card', 'aria-label': 'Identity' }, identity.node)),
    h('div', { class: 'pair' }, changes.node, traffic.node),
    spaces.node, peers.node,
  ];
  const node = firstAsking(content);

  return {
    node: node.node,
    update(snapshot) {
      const state = health(snapshot);
      attribute(sentence, 'data-level', state.level);
      text(sentence, state.title);
      drawPoints(points, state.points);
      drawIdentity(identity, snapshot);
      const past = app.history;
      changes.draw(past.seconds, [past.local, past.received]);
      traffic.draw(past.seconds, [past.bytesOut, past.bytesIn]);
      drawSpaces(snapshot.spaces);
      spaces.empty.hidden = snapshot.spaces.length > 0;
      drawPeers(snapshot.peers.map((p) => ({ ...p, spaces: lagsOf(snapshot, p.peer) })));
      peers.empty.hidden = snapshot.peers.length > 0;
      node.arrived();
    },
    lost(problem) {
      node.arrived();
      attribute(sentence, 'data-level', 'bad');
      text(sentence, 'No news from the node');
      drawPoints(points, [problem.message, problem.status === 403 ? 'documents can be looked at' : 'what is below is what it said last; asking again']);
    },
    close() {
      changes.close();
      traffic.close();
    },
  };
}

function drawPoints(list, points) {
  if (list.childElementCount === points.length && points.every((p, i) => list.children[i].textContent === p)) return;
  replace(list, points.map((p) => h('li', {}, p)));
}

function facts(names) {
  const values = Object.fromEntries(names.map((name) => [name, h('dd', {}, '–')]));
  return { values, node: h('dl', { class: 'facts' }, names.map((name) => h('div', {}, h('dt', {}, name), values[name]))) };
}

function drawIdentity({ values }, s) {
  text(values['Peer ID'], s.node.peer ?? '–');
  attribute(values['Peer ID'], 'class', 'mono break');
  text(values.Version, s.node.version || '–');
  text(values.Uptime, s.node.started ? duration(s.time - s.node.started) : '–');
  text(values.Addresses, s.node.addresses.length ? s.node.addresses.join(', ') : 'none: others cannot call it');
  text(values.Clock, clockWords(s.clock));
  text(values.Disk, s.store.diskBytes === undefined ? '–' : `${bytes(s.store.diskBytes)} used${s.store.freeBytes === undefined ? '' : `, ${bytes(s.store.freeBytes)} free`}`);
  const clients = Object.entries(s.gateway.connections ?? {}).filter(([, n]) => n > 0);
  text(values.Clients, clients.length ? clients.map(([channel, n]) => `${count(n)} by ${channels[channel] ?? channel}`).join(', ') : 'none');
}

const channels = { websocket: 'WebSocket', sse: 'event stream', longpoll: 'long polling', dashboard: 'this page' };

function clockWords({ state, offsetMs }) {
  const off = offsetMs ? ` by ${duration(Math.abs(offsetMs))}` : '';
  switch (state) {
    case 'sound': return 'agrees with the peers';
    case 'ahead': return `ahead of most peers${off}`;
    case 'behind': return `behind most peers${off}`;
    case 'doubtful': return 'the peers do not agree';
    default: return 'no peer to compare with';
  }
}

const numeric = new Set(['Documents', 'Conflicts', 'Sent', 'Received']);

function table(title, heads, nothing) {
  const body = h('tbody');
  const empty = h('p', { class: 'empty' }, nothing);
  const node = h('section', { class: 'card' },
    h('h2', {}, title),
    h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': title },
      h('table', { class: 'stack' }, h('thead', {}, h('tr', {}, heads.map((t) => h('th', { scope: 'col', class: numeric.has(t) && 'number' }, t)))), body)),
    empty);
  return { node, body, empty };
}

function spaceRow(app) {
  const link = h('a', {});
  const documents = h('td', { class: 'number', 'data-label': 'Documents' });
  const conflicts = h('a', {});
  const age = h('td', { 'data-label': 'Not stable for' });
  const peers = h('td', { 'data-label': 'Peers' });
  return {
    node: h('tr', {}, h('th', { scope: 'row' }, link), documents, h('td', { class: 'number', 'data-label': 'Conflicts' }, conflicts), age, peers),
    update(s) {
      text(link, s.name);
      attribute(link, 'href', app.link(s.name));
      text(documents, count(s.documents));
      text(conflicts, count(s.conflicts));
      attribute(conflicts, 'href', app.link(s.name, 'conflicts'));
      attribute(conflicts, 'class', s.conflicts > 0 ? 'warn' : null);
      const held = holders(s).map(short).join(', ');
      text(age, s.stableAgeMs > 0 ? duration(s.stableAgeMs) + (held ? `, for ${held}` : '') : 'all is stable');
      const level = s.peers.filter((p) => lag(p).level === 'ok').length;
      text(peers, s.peers.length ? `${level} of ${s.peers.length} level` : 'none');
    },
  };
}

function lagsOf(snapshot, id) {
  return snapshot.spaces.flatMap((s) => s.peers.filter((p) => p.peer === id).map((p) => ({ name: s.name, ...lag(p) })));
}

const order = { bad: 0, warn: 1, idle: 2, ok: 3 };

function peerRow() {
  const id = h('span', { class: 'mono' });
  const address = h('span', { class: 'hint block' });
  const state = h('span', {});
  const since = h('time', { class: 'hint block' });
  const behind = h('ul', { class: 'plain' });
  const skew = h('td', { 'data-label': 'Clock' });
  const sent = h('td', { class: 'number', 'data-label': 'Sent' });
  const received = h('td', { class: 'number', 'data-label': 'Received' });
  const drawLags = rows(behind, (l) => l.name, () => lagItem());
  return {
    node: h('tr', {}, h('th', { scope: 'row' }, id, address), h('td', { 'data-label': 'State' }, h('div', {}, state, since)), h('td', { 'data-label': 'Lag' }, behind), skew, sent, received),
    update(p) {
      text(id, short(p.peer) || 'unknown');
      attribute(id, 'title', p.peer || null);
      text(address, [p.address, p.source].filter(Boolean).join(' · '));
      text(state, p.connected ? 'connected' : p.lastError ? `not reached: ${p.lastError}` : 'not connected');
      attribute(state, 'class', p.connected ? 'dot ok' : p.lastError ? 'dot bad' : 'dot idle');
      const date = dateOf(p.connected ? p.since : p.seen);
      time(since, date, date ? `${p.connected ? 'for' : 'seen'} ${p.connected ? duration(Date.now() - date) : ago(date)}` : '');
      drawLags(p.spaces.toSorted((a, b) => order[a.level] - order[b.level]).slice(0, 4));
      text(skew, !p.connected ? '–' : Math.abs(p.skewMs ?? 0) < 50 ? 'agrees' : `${duration(Math.abs(p.skewMs))} ${p.skewMs > 0 ? 'ahead' : 'behind'}`);
      text(sent, bytes(p.sentBytes));
      text(received, bytes(p.receivedBytes));
    },
  };
}

function lagItem() {
  const words = h('span', {});
  const name = h('span', { class: 'hint' });
  return {
    node: h('li', {}, words, ' ', name),
    update(l) {
      text(words, l.words);
      attribute(words, 'class', `dot ${l.level}`);
      text(name, l.name);
    },
  };
}
