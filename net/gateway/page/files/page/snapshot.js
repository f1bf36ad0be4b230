// What the gateway tells of the node, once a second: made whole where something is left out, compared with the one before, and
// put in words.

import { bytes, duration, plural, short } from './format.js';

const kept = 300; // samples in the charts: five minutes

/** normalise fills in what a token may not see. */
export function normalise(raw) {
  return {
    time: Date.now(), ready: true, checks: [], clock: {}, store: {}, totals: {}, gateway: {}, peers: [],
    ...raw,
    node: { addresses: [], ...raw.node },
    spaces: (raw.spaces ?? []).map((s) => ({ documents: 0, conflicts: 0, conflicted: 0, stableAgeMs: 0, unpruned: 0, peers: [], heldBackBy: [], ...s })),
  };
}

/** History keeps what the charts draw: rates a second, from counters that only grow, or as the node measured them. */
export class History {
  seconds = [];
  local = [];
  received = [];
  bytesOut = [];
  bytesIn = [];
  #last;

  add(snapshot) {
    const now = snapshot.time / 1000;
    const { transactions = 0, deltas = 0 } = snapshot.totals;
    const last = this.#last;
    this.#last = { now, transactions, deltas };
    if (!last || now <= last.now) return;
    this.seconds.push(now);
    this.local.push(Math.max(0, transactions - last.transactions) / (now - last.now)); // a node that was started again counts from 0
    this.received.push(Math.max(0, deltas - last.deltas) / (now - last.now));
    this.bytesOut.push(snapshot.rates?.sentBytes ?? null);
    this.bytesIn.push(snapshot.rates?.receivedBytes ?? null);
    for (const series of [this.seconds, this.local, this.received, this.bytesOut, this.bytesIn]) {
      if (series.length > kept) series.shift();
    }
  }
}

/** health says in words how the node is: {level: "ok" | "warn" | "bad", title, points: [text]}. */
export function health(snapshot) {
  const points = [];
  let level = 'ok';
  const note = (bad, message) => {
    points.push(message);
    if (bad === 'bad' || level === 'ok') level = bad;
  };
  for (const check of snapshot.checks) {
    if (!check.ok) note(check.advisory ? 'warn' : 'bad', `${check.name}: ${check.detail}`);
  }
  if (!snapshot.ready && level !== 'bad') note('bad', 'the node takes no reads or writes');
  const { freeBytes, floorBytes } = snapshot.store;
  if (freeBytes !== undefined && floorBytes !== undefined && freeBytes < floorBytes * 2) {
    note(freeBytes < floorBytes ? 'bad' : 'warn', `disk: ${bytes(freeBytes)} are free; below ${bytes(floorBytes)} nothing is written`);
  }
  for (const space of snapshot.spaces) spaceHealth(space, note);
  const title = { ok: 'Healthy', warn: 'Needs a look', bad: 'In trouble' }[level];
  if (level !== 'bad') points.push(...calm(snapshot));
  return { level, title, points: [...new Set(points)] };
}

function spaceHealth(space, note) {
  if (space.damaged) note('bad', `${space.name}: the store is damaged: ${space.damaged}`);
  for (const p of space.peers) {
    if (p.mismatch) note('bad', `${space.name}: ${short(p.peer)} has the same writes and another state; it is being repaired`);
  }
  if (space.stableAgeMs > longHeld) {
    const who = holders(space).map(short).join(' and ') || 'members that are away';
    note('warn', `${space.name}: deleted things stay, for ${who} lacks changes that are ${duration(space.stableAgeMs)} old`);
  }
  if (space.snapshot) note('warn', `${space.name}: is being fetched, ${plural(space.snapshot.documents ?? 0, 'document')} so far`);
}

function calm(snapshot) {
  const connected = snapshot.peers.filter((p) => p.connected).length;
  const behind = new Set(snapshot.spaces.flatMap((s) => s.peers.filter((p) => p.connected && p.pending > 0 && !(p.lagMs < underWay)).map((p) => p.peer))).size;
  const out = ['it takes reads and writes', connected === 0 ? 'no peer is connected' : `${plural(connected, 'peer')} connected`];
  if (connected > 0) out.push(behind === 0 ? 'all of them have everything' : `${plural(behind, 'peer is', 'peers are')} being brought up to date`);
  const conflicts = snapshot.spaces.reduce((n, s) => n + s.conflicts, 0);
  if (conflicts > 0) out.push(`${plural(conflicts, 'conflict')} to look at`);
  return out;
}

const underWay = 3000; // ms; what was written so lately is on its way, and no lag
const longHeld = 24 * 3_600_000; // ms; a night or a weekend away is nothing, a day that holds everybody's tombstones is worth a word

/** holders are those whom stability waits for, but for what they have been sent only now. */
export function holders(s) {
  return s.heldBackBy.filter((id) => !s.peers.some((p) => p.peer === id && p.connected && p.lagMs < underWay));
}

/** lag says how far a peer's copy of a space is: {level, words}. */
export function lag(p) {
  if (p.mismatch) return { level: 'bad', words: 'differs; being repaired' };
  if (p.snapshot) return { level: 'warn', words: `fetching, ${plural(p.snapshot.documents ?? 0, 'document')} of about ${plural(p.snapshot.knownDocuments ?? 0, 'document')}` };
  const behind = p.pending > 0 ? plural(p.pending, 'change') + (p.pending >= 100_000 ? ' or more' : '') + ' behind' : '';
  const since = p.lagMs > 0 ? `, ${duration(p.lagMs)}` : '';
  if (p.connected && behind && p.lagMs < underWay) return { level: 'ok', words: 'level but for what is under way' };
  if (!p.connected) return { level: behind ? 'warn' : 'idle', words: behind ? `away, ${behind}${since}` : 'away, had everything' };
  if (behind) return { level: 'warn', words: `${behind}${since}` };
  return { level: 'ok', words: p.level ? 'level' : 'has everything' };
}

/** stability says how old the changes are that not everybody has, and whom that waits for. */
export function stability(s) {
  const held = holders(s);
  if (held.length === 0) {
    return s.stableAgeMs > 0
      ? `Every member has everything. What was deleted in the last ${duration(s.stableAgeMs)} leaves its traces a little longer.`
      : 'Every member has everything; deleted things are gone without a trace.';
  }
  const who = held.map((id) => {
    const p = s.peers.find((x) => x.peer === id);
    return `${short(id)} (${!p ? 'not met yet' : !p.connected ? 'away' : 'connected'}${p?.pending ? `, lacks ${plural(p.pending, 'change')}` : ''})`;
  });
  return `The oldest change that not every member has is ${duration(s.stableAgeMs)} old. It waits for ${who.join(' and ')}.`;
}
