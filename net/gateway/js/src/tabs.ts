// Several tabs of one app share a store. One leads: it alone talks to the node. All tell each other what changed.
import type { Channel, Platform } from "./platform.js";

export class Tabs {
  readonly #channel?: Channel;
  readonly #stop = new AbortController();
  #release?: () => void;
  #ended: Promise<unknown> = Promise.resolve();

  readonly #name: string;
  readonly #platform: Platform;

  constructor(name: string, platform: Platform, receive: (message: any) => void) {
    this.#name = name;
    this.#platform = platform;
    this.#channel = platform.channel?.(name);
    if (this.#channel) this.#channel.onmessage = (event) => receive(event.data);
  }

  tell(message: unknown): void {
    this.#channel?.postMessage(message);
  }

  /** Calls lead when this tab is the one; the browser gives the lock on as soon as the tab that holds it is closed. */
  compete(lead: () => void): void {
    if (!this.#platform.lock) return lead();
    const held = () => {
      lead();
      return new Promise<void>((resolve) => (this.#release = resolve));
    };
    this.#ended = this.#platform.lock(this.#name, this.#stop.signal, held).catch(() => {});
  }

  /** Gives the lead up, once what the leader does has ended. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#release?.();
    await this.#ended;
    if (this.#channel) this.#channel.onmessage = null;
    this.#channel?.close();
  }
}
