// Quantities in words that people read.

const numbers = new Intl.NumberFormat('en');

export const count = (n) => numbers.format(n ?? 0);

/** plural(1, "peer") is "1 peer", plural(2, "peer") "2 peers". */
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** bytes(1536) is "1.5 kB": thousands, as disks are sold. */
export function bytes(n) {
  let i = 0;
  for (n = Number(n ?? 0); n >= 1000 && i < 5; i++) n /= 1000;
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${['B', 'kB', 'MB', 'GB', 'TB', 'PB'][i]}`;
}

/** rate(12.34) is "12". */
export const rate = (n) => (n >= 10 || n === 0 ? count(Math.round(n)) : n.toFixed(1));

/** duration(95000) is "1 min 35 s"; at most two units. */
export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), 'min', s % 60, 's');
  if (s < 86400) return two(Math.floor(s / 3600), 'h', Math.floor(s / 60) % 60, 'min');
  return two(Math.floor(s / 86400), 'd', Math.floor(s / 3600) % 24, 'h');
}

const two = (a, ua, b, ub) => (b ? `${a} ${ua} ${b} ${ub}` : `${a} ${ua}`);

/** ago says how long ago a moment was. */
export function ago(date, now = Date.now()) {
  const ms = now - date.getTime();
  return ms < 1500 ? 'just now' : `${duration(ms)} ago`;
}

/** clock shows the time of day to the second. */
export const clock = (date) => date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });

/** moment shows date and time. */
export const moment = (date) => date.toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium' });

/** short cuts an ID to what tells it from others; the whole one is its title. */
export const short = (id) => (id && id.length > 16 ? `${id.slice(0, 12)}…` : id || '');

/** dateOf reads a moment that is text or milliseconds; undefined if there is none, or only the zero time. */
export function dateOf(value) {
  if (value === null || value === undefined || value === '' || value === 0) return undefined;
  const date = new Date(value);
  return Number.isNaN(date.getTime()) || date.getUTCFullYear() < 1971 ? undefined : date;
}
