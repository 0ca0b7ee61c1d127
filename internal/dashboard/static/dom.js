// Making elements. Text is always text: nothing that the server sends is read as HTML.

/**
 * Returns a new element. Properties that begin with "on" are listeners; class, for and names with a dash are attributes;
 * children are nodes, texts, or lists of them, and null is none.
 */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'class' || name === 'for' || name.includes('-')) element.setAttribute(name, value);
    else element[name] = value;
  }
  for (const c of children.flat(Infinity)) if (c !== null && c !== undefined && c !== false) element.append(c);
  return element;
}

/** Puts nodes in the place of all that an element has. The focus stays with what is there again. */
export function fill(element, ...nodes) {
  const sign = (e) => e.getAttribute('aria-label') ?? e.getAttribute('href');
  const focused = element.contains(document.activeElement) ? sign(document.activeElement) : null;
  element.replaceChildren(...nodes.flat(Infinity).filter((n) => n !== null && n !== undefined && n !== false));
  if (focused !== null) [...element.querySelectorAll('a, button, input')].find((e) => sign(e) === focused)?.focus({ preventScroll: true });
}

/** Returns a table; each row is a list of cells, which are nodes or texts, or a tr. */
export function table(titles, rows) {
  const row = (cells) => (cells instanceof Node ? cells : h('tr', null, cells.map((c) => (c instanceof HTMLTableCellElement ? c : h('td', null, c)))));
  return h('div', { class: 'wide' }, h('table', null,
    h('thead', null, h('tr', null, titles.map((t) => h('th', { scope: 'col' }, t)))),
    h('tbody', null, rows.map(row))));
}

/** Returns how long ago a time was, of which the title says when that is. */
export function age(ms) {
  if (!ms) return h('span', { class: 'faint' }, '-');
  return h('time', { dateTime: new Date(ms).toISOString(), title: new Date(ms).toLocaleString() }, ago(ms));
}

/** Has all ages that are shown go on. */
export function grow() {
  for (const t of document.querySelectorAll('time')) t.textContent = ago(Date.parse(t.dateTime));
}

function ago(ms) {
  const s = Math.max(0, Math.round((Date.now() - ms) / 1000));
  const [n, unit] = s < 60 ? [s, 's'] : s < 3600 ? [s / 60, 'm'] : s < 86400 ? [s / 3600, 'h'] : [s / 86400, 'd'];
  return `${Math.floor(n)}${unit} ago`;
}

/** Returns what is shown where something has failed. */
export function failure(err) {
  const trace = err.traceId ? ` (request ${err.traceId})` : '';
  return h('p', { class: 'bad', role: 'alert' }, err.message + trace);
}
