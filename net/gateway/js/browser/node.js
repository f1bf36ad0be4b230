// Nodes as people run them: the command, each in a process and a directory of its own.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { directory } from './chromium.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../../../', import.meta.url));

/** build makes the command, or takes the one that ANABRANCH names: {command, remove()}. */
export async function build() {
  if (process.env.ANABRANCH) return { command: process.env.ANABRANCH, remove: async () => {} };
  const dir = await directory();
  const command = path.join(dir.path, 'anabranch');
  await run('go', ['build', '-o', command, './cmd/anabranch'], { cwd: root });
  return { command, remove: dir.remove };
}

/** Process is a running command that prints a line of JSON when it is ready. */
class Process {
  static async start(command, args, env = {}) {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    let said = '';
    child.stderr.on('data', (d) => { said = (said + d).slice(-4000); });
    const line = await Promise.race([
      once(createInterface(child.stdout), 'line').then(([l]) => l),
      once(child, 'exit').then(([code]) => { throw new Error(`${args.join(' ')} ended with ${code}: ${said}`); }),
    ]);
    const p = new Process();
    p.child = child;
    p.ready = JSON.parse(line);
    return p;
  }

  async end(signal = 'SIGTERM') {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, 'exit');
    this.child.kill(signal);
    await gone;
  }
}

export const start = (command, args, env) => Process.start(command, args, env);

/** Node is one with a gateway on a port that stays the same when it is started again. */
export class Node {
  /** open makes a node; peers are Nodes to be connected with. */
  static async open(command, { peers = [], allow = [] } = {}) {
    const node = new Node();
    Object.assign(node, { command, peers, allow, dir: await directory(), listen: '127.0.0.1:0', gateway: '127.0.0.1:0' });
    await node.start();
    return node;
  }

  /** identity makes the directory of a node that is not started yet, and returns its peer ID: {dir, id}. */
  static async identity(command) {
    const dir = await directory();
    return { dir, id: (await run(command, ['id', '--dir', dir.path])).stdout.trim() };
  }

  async start() {
    const dial = this.peers.flatMap((p) => ['--peer', `${p.id}@${p.listen}`]);
    const allow = this.allow.flatMap((id) => ['--allow', id]);
    this.process = await start(this.command, ['serve', '--dir', this.dir.path, '--listen', this.listen, '--gateway', this.gateway, '--output', 'jsonl', ...dial, ...allow]);
    const { peer_id: id, addresses, gateway } = this.process.ready;
    this.id = id;
    [this.listen] = addresses;
    this.url = gateway;
    this.gateway = new URL(gateway).host;
  }

  /** kill ends it at once, as a power cut would, and restart starts it again at the same place. */
  kill() {
    return this.process.end('SIGKILL');
  }

  async restart() {
    await this.process.end('SIGKILL');
    await this.start();
  }

  async cli(...args) {
    return (await run(this.command, ['--dir', this.dir.path, ...args], { maxBuffer: 64 << 20 })).stdout;
  }

  /** token makes a token for a space, or for all. */
  async token({ space = '*', rights = 'admin', expires = '1h' } = {}) {
    return (await this.cli('token', 'create', '--space', space, `--${rights}`, '--expires', expires)).trim();
  }

  async revoke(id) {
    await this.cli('token', 'revoke', id);
  }

  /** documents are those of a space that show, by key, as the engine has them: read by the command, not through the gateway. */
  async documents(space) {
    const lines = (await this.cli('export', '--space', space)).split('\n').filter(Boolean).map((l) => JSON.parse(l));
    return Object.fromEntries(lines.map(({ key, doc }) => [key, doc]));
  }

  /** ask sends a request to the gateway, as curl would. */
  async ask(token, method, at, body, headers = {}) {
    const answer = await fetch(`${this.url}${at}`, {
      method, headers: { Authorization: `Bearer ${token}`, ...(body !== undefined && { 'Content-Type': 'application/json' }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${at}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  async close() {
    await this.process.end('SIGKILL');
    await this.dir.remove();
  }
}

/** until waits for something to hold, and says what was there instead if it never does. */
export async function until(what, look, { timeout = 60_000 } = {}) {
  const end = Date.now() + timeout;
  for (;;) {
    const found = await look();
    if (found === true) return;
    if (Date.now() > end) throw new Error(`${what}: in the end there was ${JSON.stringify(found)}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}
