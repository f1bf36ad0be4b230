import { type Dial } from "./transport.js";
export declare const sse: Dial;
export declare const poll: Dial;
