// Which page is shown, to whom, and what everybody has to be warned of.

import { get, hasLogin, logOut, passing, pause } from './api.js';
import { failure, fill, grow, h } from './dom.js';
import { access } from './pages/access.js';
import { audit } from './pages/audit.js';
import { changes } from './pages/changes.js';
import { login } from './pages/login.js';
import { system } from './pages/system.js';
import { thing } from './pages/thing.js';
import { things } from './pages/things.js';

const WARN_EVERY = 30000; // ms
const GROW_EVERY = 5000;
const ASK_AGAIN = 2000; // who we are, when there is no answer

const pages = { things, thing, changes, audit, access, system };
const byId = (id) => document.getElementById(id);

let leaving = new AbortController(); // what the page that is shown does ends with it
let me = null; // who the server says that we are

/** Shows the page that the fragment of the address names: #/PAGE/ARGUMENT?PARAMETERS. */
async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  streamState(true);
  const main = byId('main');
  if (!me && !(await recognize(signal))) return;
  fill(main);
  try {
    const [route, query = ''] = location.hash.slice(1).split('?');
    const [, name = '', ...args] = route.split('/').map(decodeURIComponent);
    mark(name);
    document.title = `${args[0] || name || 'things'} - Umbra`;
    const page = Object.hasOwn(pages, name) ? pages[name] : things;
    await page({ main, args, query: new URLSearchParams(query), signal, stream: streamState });
  } catch (err) {
    if (!signal.aborted) fill(main, failure(err));
  }
}

/** Finds out who we are. False means that something else is shown instead of the page. */
async function recognize(signal) {
  while (!me) {
    try {
      me = await get('/v1/whoami', { signal });
    } catch (err) {
      if (signal.aborted) return false; // with 401 too
      if (!passing(err)) {
        logOut();
        askForLogin(err.message);
        return false;
      }
      fill(byId('main'), failure(err));
      await pause(ASK_AGAIN, signal);
    }
  }
  if (signal.aborted) return false;
  showMe();
  warn();
  return true;
}

function showMe() {
  const leave = () => { logOut(); me = null; askForLogin(); };
  const enter = () => { leaving.abort(); askForLogin(); };
  const known = me && me.principal !== 'anonymous';
  const named = me?.name && !me.principal.endsWith(`:${me.name}`) ? ` (${me.name})` : ''; // certificates and keys have a number as principal
  fill(byId('me'), me && h('span', { class: 'faint', title: `Policies: ${policies()}` }, known ? me.principal + named : me.open ? 'open to all' : 'not logged in'), ' ',
    me && !me.open && (hasLogin() ? h('button', { class: 'small', onclick: leave }, 'Log out') : !known && h('button', { class: 'small', onclick: enter }, 'Log in')));
}

function askForLogin(message) {
  leaving.abort();
  document.title = 'Umbra';
  streamState(true);
  fill(byId('warnings'));
  showMe();
  login(byId('main'), message, () => { me = null; show(); });
}

/** Says loudly what the server warns of, and that it lets everybody in. */
async function warn() {
  const who = me;
  let signs;
  try {
    const { checks } = await get('/readyz?verbose');
    signs = checks.filter((c) => c.warning).map((c) => h('p', { class: c.name === 'security' ? null : 'mild' }, c.warning));
  } catch (err) {
    signs = [h('p', null, `The server is not ready: ${err.message}`)];
  }
  if (!who || me !== who) return; // somebody else's, or nobody's
  if (me.open && signs.length === 0) signs.push(h('p', { class: 'mild' }, 'No authentication is configured: whoever reaches this address may read and change everything.'));
  if (!me.open && me.principal === 'anonymous') signs.push(h('p', { class: 'mild' }, `You have not logged in. This address lets you in all the same, with the policies: ${policies()}.`));
  const said = byId('warnings').textContent;
  if (signs.map((s) => s.textContent).join('') !== said) fill(byId('warnings'), signs); // they are read aloud
}

const policies = () => (me.policies ?? []).join(', ') || 'none';

/** Says whether what is shown follows the server. */
function streamState(ok, why = '') {
  fill(byId('stream'), !ok && h('span', { class: 'bad', title: why }, `● ${why}`));
}

function mark(name) {
  for (const link of document.querySelectorAll('nav a')) {
    const current = link.getAttribute('href') === `#/${name === 'thing' ? 'things' : name || 'things'}`;
    if (current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

addEventListener('hashchange', () => { show(); byId('main').focus(); });
addEventListener('umbra-unauthorized', () => {
  const refused = hasLogin();
  logOut();
  me = null;
  askForLogin(refused ? 'The server does not know this login, or does not any more.' : '');
});
setInterval(() => {
  if (!me || document.hidden) return;
  get('/v1/whoami').catch(() => {}); // are we still known? Not all pages ask again
  warn();
}, WARN_EVERY);
setInterval(grow, GROW_EVERY);
show();
