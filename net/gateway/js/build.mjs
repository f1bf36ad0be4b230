// Builds dist from src: the bundles that browsers load as they are, and the declarations.
// With --check it builds elsewhere, and fails if dist is not the same or a bundle is too large.
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const check = process.argv.includes("--check");
const out = check ? mkdtempSync(join(tmpdir(), "anabranch-client-")) : "dist";

// What each bundle may have at most, in bytes of gzip.
const limits = { "index.js": 14_000, "fallback.js": 2_000, "conflicts.js": 2_000, "react.js": 2_000, "node.js": 2_000, "filelog.js": 2_000 };

if (!check) rmSync(out, { recursive: true, force: true });
await build({
  entryPoints: Object.keys(limits).map((f) => "src/" + f.replace(/js$/, "ts")).filter(existsSync),
  outdir: out,
  bundle: true,
  // Each bundle stands alone, but for what it names: an app that uses two must not have two copies of the core.
  plugins: [{ name: "neighbours", setup: (b) => b.onResolve({ filter: /^\.\/(index|fallback|conflicts|filelog)\.js$/ }, (a) => (a.kind === "entry-point" ? undefined : { path: a.path, external: true })) }],
  external: ["react", "node:*"],
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  charset: "utf8",
  logLevel: "warning",
});
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json", "--outDir", out], { stdio: "inherit" });

let failed = false;
for (const [file, limit] of Object.entries(limits)) {
  if (!existsSync(join(out, file))) continue;
  const size = gzipSync(readFileSync(join(out, file)), { level: 9 }).length;
  console.log(`${file}: ${size} of ${limit} bytes of gzip`);
  if (size > limit) {
    console.error(`${file} is too large`);
    failed = true;
  }
}
if (check) {
  const names = [...new Set([...readdirSync(out), ...readdirSync("dist")])];
  const different = names.filter((f) => !existsSync(join(out, f)) || !existsSync(join("dist", f)) || !readFileSync(join(out, f)).equals(readFileSync(join("dist", f))));
  if (different.length) {
    console.error(`dist does not match the sources (${different.join(", ")}): run npm run build and commit what it makes`);
    failed = true;
  }
  rmSync(out, { recursive: true });
}
process.exitCode = failed ? 1 : 0;
