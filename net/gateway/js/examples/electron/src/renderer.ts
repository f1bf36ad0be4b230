// The page. What comes from others is only ever put into text nodes.
import type { Note, Notes } from "./bridge.js";

declare global {
  interface Window {
    notes: Notes;
  }
}

const byId = (id: string) => document.getElementById(id)!;
const list = byId("list");

window.notes.status(({ status, pending }) => {
  byId("status").textContent = pending ? `${status}, ${pending} not yet synced` : status;
});

window.notes.watch("note/", (notes) => list.replaceChildren(...notes.map(row)));

byId("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target as HTMLFormElement;
  const title = String(new FormData(form).get("title"));
  void window.notes.save(`note/${crypto.randomUUID()}`, { title }).then(() => form.reset());
});

function row(note: Note): HTMLElement {
  const item = document.createElement("li");
  const input = document.createElement("input");
  input.value = String(note.value!["title"]);
  input.setAttribute("aria-label", "Title");
  input.addEventListener("change", () => void window.notes.save(note.key, { ...note.value, title: input.value }, note));
  const remove = document.createElement("button");
  remove.textContent = "Remove";
  remove.addEventListener("click", () => void window.notes.remove(note.key));
  item.append(input, remove, note.meta.synced ? "" : " …");
  return item;
}
