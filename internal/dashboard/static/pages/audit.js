// Who did what.

import { get, url } from '../api.js';
import { age, fill, h, table } from '../dom.js';

const OUTCOMES = ['', 'done', 'failed', 'denied', 'unauthenticated'];

export async function audit({ main, query, signal }) {
  const outcome = h('select', null, OUTCOMES.map((o) => h('option', { value: o, selected: o === (query.get('outcome') ?? '') }, o || 'all')));
  const principal = h('input', { value: query.get('principal') ?? '', placeholder: 'user:alice' });
  const list = h('div');
  const submit = (e) => {
    e.preventDefault();
    const to = `#${url(['audit'], { outcome: outcome.value, principal: principal.value, at: Date.now() })}`; // the same again is another look
    location.hash = to;
  };
  fill(main, h('h1', null, 'Audit'),
    h('form', { onsubmit: submit }, h('label', null, 'Outcome', outcome), h('label', null, 'Principal', principal), h('button', null, 'Show')),
    list);
  const { records } = await get(url(['v1', 'audit'], { limit: 200, outcome: outcome.value, principal: principal.value }), { signal });
  fill(list, records.length === 0
    ? h('p', { class: 'faint' }, 'No records.')
    : table(['When', 'Principal', 'Action', 'Resource', 'Outcome', 'From', 'Detail'], records.map((r) => [
      age(Date.parse(r.time)), r.principal, r.action, h('td', { class: 'value' }, r.resource),
      h('span', { class: r.outcome === 'done' ? 'good' : 'bad' }, r.outcome), [r.remote ?? '', r.clientId ? ` client ${r.clientId}` : ''].join(''),
      [r.detail ?? '', r.skipped ? ` (${r.skipped} before it not recorded)` : ''].join(''),
    ])));
}
