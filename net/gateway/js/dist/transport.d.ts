import type { Platform } from "./platform.js";
import type { Incoming, Push, Subscription } from "./protocol.js";
export type Outgoing = Push | {
    type: "token";
    token: string;
} | {
    type: "ping";
    n: number;
} | {
    type: "credit";
    add: number;
};
export interface Target {
    url: string;
    token: string;
    /** Asked when the subscription is made, so that it begins where the client then is. */
    subscription(): Subscription;
}
export interface Closed {
    auth?: boolean;
    code: string;
    detail?: string;
    after?: number;
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
export declare const credit = 16;
export declare const websocket: Dial;
export declare function isAuth(code: string): boolean;
