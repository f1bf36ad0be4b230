// A real Chromium, as the distribution ships it, and what every page in it must not do.

import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';

const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/usr/bin/google-chrome-stable'];

/** executable is where the browser is, or undefined; CHROMIUM names another. */
export const executable = [process.env.CHROMIUM, ...places].find((p) => p && existsSync(p));

/** skip is given to tests: the reason why they cannot run here, or false. */
export const skip = executable ? false : 'SKIPPED: no Chromium here (Debian: apt install chromium; or set CHROMIUM to its path)';

export const flags = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--force-color-profile=srgb',
  '--disable-features=LocalNetworkAccessChecks', // pages that a test makes up come from nowhere, and may reach nodes on this machine all the same
];

/** launch starts a browser with a profile of its own: {browser, context(options), close()}. */
export async function launch() {
  const browser = await chromium.launch({ executablePath: executable, args: flags });
  return {
    browser,
    close: () => browser.close(),
    /** context opens a window with storage of its own and notes what goes wrong in its pages. */
    async context(options = {}) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
      context.setDefaultTimeout(60_000);
      const problems = [];
      context.on('page', (page) => watch(page, problems));
      return { context, problems, page: () => context.newPage(), close: () => context.close() };
    },
  };
}

/** watch notes errors on the console, exceptions and violations of the policy. Chromium reports the latter on the console. */
function watch(page, problems) {
  page.on('pageerror', (error) => problems.push(`exception: ${error.stack ?? error}`));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(`${message.type()}: ${message.text()} (${message.location().url})`);
  });
}

/** directory makes a temporary directory: {path, remove()}. */
export async function directory() {
  const at = await mkdtemp(path.join(tmpdir(), 'anabranch-browser-'));
  return { path: at, remove: () => rm(at, { recursive: true, force: true }) };
}
