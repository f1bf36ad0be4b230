// Elements from data. Every text goes in as a text node: what a user named or wrote is never HTML.

/**
 * h makes an element. Attributes that begin with "on" are listeners, `class` and others are attributes; true is an empty
 * attribute, and null, undefined and false are left out. Children are nodes, texts, or arrays of them.
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, ...children);
}

function fill(node, attributes, ...children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

/** replace puts children in the place of what an element holds. */
export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

/** text sets a text, and touches nothing if it is there already: a reader's selection and a screen reader stay where they are. */
export function text(node, value) {
  const wanted = String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** attribute sets or, for null, removes an attribute. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? '' : String(value));
}

/**
 * rows keeps the children of parent equal to items, by their keys: an element that stays is the same element, so focus and
 * selection stay too. make(item) returns {node, update(item)?}.
 */
export function rows(parent, keyOf, make) {
  const kept = new Map();
  return (items) => {
    const wanted = new Set();
    let at = parent.firstChild;
    for (const item of items) {
      const key = keyOf(item);
      if (wanted.has(key)) continue;
      wanted.add(key);
      let row = kept.get(key);
      if (!row) kept.set(key, row = make(item));
      row.update?.(item);
      if (row.node === at) at = at.nextSibling;
      else parent.insertBefore(row.node, at);
    }
    for (const [key, row] of kept) {
      if (wanted.has(key)) continue;
      row.node.remove();
      kept.delete(key);
    }
  };
}

/**
 * firstAsking holds content back until it is filled (arrived), so that nothing moves while it is: {node, arrived()}.
 */
export function firstAsking(content) {
  const node = h('div', {}, h('p', { class: 'empty', role: 'status' }, 'Asking the node…'));
  let waiting = true;
  return {
    node,
    arrived() {
      if (waiting) replace(node, content);
      waiting = false;
    },
  };
}

/** say tells something in the corner of the page and to screen readers. kind is "ok" or "bad". */
export function say(message, kind = 'ok') {
  const place = document.getElementById('notices');
  const notice = h('p', { class: `notice ${kind}` }, message,
    h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close this message', onclick: () => notice.remove() }, '×'));
  while (place.childElementCount > 2) place.firstChild.remove();
  place.append(notice);
  if (kind === 'ok') setTimeout(() => notice.remove(), 6000);
}

/** ask shows a question with two answers, and resolves to whether it was confirmed. */
export function ask({ title, detail, yes, danger = false }) {
  return new Promise((resolve) => {
    const dialog = h('dialog', { 'aria-labelledby': 'ask-title' },
      h('form', { method: 'dialog' },
        h('h2', { id: 'ask-title' }, title),
        h('p', {}, detail),
        h('div', { class: 'actions' },
          h('button', { value: 'no', class: 'quiet', autofocus: true }, 'Cancel'),
          h('button', { value: 'yes', class: danger ? 'danger' : 'primary' }, yes))));
    dialog.addEventListener('close', () => {
      resolve(dialog.returnValue === 'yes');
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** time shows a moment, with the exact one as its title. */
export function time(node, date, shown) {
  text(node, shown);
  if (!date) return;
  attribute(node, 'datetime', date.toISOString());
  attribute(node, 'title', date.toLocaleString());
}
