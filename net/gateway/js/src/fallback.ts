// Where a WebSocket does not get through: server-sent events, or long polling, for what comes, and POST for what goes.
import type { Incoming, Push, Result } from "./protocol.js";
import { isAuth, type Closed, type Connection, type Dial, type Handlers, type Target } from "./transport.js";
import type { Platform } from "./platform.js";

const pollSeconds = 15; // less than what a silent connection is given

export const sse: Dial = (target, handlers, platform) =>
  connect(target, handlers, platform, async (get) => {
    const response = await get("/events", { accept: "text/event-stream" });
    await welcome(response, handlers);
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "", event = "", data = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw { code: "ended", detail: "the node ended the stream" };
      handlers.heard();
      const lines = (buffer + value).split(/\r\n|\n|\r(?!$)/);
      buffer = lines.pop()!;
      for (const line of lines) {
        if (line === "") {
          // What came in one event is handled before the next is read: a slow reader slows the node down.
          if (data) await handlers.message({ ...JSON.parse(data), type: event || "message" } as Incoming);
          event = data = "";
        } else if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data += line.slice(5);
      }
    }
  });

export const poll: Dial = (target, handlers, platform) =>
  connect(target, handlers, platform, async (get) => {
    let since: string | undefined, vector: string | undefined;
    for (let first = true; ; first = false) {
      const response = await get("/changes", {}, { limit: "500", wait: first ? "0s" : pollSeconds + "s", ...(since && { since }) });
      handlers.heard();
      if (first) await welcome(response, handlers);
      const a = response.status === 204 ? { items: [], level: true, cursor: response.headers.get("Anabranch-Cursor") } : await response.json();
      if (a.reset) await handlers.message({ type: "reset" });
      if (a.items.length) await handlers.message({ type: "changes", items: a.items, cursor: a.cursor, of: a.of });
      vector = a.vector;
      if (a.level && a.cursor) await handlers.message({ type: "level", cursor: a.cursor, ...(vector && { vector }) });
      for (const r of a.replicated ?? []) await handlers.message({ type: "replicated", ...r });
      since = a.cursor ?? since;
    }
  });

type Get = (path: string, headers: Record<string, string>, more?: Record<string, string>) => Promise<Response>;

function welcome(response: Response, handlers: Handlers): Promise<void> {
  return handlers.message({ type: "welcome", node: response.headers.get("Anabranch-Node") ?? "" });
}

function connect(target: Target, handlers: Handlers, platform: Platform, receive: (get: Get) => Promise<void>): Connection {
  const abort = new AbortController();
  let { token } = target;
  const sub = target.subscription();
  const base = `${target.url}/v1/spaces/${encodeURIComponent(sub.space)}`;
  const query = { checkpoints: "1", client: sub.client, replicate: String(sub.replicate), ...(sub.prefix && { prefix: sub.prefix }), ...(sub.since && { since: sub.since }), ...(sub.vector && { vector: sub.vector }) };
  const end = (why: unknown) => {
    if (abort.signal.aborted) return;
    abort.abort();
    const known = why as Partial<Closed>;
    handlers.closed(why instanceof Error || !known.code ? { code: "unreachable", detail: String(why) } : (known as Closed));
  };
  const request = async (path: string, init: RequestInit) => {
    const headers = { ...init.headers, authorization: "Bearer " + token };
    const response = await platform.fetch!(base + path, { ...init, headers, signal: abort.signal, cache: "no-store", credentials: "omit" });
    if (response.ok) return response;
    const p = await response.json().catch(() => ({}));
    const code = p.code ?? String(response.status);
    throw { code, detail: p.detail, auth: response.status === 401 || isAuth(code), after: Number(response.headers.get("Retry-After")) * 1000 || undefined } satisfies Closed;
  };
  const get: Get = (path, headers, more) => request(`${path}?${new URLSearchParams({ ...query, ...more })}`, { headers });
  let posts = Promise.resolve();
  const post = async (m: Push) => {
    const { type: _, space: __, ...body } = m;
    let results: Result[];
    try {
      results = (await (await request("/push", { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } })).json()).results;
    } catch (e) {
      const { code, detail, after } = e as Closed;
      if (!["busy", "disk-full", "rate-limited"].includes(code)) throw e;
      results = m.transactions.map(({ seq }) => ({ seq, status: "retry", code, detail, after }));
    }
    handlers.heard();
    await handlers.message({ type: "ack", results });
  };
  receive(get).catch(end);
  return {
    subscribe: () => {},
    send: (m) => {
      if (m.type === "token") token = m.token;
      if (m.type === "push") posts = posts.then(() => (abort.signal.aborted ? undefined : post(m))).catch(end);
    },
    close: () => abort.abort(),
  };
}
