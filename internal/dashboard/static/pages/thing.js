// The shadows of a thing: what is desired and reported, and how that came to be.

import { call, follow, get, passing, repeat, url } from '../api.js';
import { age, failure, fill, h, table } from '../dom.js';
import { show, typed } from '../json.js';
import { change, pathText, readPath, rows } from '../rows.js';
import { connected } from './things.js';

const SETTLE = 100; // ms that changes are collected for
const HISTORY = 200; // changes that are shown
const LOOK_EVERY = 10000; // ms; of connections no stream tells

export async function thing({ main, args: [name], query, signal, stream }) {
  if (!name) {
    location.replace('#/things');
    return;
  }
  const shadow = query.get('name') ?? '';
  const path = url(['v1', 'things', name, 'shadow'], { name: shadow });
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'Shadows' });
  const head = h('p');
  const notice = h('div', { role: 'status' });
  const state = h('div');
  const history = h('div');
  fill(main, h('h1', null, name), tabs, head, notice, state, addForm(), h('h2', null, 'History'), history, commands());

  let version = null; // of the document that is shown, null for none
  let shown = ''; // of the same, so that what has the focus keeps it
  let editing = null; // the button that has had a value typed

  async function load() {
    try {
      const document = await get(path, { signal });
      if (editing) return; // what is typed is for what was shown
      const sign = show([document.version, document.connectivity ?? null]);
      if (sign === shown) return;
      shown = sign;
      version = document.version;
      fill(head, summary(document));
      fill(state, values(document));
    } catch (err) {
      if (signal.aborted) return;
      shown = '';
      if (passing(err)) { // what is shown, and what is typed, stays
        fill(head, failure(err));
        return;
      }
      version = null;
      editing = null;
      fill(head);
      fill(state, err.status === 404 ? h('p', { class: 'faint' }, 'There is no such shadow. What is set below makes one.') : failure(err));
    }
  }

  async function loadTabs() {
    const names = new Set([shadow]);
    try {
      for (const s of (await get(url(['v1', 'things', name]), { signal })).shadows) names.add(s.name);
    } catch { /* others are not shown to us, or there is none yet */ }
    fill(tabs, [...names].sort().map((n) => h('a', { href: `#${url(['thing', name], { name: n })}`, 'aria-current': n === shadow && 'page' }, n || 'classic')));
  }

  /** Changes the shadow if it still is the one that is shown. */
  async function update(method, body) {
    try {
      await call(method, path, { body, signal, headers: { 'Content-Type': 'application/json', ...(version === null ? { 'If-None-Match': '*' } : { 'If-Match': `"${version}"` }) } });
      fill(notice);
    } catch (err) {
      if (signal.aborted) return;
      fill(notice, err.status === 412 ? h('p', { class: 'bad', role: 'alert' }, 'Somebody has changed the shadow meanwhile. Here it is as it is now; nothing of yours was done.') : failure(err));
      if (err.status !== 412) return; // what is typed stays
    }
    finish();
    await load();
    await loadTabs();
  }

  function summary(document) {
    const pending = rows(document).filter((r) => r.pending).length;
    return [
      `Version ${document.version}, `,
      pending === 0 ? h('span', { class: 'good' }, 'in sync') : h('span', { class: 'wait' }, `waits for the device: ${pending} ${pending === 1 ? 'value' : 'values'}`),
      document.connectivity && [', ', connected(document.connectivity)], ' ',
      h('button', { class: 'small', onclick: () => { if (confirm(`Delete this shadow of ${name}?`)) update('DELETE'); } }, 'Delete shadow'),
    ];
  }

  function values(document) {
    return table(['Path', 'Desired', 'Reported', 'Age', ''], rows(document).map((r) => {
      const desired = h('td', { class: 'value', title: title(r.desiredAt) }, r.desired === undefined ? '' : show(r.desired));
      return h('tr', { class: r.pending ? 'pending' : null },
        h('td', { class: 'path' }, pathText(r.path)),
        desired,
        h('td', { class: 'value', title: title(r.reportedAt) }, r.reported === undefined ? '' : show(r.reported)),
        h('td', null, age(Math.max(r.desiredAt ?? 0, r.reportedAt ?? 0))),
        h('td', null,
          h('button', { class: 'small', 'aria-label': `Set ${pathText(r.path)}`, onclick: (e) => edit(desired, r, e.currentTarget) }, 'Set'), ' ',
          r.desired !== undefined && h('button', { class: 'small', 'aria-label': `Unset ${pathText(r.path)}`, onclick: () => update('PATCH', change(r.path, 'null')) }, 'Unset')));
    }));
  }

  /** Ends what edit began. */
  function finish() {
    editing?.focus();
    editing = null;
    shown = '';
  }

  /** Has a value typed in its place. */
  function edit(cell, row, button) {
    editing = button;
    const input = h('input', { value: show(row.desired ?? row.reported), 'aria-label': `Desired ${pathText(row.path)}` });
    const cancel = () => { finish(); load(); };
    fill(cell, h('form', {
      onsubmit: (e) => { e.preventDefault(); update('PATCH', change(row.path, typed(input.value))); },
      onkeydown: (e) => { if (e.key === 'Escape') cancel(); },
    }, input, h('button', { class: 'small' }, 'Save'), h('button', { class: 'small', type: 'button', onclick: cancel }, 'Cancel')));
    input.select();
  }

  function addForm() {
    const key = h('input', { required: true, placeholder: 'color.r', spellcheck: false });
    const value = h('input', { required: true, placeholder: '255', spellcheck: false });
    const submit = async (e) => {
      e.preventDefault();
      try {
        await update('PATCH', change(readPath(key.value), typed(value.value)));
      } catch (err) {
        fill(notice, failure(err));
      }
    };
    return h('form', { onsubmit: submit }, h('label', null, 'Path', key), h('label', null, 'Desired value, JSON or text', value), h('button', null, 'Set'));
  }

  function commands() {
    const full = quoted(shadow ? `${name}/${shadow}` : name);
    const topic = quoted(`$aws/things/${name}/shadow/${shadow && `name/${shadow}/`}update/delta`);
    return [
      h('h2', null, 'The same in a terminal'),
      h('p', null, h('code', null, `umbra get ${full}`), h('br'), h('code', null, `umbra watch ${full}`), h('br'),
        h('code', null, `mosquitto_sub -t ${topic}`)),
    ];
  }

  const told = []; // changes, the latest first
  const showHistory = () => fill(history, table(['Version', 'When', 'What', 'By', 'Change'], told.map((c) => [
    String(c.version ?? ''), age(c.timestamp), c.op, author(c.by), h('td', { class: 'value' }, c.state === undefined ? '' : show(c.state)),
  ])));
  let timer = null;
  signal.addEventListener('abort', () => clearTimeout(timer));
  const event = ({ event: kind, data }) => {
    if (kind === 'reset' || kind === 'document') told.unshift({ version: data?.version, op: 'earlier changes are forgotten' });
    else told.unshift(data);
    told.length = Math.min(told.length, HISTORY);
    timer ??= setTimeout(() => {
      timer = null;
      showHistory();
      if (told[0].version !== version) load();
    }, SETTLE);
  };

  repeat(LOOK_EVERY, signal, () => Promise.all([load(), loadTabs()]));
  follow(url(['v1', 'things', name, 'events'], { name: shadow }), { signal, from: '0', event, state: stream });
}

/** Returns a word of a shell: a link to this page may have any name in it. */
const quoted = (word) => (/^[\w:/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

const title = (ms) => (ms ? new Date(ms).toLocaleString() : null);

/** Says who has made a change. */
export function author({ channel, principal, clientId } = {}) {
  return [principal, clientId && clientId !== principal && `client ${clientId}`, channel].filter(Boolean).join(', ');
}
