// The server itself, and who can get in.

import { get } from '../api.js';
import { age, failure, fill, h, table } from '../dom.js';

export async function system({ main, signal }) {
  const section = (title) => {
    const body = h('div');
    main.append(h('h2', null, title), body);
    return body;
  };
  const into = async (body, make) => {
    try {
      fill(body, await make());
    } catch (err) {
      if (!signal.aborted) fill(body, err.status === 404 ? h('p', { class: 'faint' }, err.message) : failure(err));
    }
  };
  fill(main, h('h1', null, 'System'));
  const [about, checks, users, keys, tokens] = ['Version', 'Checks', 'Users of the store', 'Access keys of the store', 'Tokens of the store'].map(section);
  await Promise.all([
    into(about, async () => {
      const v = await get('/v1/version', { signal });
      return h('p', null, [`umbrad ${v.version}`, v.commit, v.modified && 'modified', v.go, v.platform].filter(Boolean).join(', '));
    }),
    into(checks, async () => table(['Check', 'State'], (await get('/readyz?verbose', { signal })).checks.map((c) => [
      c.name, c.warning ? h('span', { class: 'wait' }, c.warning) : c.ok ? h('span', { class: 'good' }, 'ok') : h('span', { class: 'bad' }, c.error),
    ]))),
    ...Object.entries({ users, keys, tokens }).map(([kind, body]) => into(body, async () => {
      const list = (await get(`/v1/credentials/${kind}`, { signal })).credentials;
      if (list.length === 0) return h('p', { class: 'faint' }, 'None.');
      return table(['Id', 'Name', 'Groups', 'Policies', 'Scopes', 'Expires', 'Changed'], list.map((c) => [
        c.id, c.name ?? '', (c.groups ?? []).join(', '), (c.policies ?? []).join(', '), (c.scopes ?? []).join(', '), c.expires ?? 'never', age(c.modified),
      ]));
    })),
  ]);
}
