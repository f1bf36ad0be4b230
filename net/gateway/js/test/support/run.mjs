// Compiles the tests and runs those whose file names contain one of the arguments.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";

const out = "test/.build";
const wanted = process.argv.slice(2);
const tests = readdirSync("test").filter((f) => /\.test\.tsx?$/.test(f) && (!wanted.length || wanted.some((w) => f.includes(w))));
rmSync(out, { recursive: true, force: true });
await build({
  entryPoints: tests.map((f) => "test/" + f),
  outdir: out,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  packages: "external",
  alias: { "@anabranch/client": "./src/index.ts" },
  platform: "node",
  format: "esm",
  target: "node20",
  sourcemap: true,
  logLevel: "warning",
});
const files = tests.map((f) => `${out}/${f.replace(/\.tsx?$/, ".mjs")}`);
const run = spawnSync(process.execPath, ["--enable-source-maps", "--experimental-websocket", "--test", "--test-force-exit", ...(process.env.TEST_NAME ? ["--test-name-pattern", process.env.TEST_NAME] : []), "--test-reporter=spec", ...files], {
  stdio: "inherit",
  env: { ...process.env, NODE_NO_WARNINGS: "1" },
});
rmSync(out, { recursive: true, force: true });
process.exit(run.status ?? 1);
