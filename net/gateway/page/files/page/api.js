// Requests to the gateway that served the page. The token goes in a header, never in an address.

import { parse } from './jsontext.js';

/** Problem is what the gateway answers when it does not do what it is asked (RFC 9457); status 0 if it does not answer. */
export class Problem extends Error {
  constructor(status, code, message, retryAfter) {
    super(message);
    this.name = 'Problem';
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const silence = 40_000; // ms without a byte until a stream counts as dead: the heartbeat comes each 15 s

/** Api asks with one token. onRefused is told when the gateway does not take it (any more). */
export class Api {
  #token;
  #onRefused;

  constructor(token, onRefused) {
    this.#token = token;
    this.#onRefused = onRefused;
  }

  /** path makes the address of something in a space, or elsewhere: each part is one segment, or several if it has slashes and is a key. */
  static path(...parts) {
    return `/v1/${parts.map(encodeURIComponent).join('/')}`;
  }

  /** request returns the answer if its status is one of success, and throws a Problem else. */
  async request(method, path, { body, headers = {}, query = {}, signal } = {}) {
    const params = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== undefined && v !== ''));
    const address = params.size ? `${path}?${params}` : path;
    let answer;
    try {
      answer = await fetch(address, {
        method, body, signal, cache: 'no-store', credentials: 'omit', redirect: 'error',
        headers: { Authorization: `Bearer ${this.#token}`, ...headers },
      });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Problem(0, 'unreachable', 'the node does not answer');
    }
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (problem.status === 401) this.#onRefused(problem);
    throw problem;
  }

  /** get returns JSON as JavaScript has it: for what has no documents in it. */
  async get(path, options) {
    return (await this.request('GET', path, options)).json();
  }

  /** exact returns JSON with Maps and exact numbers: for documents. */
  async exact(path, options) {
    return parse(await (await this.request('GET', path, options)).text());
  }

  /** send sends a JSON text. */
  send(method, path, text, { headers = {}, ...options } = {}) {
    return this.request(method, path, { body: text, headers: text === undefined ? headers : { 'Content-Type': 'application/json', ...headers }, ...options });
  }

  /**
   * follow reads an event stream until signal is aborted, and connects again when it breaks, from the last event on. onEvent gets
   * (name, text); onState gets "connecting", "live" or a Problem. It is over early only if the gateway refuses for good.
   */
  async follow(path, { query = {}, onEvent, onState, signal }) {
    let last = '';
    let wait = 500;
    while (!signal.aborted) {
      onState('connecting');
      const inner = new AbortController();
      const stop = () => inner.abort();
      signal.addEventListener('abort', stop, { once: true });
      try {
        const headers = { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) };
        const answer = await this.request('GET', path, { headers, query, signal: inner.signal });
        onState('live');
        await readEvents(answer.body, inner, (event) => {
          wait = 500;
          if (event.id) last = event.id;
          if (event.data !== undefined) onEvent(event.name, event.data);
        });
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem && [401, 403, 404].includes(error.status)) {
          onState(error);
          return;
        }
        onState(error instanceof Problem ? error : new Problem(0, 'unreachable', 'the stream broke'));
        wait = Math.max(wait, (error.retryAfter ?? 0) * 1000);
      } finally {
        signal.removeEventListener('abort', stop);
        inner.abort();
      }
      await pause(wait / 2 + Math.random() * wait / 2, signal);
      wait = Math.min(wait * 2, 10_000);
    }
  }
}

async function problemOf(answer) {
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // It was not the gateway that answered, or it was cut off: the status has to do.
  }
  const message = told.detail || told.title || `the node answered ${answer.status}`;
  return new Problem(answer.status, told.code || '', message, Number(answer.headers.get('Retry-After')) || undefined);
}

/** readEvents parses a stream as https://html.spec.whatwg.org/multipage/server-sent-events.html has it, until it ends. */
async function readEvents(body, controller, onEvent) {
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => controller.abort(), silence);
  };
  let event = { name: 'message' };
  const line = (text) => {
    if (text === '') {
      if (event.data !== undefined || event.id) onEvent(event);
      event = { name: 'message' };
      return;
    }
    const colon = text.indexOf(':');
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? '' : text.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') event.name = value;
    else if (field === 'data') event.data = event.data === undefined ? value : `${event.data}\n${value}`;
    else if (field === 'id') event.id = value;
  };
  try {
    alive();
    let rest = '';
    for await (const chunk of chunks(body.pipeThrough(new TextDecoderStream()))) {
      alive();
      const lines = (rest + chunk).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const text of lines) line(text);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** chunks reads a stream; not every browser has its async iterator. */
async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
