// Uses the dashboard in a browser as an operator does. Arguments: the browser, the URL of umbrad, and the password of its
// administrator root, and a token.
'use strict';

const assert = require('node:assert/strict');
const { chromium } = require('playwright-core');

const [browser, server, password, token] = process.argv.slice(2);
const PATIENCE = 60000;

/** Calls the API as root, beside the page. */
async function api(method, path, body) {
  const response = await fetch(server + path, { method, body, headers: { Authorization: `Basic ${btoa(`root:${password}`)}`, 'Content-Type': 'application/json' } });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response;
}

const report = (thing, json) => api('PATCH', `/v1/things/${thing}/shadow`, `{"state":{"reported":${json}}}`);

/** Opens the dashboard in a tab of its own, in which nothing goes wrong that a browser would complain of. */
async function open(app, complaints) {
  const page = await (await app.newContext()).newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on('pageerror', (err) => complaints.push(err.message));
  page.on('dialog', (d) => { if (d.type() === 'confirm') d.accept(); else complaints.push(`dialog: ${d.message()}`); });
  page.on('console', (m) => { if (m.type() === 'error' && !m.text().startsWith('Failed to load resource')) complaints.push(m.text()); });
  page.on('request', (r) => { if (!r.url().startsWith(server)) complaints.push(`request for ${r.url()}`); });
  await page.goto(`${server}/`);
  return page;
}

async function logIn(page, user, word) {
  await page.getByLabel('User').fill(user);
  await page.getByLabel('Password').fill(word);
  await page.getByRole('button', { name: 'Log in', exact: true }).click();
}

const cell = (page, path, column) => page.getByRole('row').filter({ has: page.getByRole('cell', { name: path, exact: true }) }).getByRole('cell').nth(column);
const see = (place, text) => place.filter({ hasText: text }).first().waitFor();

async function pureParts(page) {
  const got = await page.evaluate(async () => {
    const { rows, pathText, readPath, change } = await import('/dashboard/rows.js');
    const { parse, show, typed } = await import('/dashboard/json.js');
    return {
      rows: rows(parse(`{"state":{"desired":{"a":{"b":1,"c":{}},"t":[1]},"reported":{"a":{"b":2},"__proto__":3,"z":null},"delta":{"a":{"b":1,"c":{}}}},
        "metadata":{"desired":{"a":{"b":{"timestamp":5}},"t":[{"timestamp":7}]}}}`)).map((r) => [pathText(r.path), r.desired, r.reported, r.pending, r.desiredAt]),
      path: readPath(String.raw`a\.b.c\\d`), back: pathText(['a.b', 'c\\d']), change: change(['a"', 'b'], '1e400'),
      exact: show(parse('{"n":[12345678901234567890,1.50,-0,1]}')), typed: [typed('1.0'), typed('on'), typed('"1"'), typed('{')],
      turned: show(parse(`{"a\u202e":"\u2066b"}`)), long: rows({ state: { reported: { a: 1 } }, metadata: { reported: { a: Array(300000).fill({ timestamp: 1 }) } } })[0].reportedAt,
      bad: ['', '.', 'a..b', 'a.'].map((p) => { try { return readPath(p); } catch { return null; } }),
    };
  });
  assert.deepEqual(got, {
    rows: [['__proto__', undefined, 3, false, undefined], ['a.b', 1, 2, true, 5000], ['a.c', {}, undefined, true, 0], ['t', [1], undefined, false, 7000], ['z', undefined, null, false, undefined]],
    path: ['a.b', 'c\\d'], back: 'a\\.b.c\\\\d', change: '{"state":{"desired":{"a\\"":{"b":1e400}}}}',
    turned: String.raw`{"a\u202e": "\u2066b"}`, long: 1000,
    exact: '{"n": [12345678901234567890, 1.50, -0, 1]}', typed: ['1.0', '"on"', '"1"', '"{"'], bad: [null, null, null, null],
  });
}

async function administrator(page) {
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  assert.equal(await page.getByRole('cell').count(), 0, 'a stranger sees something');
  await logIn(page, 'root', 'wrong');
  await see(page.getByRole('alert'), 'does not know this login');
  await logIn(page, 'root', password);
  await see(page.locator('#me'), 'user:root');
  await page.getByRole('link', { name: 'door' }).waitFor();

  await page.getByRole('link', { name: 'lamp' }).click();
  await see(cell(page, '<i>x</i>', 2), '<script>alert(1)</script>');
  await see(cell(page, 'n', 2), '12345678901234567890');
  await page.getByRole('button', { name: 'Set color.r', exact: true }).click();
  await page.getByLabel('Desired color.r').fill('255');
  await page.keyboard.press('Enter');
  await see(cell(page, 'color.r', 1), '255');
  await see(page.getByRole('paragraph'), 'waits for the device: 1 value');
  await report('lamp', '{"color":{"r":255}}'); // the page follows
  await see(page.getByRole('paragraph'), 'in sync');
  await see(page.getByRole('cell'), 'user:root, rest');

  // Somebody is faster.
  await page.getByRole('button', { name: 'Set color.r', exact: true }).click();
  await page.getByLabel('Desired color.r').fill('1');
  await report('lamp', '{"color":{"r":7}}');
  await page.getByRole('cell', { name: '4', exact: true }).waitFor(); // in the history
  await page.keyboard.press('Enter');
  await see(page.getByRole('alert'), 'nothing of yours was done');
  await see(cell(page, 'color.r', 1), '255');
  await see(cell(page, 'color.r', 2), '7');

  await page.getByLabel('Path').fill('mode');
  await page.getByLabel('Desired value').fill('party');
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  await see(cell(page, 'mode', 1), '"party"');
  await page.getByRole('button', { name: 'Unset mode' }).click();
  await cell(page, 'mode', 1).waitFor({ state: 'detached' });

  // What cannot be stays to be typed anew, and the focus is where it was, until there is no such shadow any more.
  await page.getByRole('button', { name: 'Set color.r', exact: true }).click();
  await page.getByLabel('Desired color.r').fill('[[[[[[[[[1]]]]]]]]]');
  await page.keyboard.press('Enter');
  await see(page.getByRole('alert'), 'levels');
  assert.equal(await page.getByLabel('Desired color.r').inputValue(), '[[[[[[[[[1]]]]]]]]]');
  await page.getByLabel('Desired color.r').press('Escape');
  await page.getByLabel('Desired color.r').waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Set color.r');
  await page.getByRole('button', { name: 'Set color.r', exact: true }).click();
  await api('DELETE', '/v1/things/lamp/shadow');
  await see(page.getByRole('paragraph'), 'There is no such shadow');
  await report('lamp', '{"color":{"r":7}}');
  await see(cell(page, 'color.r', 2), '7');

  await page.getByRole('link', { name: 'Audit' }).click();
  await see(page.getByRole('row').filter({ hasText: 'umbra:Login' }), 'unauthenticated');
  assert.equal(await page.getByRole('cell', { name: 'umbra:Login' }).count(), 1, 'the page that asks for a login is recorded as one that failed');
  await page.getByRole('link', { name: 'Access' }).click();
  await page.getByLabel('Principal').fill('user:lamp');
  await page.getByLabel('Action').fill('iot:GetThingShadow');
  await page.getByLabel('Resource').fill('thing/door');
  await page.getByRole('button', { name: 'Ask' }).click();
  await see(page.getByRole('status'), 'Denied');
  await page.getByRole('link', { name: 'System' }).click();
  await see(page.getByRole('cell'), 'lamp');
  await page.getByRole('link', { name: 'Changes' }).click();
  await see(page.getByRole('paragraph'), 'Waiting for changes');
  await report('door', '{"open":true}');
  await see(page.getByRole('cell'), '{"reported": {"open": true}}');
}

async function device(page) {
  await logIn(page, 'lamp', "lamp's password");
  await see(page.getByRole('paragraph'), 'may not list all things');
  await page.getByLabel('Thing').fill('door');
  await page.getByRole('button', { name: 'Show' }).click();
  await see(page.getByRole('alert'), 'Forbidden');
  assert.equal(await page.getByRole('cell').count(), 0, 'a device sees what others have');
  await page.goto(`${server}/dashboard/#/thing/lamp`);
  await see(cell(page, 'color.r', 2), '7');
  await page.reload(); // the login is of the tab
  await see(cell(page, 'color.r', 2), '7');
  await api('DELETE', '/v1/credentials/users/lamp');
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  assert.equal(await page.getByRole('cell').count(), 0, 'what was shown stays there for who has no login any more');
}

async function holderOfAToken(page) {
  await page.getByLabel('Bearer token').fill(token);
  await page.getByRole('button', { name: 'Log in with token' }).click();
  await see(page.locator('#me'), /token:.* \(ci\)/);
  await page.getByRole('link', { name: 'door' }).waitFor();
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
}

/** Has answers come late, and other ones than are wanted. */
async function trouble(page) {
  let warned;
  const late = new Promise((resume) => { warned = resume; });
  await page.route('**/readyz*', async (route) => { await late; await route.continue(); });
  const busy = (times, status) => async (route) => (times-- > 0 ? route.fulfill({ status, contentType: 'application/json', body: '{"detail":"later"}' }) : route.continue());
  await page.route('**/v1/whoami', busy(1, 503));
  await page.route('**/v1/things?*', busy(1, 429));

  await page.getByLabel('Bearer token').fill('umbra_\u2013');
  await page.getByRole('button', { name: 'Log in with token' }).click();
  assert.equal(await page.locator('input:invalid').evaluateAll((all) => all.filter((e) => e.validity.patternMismatch).length), 1, 'a token that cannot be sent is kept');
  await logIn(page, 'root', password);
  await page.getByRole('link', { name: 'door' }).waitFor();
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  const answered = page.waitForResponse('**/readyz*');
  warned();
  await (await answered).finished();
  await logIn(page, 'root', 'x'.repeat(20000));
  await see(page.getByRole('alert'), '431');

  await page.goto(`${server}/dashboard/#/thing/${encodeURIComponent('a;b')}`);
  await page.getByRole('alert').filter({ hasText: '431' }).waitFor({ state: 'detached' }); // the form is a new one
  await logIn(page, 'root', password);
  await see(page.locator('code'), "umbra get 'a;b'");
  assert.equal(await page.title(), 'a;b - Umbra');
}

(async () => {
  await api('PUT', '/v1/credentials/users/lamp', `{"password":"lamp's password"}`);
  await report('lamp', '{"color":{"r":10},"n":12345678901234567890,"<i>x</i>":"<script>alert(1)</script>"}');
  await report('door', '{"open":false}');
  const app = await chromium.launch({
    executablePath: browser, chromiumSandbox: false,
    args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const complaints = [];
  const page = await open(app, complaints);
  await pureParts(page);
  await administrator(page);
  await device(await open(app, complaints));
  await holderOfAToken(await open(app, complaints));
  await trouble(await open(app, complaints));
  await app.close();
  assert.deepEqual(complaints, []);
})().catch((err) => { console.error(err); process.exit(1); });
