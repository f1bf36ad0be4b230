// Saves as fast as it can, without a network, and says what is on disk: to be killed.
import { open } from "../../src/node.js";

const db = await open({ directory: process.argv[2]!, url: "http://127.0.0.1:9", space: "notes", token: () => null });
let n = ((await db.get<{ n: number }>("last"))?.n ?? 0) + 1;
for (;; n++) {
  const at = n;
  await Promise.all([
    db.save("last", { n: at }).then(() => process.stdout.write(`${at}\n`)),
    db.increment("count", "/n", 1),
    db.set(`big/${at % 20}`, "/text", String(at).repeat(2000)),
  ]);
}
