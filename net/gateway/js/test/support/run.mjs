// Compiles the tests and runs those whose file names contain one of the arguments. Those against real nodes need the anabranch command:
// ANABRANCH_BINARY names it, else it is built if there is Go.
import { build } from "esbuild";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const out = `test/.build/${process.pid}`; // several runs do not disturb each other
const wanted = process.argv.slice(2);
const tests = readdirSync("test").filter((f) => /\.test\.tsx?$/.test(f) && (!wanted.length || wanted.some((w) => f.includes(w))));
let binary = process.env.ANABRANCH_BINARY;
let made;
if (binary === undefined && tests.some((f) => readFileSync("test/" + f, "utf8").includes("support/anabranch.js"))) {
  made = mkdtempSync(join(tmpdir(), "anabranch-command-"));
  binary = join(made, "anabranch");
  try {
    execFileSync("go", ["version"]);
  } catch {
    console.log("SKIPPED: there is no Go here to build the anabranch command, so nothing was tried against real nodes");
    binary = "";
  }
  if (binary) execFileSync("go", ["build", "-buildvcs=false", "-o", binary, "./cmd/anabranch"], { cwd: "../../..", stdio: "inherit" });
}
rmSync(out, { recursive: true, force: true });
await build({
  entryPoints: [...tests.map((f) => "test/" + f), "test/programs/saver.ts"],
  outbase: "test",
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
const run = spawnSync(process.execPath, ["--enable-source-maps", "--experimental-websocket", "--test", "--test-force-exit", "--test-reporter=spec", ...files], {
  stdio: "inherit",
  env: { ...process.env, NODE_NO_WARNINGS: "1", ANABRANCH_BINARY: binary ?? "", ANABRANCH_TEST_BUILD: out },
});
rmSync(out, { recursive: true, force: true });
if (made) rmSync(made, { recursive: true, force: true });
process.exit(run.status ?? 1);
