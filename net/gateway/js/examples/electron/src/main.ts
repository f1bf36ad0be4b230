// The main process: it holds the database, and opens windows that reach it by the bridge.
import { app, BrowserWindow, ipcMain, safeStorage } from "electron";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { open } from "@anabranch/client/node";
import { serve } from "./bridge.js";

const tokenFile = () => join(app.getPath("userData"), "token");

/** The token is kept encrypted by the system's keychain. The first time it comes from a file that the user names. */
async function token(): Promise<string | undefined> {
  try {
    return safeStorage.decryptString(await readFile(tokenFile()));
  } catch {
    const source = process.env["ANABRANCH_TOKEN_FILE"];
    if (!source) return undefined;
    const text = (await readFile(source, "utf8")).trim();
    if (safeStorage.isEncryptionAvailable()) await writeFile(tokenFile(), safeStorage.encryptString(text), { mode: 0o600 });
    return text;
  }
}

await app.whenReady();
const db = await open({
  directory: join(app.getPath("userData"), "notes"),
  url: process.env["ANABRANCH_URL"] ?? "http://127.0.0.1:7422",
  space: "notes",
  token,
});

function openWindow(): void {
  const window = new BrowserWindow({
    webPreferences: { preload: join(import.meta.dirname, "preload.cjs"), contextIsolation: true, sandbox: true, nodeIntegration: false },
  });
  const { webContents } = window;
  const end = serve(db, (a) => webContents.isDestroyed() || webContents.send("notes", a));
  const hear = (event: Electron.IpcMainEvent, r: unknown) => {
    // Only our own page, in this window, may ask.
    if (event.sender === webContents && event.senderFrame?.url.startsWith("file:")) end.handle(r);
  };
  ipcMain.on("notes", hear);
  webContents.on("will-navigate", (event) => event.preventDefault());
  webContents.setWindowOpenHandler(() => ({ action: "deny" }));
  window.on("closed", () => {
    ipcMain.off("notes", hear);
    end.close();
  });
  void window.loadFile(join(import.meta.dirname, "..", "index.html"));
}

openWindow();
app.on("activate", () => BrowserWindow.getAllWindows().length || openWindow());
app.on("window-all-closed", () => process.platform === "darwin" || app.quit());

let closing = false;
app.on("before-quit", (event) => {
  if (closing) return;
  // What was saved is on disk already; this ends the connection in order.
  event.preventDefault();
  closing = true;
  void db.close().finally(() => app.quit());
});
