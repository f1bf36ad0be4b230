// Real nodes: processes of the anabranch command, and a wire to them that can be cut.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, connect, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

/** The command under test; empty if none was built. */
export const binary = process.env["ANABRANCH_BINARY"] ?? "";

const run = promisify(execFile);
const living = new Set<ChildProcess>();
process.on("exit", () => living.forEach((p) => p.kill("SIGKILL")));

export class RealNode {
  readonly dir = mkdtempSync(join(tmpdir(), "anabranch-node-"));
  id = "";
  peerAddress = "";
  gateway = "";
  #process?: ChildProcess;

  /** Runs another command of the program on this node. */
  async command(...args: string[]): Promise<string> {
    return (await run(binary, ["--dir", this.dir, ...args], { maxBuffer: 64 << 20 })).stdout.trim();
  }

  async create(): Promise<this> {
    this.id = await this.command("id");
    return this;
  }

  token(space: string, ...more: string[]): Promise<string> {
    return this.command("--space", space, "token", "create", "--write", ...more);
  }

  async start(...peers: RealNode[]): Promise<void> {
    const args = ["--dir", this.dir, "--output", "jsonl", "serve", "--listen", "127.0.0.1:0", "--gateway", "127.0.0.1:0"];
    for (const p of peers) args.push(...(p.peerAddress ? ["--peer", `${p.id}@${p.peerAddress}`] : ["--allow", p.id]));
    const child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
    living.add(child);
    this.#process = child;
    let said = "";
    child.stderr!.on("data", (d) => void (said = (said + d).slice(-4000)));
    const ready = await new Promise<{ addresses: string[]; gateway: string }>((resolve, reject) => {
      createInterface(child.stdout!).once("line", (line) => resolve(JSON.parse(line)));
      child.on("exit", (code, signal) => reject(new Error(`the node ended (${code ?? signal}): ${said}`)));
    });
    this.peerAddress = ready.addresses[0]!;
    this.gateway = ready.gateway;
  }

  /** Ends the process at once, as a power cut of the machine's mercy does. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#process;
    if (!child) return;
    this.#process = undefined;
    const gone = new Promise((resolve) => child.on("exit", resolve));
    child.kill(signal);
    await gone;
    living.delete(child);
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Asks the gateway by REST. */
  async rest(token: string, path: string, init: RequestInit = {}): Promise<any> {
    const r = await fetch(this.gateway + "/v1/spaces/" + path, { ...init, headers: { authorization: "Bearer " + token, "content-type": "application/json", ...init.headers } });
    const text = await r.text();
    if (r.status === 404) return undefined;
    if (!r.ok) throw new Error(`${init.method ?? "GET"} ${path}: ${r.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }
}

/** A TCP port that leads to a node, as long as the wire is whole. */
export class Wire {
  #server: Server;
  #pairs = new Set<Socket>();
  target?: RealNode;
  cut = false; // nothing gets through, and what is open breaks
  url = "";

  constructor(target?: RealNode) {
    this.target = target;
    this.#server = createServer((inner) => {
      if (this.cut || !this.target?.gateway) return void inner.destroy();
      const outer = connect(Number(new URL(this.target.gateway).port), "127.0.0.1");
      for (const [a, b] of [[inner, outer], [outer, inner]] as const) {
        this.#pairs.add(a);
        a.on("data", (d) => void b.write(d));
        a.on("error", () => {});
        a.on("close", () => {
          this.#pairs.delete(a);
          b.destroy();
        });
      }
    });
  }

  async open(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  /** Breaks what is open. */
  snap(): void {
    for (const s of this.#pairs) s.destroy();
  }

  close(): void {
    this.snap();
    this.#server.close();
  }
}
