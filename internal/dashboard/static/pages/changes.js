// What happens to all shadows, as it happens.

import { follow, url } from '../api.js';
import { age, fill, h, table } from '../dom.js';
import { show } from '../json.js';
import { author } from './thing.js';

const MOST = 500; // that are shown
const SETTLE = 200; // ms between two looks

export async function changes({ main, query, signal, stream }) {
  const prefix = query.get('prefix') ?? '';
  const search = h('input', { value: prefix, type: 'search', placeholder: 'thing begins with', 'aria-label': 'Thing begins with' });
  const list = h('div');
  const told = []; // the latest first
  let paused = false;
  let live = false; // what happens from now on is told
  let waiting = 0; // that came while the list is paused
  const pause = h('button', { type: 'button', onclick: () => { paused = !paused; waiting = 0; draw(); } }, 'Pause');

  function draw() {
    pause.textContent = paused ? `Go on (${waiting} more)` : 'Pause';
    if (paused) return;
    fill(list, told.length === 0
      ? h('p', { class: 'faint' }, live ? 'Waiting for changes; earlier ones are in the history of each shadow.' : 'Connecting…')
      : table(['When', 'Thing', 'What', 'By', 'Change'], told.map((c) => (c.thing === undefined
        ? ['', '', c.op, '', '']
        : [age(c.timestamp), h('a', { href: `#${url(['thing', c.thing], { name: c.name })}` }, c.name ? `${c.thing}/${c.name}` : c.thing), `${c.op} ${c.version}`, author(c.by),
          h('td', { class: 'value' }, c.state === undefined ? '' : show(c.state))]))));
  }

  fill(main, h('h1', null, 'Changes'),
    h('form', { onsubmit: (e) => { e.preventDefault(); location.hash = `#${url(['changes'], { prefix: search.value })}`; } }, search, h('button', null, 'Filter'), pause),
    list);
  draw();

  let timer = null;
  signal.addEventListener('abort', () => clearTimeout(timer));
  const event = ({ event: kind, data }) => {
    told.unshift(kind === 'reset' ? { op: 'some changes were missed' } : data);
    told.length = Math.min(told.length, MOST);
    waiting++;
    timer ??= setTimeout(() => { timer = null; draw(); }, SETTLE);
  };
  follow(url(['v1', 'events'], { prefix }), { signal, event, state: (ok, why) => { live = ok; stream(ok, why); draw(); } });
}
