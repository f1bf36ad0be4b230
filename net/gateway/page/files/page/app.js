// The frame of the page: who may look (token), what is shown (route), and how the node is (a snapshot each second).

import { Api, Problem } from './api.js';
import { attribute, h, replace, say, text } from './dom.js';
import { duration } from './format.js';
import { health, History, normalise } from './snapshot.js';
import { changesView } from './view-changes.js';
import { conflictsView } from './view-conflicts.js';
import { documentsView } from './view-documents.js';
import { nodeView } from './view-node.js';
import { signInView } from './view-sign-in.js';
import { spaceView } from './view-space.js';

const tokenKey = 'anabranch.token'; // in sessionStorage: it goes when the tab does
const themeKey = 'anabranch.theme';

const place = {
  main: document.getElementById('main'),
  nav: document.getElementById('nav'),
  health: document.getElementById('health'),
  uptime: document.getElementById('uptime'),
  leave: document.getElementById('leave'),
  theme: document.getElementById('theme'),
};

const spaceViews = { '': spaceView, documents: documentsView, conflicts: conflictsView, changes: changesView };
const spaceTabs = [['', 'Peers'], ['documents', 'Documents'], ['conflicts', 'Conflicts'], ['changes', 'Changes']];

/** app is what views are given. */
const app = {
  api: undefined,
  snapshot: undefined, // of the node; undefined until the first has come
  history: new History(),
  spaces: [], // what the token gives: [{name, rights, documents, conflicts}]
  rights(space) {
    return app.spaces.find((s) => s.name === space)?.rights ?? 'read';
  },
  mayWrite: (space) => app.rights(space) !== 'read',
  link: (space, view = '', query = {}) => {
    const params = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== undefined && v !== ''));
    return `#/spaces/${encodeURIComponent(space)}${view && `/${view}`}${params.size ? `?${params}` : ''}`;
  },
  /** moveTo goes to an address of the page; quietly, if only what is shown of the present view changes. */
  moveTo(hash, { quietly = false } = {}) {
    if (quietly) history.replaceState(null, '', hash);
    else location.hash = hash;
  },
};

let view;
let watching;

/** takeToken takes the token out of the address, where it must not stay, or out of this tab's storage. */
function takeToken() {
  const given = /^#(?:.*&)?token=([^&]*)/.exec(location.hash);
  if (given) {
    history.replaceState(null, '', `${location.pathname}#/`);
    const token = decodeURIComponent(given[1]).trim();
    keep(token);
    return token;
  }
  try {
    return sessionStorage.getItem(tokenKey) ?? '';
  } catch {
    return '';
  }
}

function keep(token) {
  try {
    if (token) sessionStorage.setItem(tokenKey, token);
    else sessionStorage.removeItem(tokenKey);
  } catch {
    // Without storage the token is asked for after each reload.
  }
}

/** signOut forgets the token and asks for another. why is a Problem, or undefined if it was wanted. */
function signOut(why) {
  if (!app.api && view?.isSignIn) return;
  keep('');
  watching?.abort();
  app.api = app.snapshot = undefined;
  app.spaces = [];
  app.history = new History();
  place.nav.hidden = place.leave.hidden = place.health.hidden = place.uptime.hidden = true;
  show(signInView({ why, onToken: signIn }), 'Sign in');
}

async function signIn(token) {
  const api = new Api(token, (problem) => api === app.api && signOut(problem));
  const { spaces } = await api.get('/v1/spaces'); // throws if it is refused; then the asking view says why
  keep(token);
  app.api = api;
  app.spaces = spaces ?? [];
  place.nav.hidden = place.leave.hidden = place.health.hidden = place.uptime.hidden = false;
  watching?.abort();
  watching = new AbortController();
  watchNode(watching.signal);
  route();
}

function watchNode(signal) {
  app.api.follow('/v1/node/events', {
    signal,
    onEvent(name, data) {
      if (name !== 'node') return;
      app.snapshot = normalise(JSON.parse(data));
      app.history.add(app.snapshot);
      mergeSpaces();
      showHealth(health(app.snapshot));
      view?.update?.(app.snapshot);
    },
    onState(state) {
      if (!(state instanceof Problem)) return;
      showHealth({ level: 'bad', title: state.status === 403 ? 'This token may not look at the node' : 'The node does not answer', points: [] });
      view?.lost?.(state);
    },
  });
}

/** mergeSpaces takes over what is new in a snapshot, such as a space that was just made. */
function mergeSpaces() {
  const unknown = app.snapshot.spaces.filter((s) => !app.spaces.some((known) => known.name === s.name));
  if (unknown.length === 0) return;
  app.spaces = [...app.spaces, ...unknown.map((s) => ({ name: s.name, rights: s.rights ?? 'read' }))];
  app.api.get('/v1/spaces').then(({ spaces }) => {
    app.spaces = spaces;
    drawNav();
  }, () => {});
  drawNav();
}

function showHealth({ level, title, points }) {
  attribute(place.health, 'data-level', level);
  attribute(place.health, 'title', points.join('\n'));
  text(place.health, title);
  text(place.uptime, app.snapshot?.node.started ? `up ${duration(app.snapshot.time - app.snapshot.node.started)}` : ''); // beside it, for it is no news

}

function parseRoute() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [first, space, name = ''] = path.split('/').map(decode);
  return first === 'spaces' && space ? { space, name, query: new URLSearchParams(query) } : { space: '', name: '', query: new URLSearchParams() };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function route() {
  if (!app.api) return;
  const at = parseRoute();
  drawNav();
  if (view && view.at?.space === at.space && view.at?.name === at.name && view.go) {
    view.go(at.query);
    return;
  }
  const make = at.space ? spaceViews[at.name] : nodeView;
  if (!make) {
    app.moveTo('#/');
    return;
  }
  const title = at.space ? `${at.space} – ${spaceTabs.find(([name]) => name === at.name)[1]}` : 'Node';
  const next = make(app, at);
  next.at = at;
  show(next, title);
}

function show(next, title) {
  const first = !view;
  view?.close?.();
  view = next;
  document.title = `${title} · Anabranch`;
  replace(place.main, next.node);
  if (app.snapshot) next.update?.(app.snapshot);
  if (!first) place.main.focus({ preventScroll: true });
  scrollTo(0, 0);
  next.shown?.();
}

function drawNav() {
  const at = parseRoute();
  const current = (is) => (is ? 'page' : null);
  const picker = h('select', { id: 'space', 'aria-label': 'Space', onchange: (e) => app.moveTo(app.link(e.target.value, at.name)) },
    !at.space && h('option', { value: '', selected: true, disabled: true }, 'Space…'),
    app.spaces.map((s) => h('option', { value: s.name, selected: s.name === at.space }, s.name)));
  const space = at.space || (app.spaces.length === 1 ? app.spaces[0].name : '');
  const hadFocus = document.activeElement?.id === 'space';
  replace(place.nav,
    h('a', { href: '#/', 'aria-current': current(!at.space) }, 'Node'),
    app.spaces.length > 0 && picker,
    space && spaceTabs.map(([name, label]) => h('a', { href: app.link(space, name), 'aria-current': current(at.space === space && at.name === name) }, label)));
  if (hadFocus) picker.focus();
  place.nav.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
}

function themeNow() {
  return document.documentElement.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
}

function drawTheme() {
  const other = themeNow() === 'dark' ? 'light' : 'dark';
  replace(place.theme, other === 'dark' ? '☾' : '☀', h('span', { class: 'wide' }, other === 'dark' ? ' Dark' : ' Light'));
  attribute(place.theme, 'aria-label', `Use the ${other} theme`);
  dispatchEvent(new Event('themechange'));
}

function switchTheme() {
  const theme = themeNow() === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(themeKey, theme);
  } catch {
    // Then it lasts as long as the page.
  }
  drawTheme();
}

place.theme.addEventListener('click', switchTheme);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawTheme);
place.leave.addEventListener('click', () => signOut());
document.getElementById('skip').addEventListener('click', (e) => {
  e.preventDefault(); // the fragment is the route
  place.main.focus();
});
addEventListener('hashchange', () => {
  if (/^#(?:.*&)?token=/.test(location.hash)) start();
  else route();
});
addEventListener('unhandledrejection', (e) => {
  if (e.reason instanceof Problem && e.reason.status !== 401) say(e.reason.message, 'bad');
});

async function start() {
  drawTheme();
  const token = takeToken();
  if (!token) {
    signOut();
    return;
  }
  place.nav.hidden = false; // its room, before what is in it
  replace(place.main, h('p', { class: 'empty', role: 'status' }, 'Asking the node…'));
  try {
    await signIn(token);
  } catch (error) {
    signOut(error);
  }
}

start();
