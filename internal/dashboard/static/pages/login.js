// Who we are: a user with a password, or a token.

import { basic, logIn } from '../api.js';
import { h, fill } from '../dom.js';

export function login(main, message, done) {
  const field = (label, properties) => {
    const input = h('input', { required: true, spellcheck: false, ...properties });
    return [input, h('label', null, label, input)];
  };
  const [user, userLabel] = field('User', { autocomplete: 'username', pattern: '[^:]*', title: 'The name alone, without user:' });
  const [password, passwordLabel] = field('Password', { type: 'password', autocomplete: 'current-password' });
  const [token, tokenLabel] = field('Bearer token', { type: 'password', autocomplete: 'off', pattern: '\\s*[!-~]+\\s*', title: 'Letters, digits and signs of ASCII, without spaces' });
  const form = (authorization, ...children) => h('form', {
    class: 'column',
    onsubmit: (e) => { e.preventDefault(); logIn(authorization()); done(); },
  }, ...children);
  fill(main,
    h('h1', null, 'Log in'),
    message && h('p', { class: 'bad', role: 'alert' }, message),
    form(() => basic(user.value, password.value), userLabel, passwordLabel, h('button', null, 'Log in')),
    h('h2', null, 'or with a token'),
    form(() => `Bearer ${token.value.trim()}`, tokenLabel, h('button', null, 'Log in with token')),
    h('p', { class: 'faint' }, 'The login stays in this tab until it is closed. Users are made by ', h('code', null, 'umbra user add'), ', tokens by ', h('code', null, 'umbra token add'), '.'));
  user.focus();
}
