// All things that have shadows.

import { get, passing, repeat, stale, url } from '../api.js';
import { age, failure, fill, h, table } from '../dom.js';

const LIMIT = 50;
const LOOK_EVERY = 2000; // ms

export async function things({ main, query, signal, stream }) {
  const prefix = query.get('prefix') ?? '';
  const page = query.get('page') ?? '';
  const search = h('input', { value: prefix, placeholder: 'begins with', type: 'search', 'aria-label': 'Name begins with' });
  const list = h('div');
  fill(main,
    h('h1', null, 'Things'),
    h('form', { onsubmit: (e) => { e.preventDefault(); location.hash = `#${url(['things'], { prefix: search.value })}`; } }, search, h('button', null, 'Search')),
    list);

  // Looking again costs less than hearing of each change of a large fleet, and tells of connections too.
  const refused = new AbortController();
  let shown = ''; // what is the same stays as it is, with what has the focus in it
  repeat(LOOK_EVERY, AbortSignal.any([signal, refused.signal]), async () => {
    try {
      const answer = await get(url(['v1', 'things'], { prefix, page, limit: LIMIT }), { signal });
      if (JSON.stringify(answer) !== shown) fill(list, listed(answer, prefix, page));
      shown = JSON.stringify(answer);
      stream(true);
    } catch (err) {
      if (signal.aborted) return;
      if (passing(err)) stream(false, stale(err.message));
      else refused.abort();
      if (list.childElementCount === 0 || refused.signal.aborted) fill(list, err.status === 403 ? unlisted() : failure(err));
    }
  });
}

function listed({ things: all, nextPage }, prefix, page) {
  if (all.length === 0) return h('p', { class: 'faint' }, page ? 'No more things.' : 'No thing has a shadow here yet: a device makes its own with its first report.');
  const presence = all.some((t) => t.connectivity);
  const titles = ['Thing', 'Shadow', 'State', 'Version', 'Changed', ...(presence ? ['Presence'] : [])];
  const rows = all.flatMap((t) => t.shadows.map((s, i) => [
    i === 0 ? h('a', { href: `#${url(['thing', t.thing])}` }, t.thing) : '',
    h('a', { href: `#${url(['thing', t.thing], { name: s.name })}` }, s.name || 'classic'),
    s.inSync ? h('span', { class: 'good' }, 'in sync') : h('span', { class: 'wait' }, 'waits for the device'),
    String(s.version), age(s.modified),
    ...(presence ? [i === 0 ? connected(t.connectivity) : ''] : []),
  ]));
  return [
    table(titles, rows),
    h('p', null,
      page && h('a', { href: `#${url(['things'], { prefix })}` }, 'First page'), ' ',
      nextPage && h('a', { href: `#${url(['things'], { prefix, page: nextPage })}` }, 'Next page')),
  ];
}

/** Says whether a thing is connected. */
export function connected(c) {
  if (!c) return '';
  if (c.connected) return h('span', { class: 'good' }, 'connected ', age(c.since));
  return h('span', { class: 'faint' }, c.since ? ['offline ', age(c.since), ` ${c.reason ?? ''}`] : 'never seen');
}

/** Leads to a thing who may see it, and not all of them. */
function unlisted() {
  const name = h('input', { required: true, 'aria-label': 'Thing' });
  return [
    h('p', null, 'You may not list all things (umbra:ListThings). Which one is it?'),
    h('form', { onsubmit: (e) => { e.preventDefault(); location.hash = `#${url(['thing', name.value])}`; } }, name, h('button', null, 'Show')),
  ];
}
