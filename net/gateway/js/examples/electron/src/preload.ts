// Runs before the page, apart from it. The page gets four functions, and no way to send anything else.
import { contextBridge, ipcRenderer } from "electron";
import { connect, type Answer } from "./bridge.js";

contextBridge.exposeInMainWorld(
  "notes",
  connect(
    (r) => ipcRenderer.send("notes", r),
    (f) => void ipcRenderer.on("notes", (_event: unknown, a: Answer) => f(a)),
  ),
);
