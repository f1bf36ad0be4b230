// A connection to a node. All transports speak the messages of the WebSocket; the others translate.
import type { Platform } from "./platform.js";
import type { Incoming, Push, Subscription } from "./protocol.js";

export type Outgoing = Push | { type: "token"; token: string } | { type: "ping"; n: number } | { type: "credit"; add: number };

export interface Target {
  url: string; // of the gateway, http or https
  token: string;
  /** Asked when the subscription is made, so that it begins where the client then is. */
  subscription(): Subscription;
}

export interface Closed {
  auth?: boolean; // the token is not (or no longer) good for this
  code: string;
  detail?: string;
  after?: number; // ms that the node asks to wait
}

export interface Handlers {
  /** A transport without credits waits for the promise before it reads on. */
  message(m: Incoming): Promise<void>;
  /** Something came, even if it says nothing. */
  heard(): void;
  /** The connection has ended; called once, unless close was. */
  closed(why: Closed): void;
}

export interface Connection {
  /** Called when the node's welcome has been handled. */
  subscribe(): void;
  send(m: Outgoing): void;
  close(): void;
}

export type Dial = (target: Target, handlers: Handlers, platform: Platform) => Connection;

const agent = "anabranch-js/0.1";
export const credit = 16; // messages of changes that may be under way

export const websocket: Dial = (target, handlers, platform) => {
  let ended = false;
  const end = (why: Closed) => {
    if (ended) return;
    ended = true;
    handlers.closed(why);
  };
  let refusal: Closed | undefined; // a message that tells more than the code that the socket is closed with
  const socket = new platform.WebSocket!(target.url.replace(/^http/, "ws") + "/v1/ws", "anabranch.v1");
  const send = (m: object) => {
    if (socket.readyState === 1) socket.send(JSON.stringify(m));
  };
  socket.onopen = () => send({ type: "hello", token: target.token, agent });
  socket.onmessage = (event) => {
    if (ended) return;
    handlers.heard();
    let m: Incoming;
    try {
      m = JSON.parse(event.data as string);
    } catch {
      socket.close();
      return end({ code: "bad-message", detail: "the node sent something that is no JSON" });
    }
    if (m.type === "error") refusal = { code: m.code, detail: m.detail, auth: isAuth(m.code) };
    void handlers.message(m);
  };
  socket.onerror = () => end({ code: "unreachable", detail: "the WebSocket failed" });
  socket.onclose = (event) => {
    const auth = event.code === 4401 || event.code === 4403;
    end(refusal ? { ...refusal, auth: refusal.auth || auth } : { code: String(event.code), detail: event.reason, auth });
  };
  return {
    subscribe: () => {
      const { client: _, replicate: __, prefix, ...rest } = target.subscription();
      send({ type: "subscribe", sub: "s", ...rest, ...(prefix && { prefix }), credit, checkpoints: true });
    },
    send: (m) => send(m.type === "credit" ? { ...m, sub: "s" } : m),
    close: () => {
      ended = true;
      socket.onerror = socket.onclose = socket.onmessage = null;
      socket.close();
    },
  };
};

export function isAuth(code: string): boolean {
  return /^(unauthenticated|token-|forbidden)/.test(code);
}
