// Drives the thingShadow class of aws-iot-device-sdk through the life of a
// shadow. Arguments: host, port, file names of CA, certificate and key, thing.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { thingShadow } = require('aws-iot-device-sdk');

const [host, port, caPath, certPath, keyPath, thing] = process.argv.slice(2);

const connect = (clientId) =>
  thingShadow({ host, port: Number(port), caPath, certPath, keyPath, clientId, protocol: 'mqtts' });

// operation starts a shadow operation and gives [status, document] of its outcome.
async function operation(client, start) {
  const outcome = once(client, 'status');
  const token = start();
  assert.ok(token, 'the operation did not start');
  const [name, status, answered, document] = await outcome;
  assert.equal(name, thing);
  assert.equal(answered, token);
  return [status, document];
}

// next gives the arguments of the next event, without the name of the thing.
async function next(client, event) {
  const [name, ...rest] = await once(client, event);
  assert.equal(name, thing);
  return rest;
}

const register = (client) =>
  new Promise((resolve, reject) =>
    client.register(thing, {}, (err, failed) => (err || failed ? reject(err || failed) : resolve())));

async function main() {
  const device = connect('js-device');
  const app = connect('js-app');
  for (const client of [device, app]) {
    client.on('error', (err) => { throw err; });
    client.on('timeout', (name, token) => { throw new Error(`timeout of ${name} ${token}`); });
  }
  await Promise.all([once(device, 'connect'), once(app, 'connect')]);
  await Promise.all([register(device), register(app)]);

  let [status, document] = await operation(device, () => device.get(thing));
  assert.equal(status, 'rejected');
  assert.equal(document.code, 404);

  let foreign = next(app, 'foreignStateChange');
  [status, document] = await operation(device, () =>
    device.update(thing, { state: { reported: { on: false, level: 1 } } }));
  assert.equal(status, 'accepted');
  assert.deepEqual(document.state, { reported: { on: false, level: 1 } });
  assert.equal(document.version, 1);
  const [kind, change] = await foreign;
  assert.equal(kind, 'update');
  assert.deepEqual(change.state, { reported: { on: false, level: 1 } });

  const delta = next(device, 'delta');
  [status] = await operation(app, () => app.update(thing, { state: { desired: { on: true, level: 1 } } }));
  assert.equal(status, 'accepted');
  const [difference] = await delta;
  assert.deepEqual(difference.state, { on: true });
  assert.equal(difference.version, 2);

  [status] = await operation(device, () => device.update(thing, { state: { reported: difference.state } }));
  assert.equal(status, 'accepted');
  [status, document] = await operation(app, () => app.get(thing));
  assert.equal(status, 'accepted');
  assert.deepEqual(document.state, { desired: { on: true, level: 1 }, reported: { on: true, level: 1 } });

  [status, document] = await operation(app, () => app.update(thing, { state: { desired: 1 } }));
  assert.equal(status, 'rejected');
  assert.equal(document.code, 400);

  foreign = next(device, 'foreignStateChange');
  [status, document] = await operation(app, () => app.delete(thing));
  assert.equal(status, 'accepted');
  assert.equal(document.version, 3);
  assert.equal((await foreign)[0], 'delete');

  await Promise.all([device, app].map((client) => new Promise((resolve) => client.end(false, resolve))));
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
