// Who may do what, and why.

import { call, get } from '../api.js';
import { failure, fill, h, table } from '../dom.js';

export async function access({ main, signal }) {
  const field = (label, placeholder, required = true) => {
    const input = h('input', { placeholder, required, spellcheck: false });
    return [input, h('label', null, label, input)];
  };
  const [principal, principalLabel] = field('Principal', 'user:alice');
  const [action, actionLabel] = field('Action', 'iot:Publish');
  const [resource, resourceLabel] = field('Resource', 'topic/lamps/1');
  const [client, clientLabel] = field('Client id, over MQTT', '', false);
  const answer = h('div', { role: 'status' });
  const submit = async (e) => {
    e.preventDefault();
    const question = { principal: principal.value, action: action.value, resource: resource.value };
    if (client.value) question.clientId = client.value;
    try {
      const decided = await call('POST', '/v1/policy-test', { body: JSON.stringify(question), headers: { 'Content-Type': 'application/json' }, signal });
      fill(answer, explained(decided));
    } catch (err) {
      if (!signal.aborted) fill(answer, failure(err));
    }
  };
  const policies = h('div');
  fill(main, h('h1', null, 'Access'), h('p', null, 'May somebody do something, and which statement of which policy decides?'),
    h('form', { onsubmit: submit }, principalLabel, actionLabel, resourceLabel, clientLabel, h('button', null, 'Ask')), answer,
    h('h2', null, 'Policies'), policies);
  try {
    const list = (await get('/v1/policies', { signal })).policies;
    fill(policies, table(['Name', 'Origin', 'Attached to', 'Warnings'], list.map((p) => [
      p.name, p.origin, (p.targets ?? []).join(', '), h('span', { class: 'wait' }, (p.warnings ?? []).join('; ')),
    ])));
  } catch (err) {
    if (!signal.aborted) fill(policies, failure(err));
  }
}

function explained(decided) {
  return [
    h('p', null, h('strong', { class: decided.allowed ? 'good' : 'bad' }, decided.allowed ? 'Allowed' : 'Denied'), ` ${decided.reason ?? ''}`),
    h('p', { class: 'faint' }, `Policies that count: ${decided.policies.join(', ') || 'none'}`),
    decided.unknown && h('p', { class: 'wait' }, 'The server knows no such principal: this is what one would be told that brings no groups and policies.'),
    decided.others && table(['Statements that did not decide', 'Effect', 'Why'], decided.others.map((o) => [`${o.statement} of ${o.policy}`, o.effect, o.reason])),
  ];
}
