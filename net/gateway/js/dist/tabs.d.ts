import type { Platform } from "./platform.js";
export declare class Tabs {
    #private;
    constructor(name: string, platform: Platform, receive: (message: any) => void);
    tell(message: unknown): void;
    /** Calls lead when this tab is the one; the browser gives the lock on as soon as the tab that holds it is closed. */
    compete(lead: () => void): void;
    /** Gives the lead up, once what the leader does has ended. */
    close(): Promise<void>;
}
