// Drives every operation of @aws-sdk/client-iot-data-plane. Arguments: the
// endpoint URL, a thing, the id of a client that is connected.
'use strict';

const assert = require('node:assert/strict');
const aws = require('@aws-sdk/client-iot-data-plane');

const [endpoint, thingName, clientId] = process.argv.slice(2);

const client = new aws.IoTDataPlaneClient({
  endpoint,
  region: 'us-east-1',
  credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  maxAttempts: 1,
});

const send = (command, input) => client.send(new aws[`${command}Command`](input));
const parse = (payload) => JSON.parse(Buffer.from(payload).toString());
const encode = (value) => Buffer.from(JSON.stringify(value));

async function shadows() {
  await assert.rejects(send('GetThingShadow', { thingName }), { name: 'ResourceNotFoundException' });
  let document = parse((await send('UpdateThingShadow', {
    thingName, payload: encode({ state: { desired: { on: true } }, clientToken: 'js' }),
  })).payload);
  assert.equal(document.version, 1);
  assert.equal(document.clientToken, 'js');
  document = parse((await send('GetThingShadow', { thingName })).payload);
  assert.deepEqual(document.state, { desired: { on: true }, delta: { on: true } });

  await assert.rejects(
    send('UpdateThingShadow', { thingName, payload: encode({ state: {}, version: 9 }) }),
    { name: 'ConflictException' });
  await assert.rejects(
    send('UpdateThingShadow', { thingName, payload: Buffer.from('{') }),
    { name: 'InvalidRequestException' });
  await assert.rejects(
    send('UpdateThingShadow', { thingName, payload: encode({ state: { desired: { x: 'x'.repeat(9000) } } }) }),
    { name: 'RequestEntityTooLargeException' });
  await assert.rejects(
    send('UpdateThingShadow', { thingName, payload: Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]) }),
    { name: 'UnsupportedDocumentEncodingException' });

  for (const shadowName of ['a:b', 'b', 'c']) {
    await send('UpdateThingShadow', { thingName, shadowName, payload: encode({ state: { reported: { n: 1 } } }) });
  }
  const names = [];
  let nextToken;
  do {
    const page = await send('ListNamedShadowsForThing', { thingName, pageSize: 2, nextToken });
    assert.ok(page.results.length <= 2);
    names.push(...page.results);
    nextToken = page.nextToken;
  } while (nextToken);
  assert.deepEqual(names.sort(), ['a:b', 'b', 'c']);

  document = parse((await send('DeleteThingShadow', { thingName })).payload);
  assert.equal(document.version, 1);
  await assert.rejects(send('DeleteThingShadow', { thingName }), { name: 'ResourceNotFoundException' });
}

async function messages() {
  const topic = `js/${thingName}/ä b`;
  await assert.rejects(send('GetRetainedMessage', { topic }), { name: 'ResourceNotFoundException' });
  await send('Publish', {
    topic, qos: 1, retain: true, payload: Buffer.from('hello'),
    userProperties: JSON.stringify([{ from: 'js' }]), contentType: 'text/plain',
  });
  const message = await send('GetRetainedMessage', { topic });
  assert.equal(message.topic, topic);
  assert.equal(message.qos, 1);
  assert.equal(Buffer.from(message.payload).toString(), 'hello');
  assert.ok(Math.abs(message.lastModifiedTime - Date.now()) < 120_000);
  assert.deepEqual(JSON.parse(Buffer.from(message.userProperties).toString()), [{ from: 'js' }]);
  const list = await send('ListRetainedMessages', { maxResults: 200 });
  assert.deepEqual(list.retainedTopics.filter((t) => t.topic === topic).map((t) => t.payloadSize), [5]);
  await send('Publish', { topic, retain: true, payload: Buffer.alloc(0) });
  await assert.rejects(send('GetRetainedMessage', { topic }), { name: 'ResourceNotFoundException' });
}

async function connections() {
  const connection = await send('GetConnection', { clientId, includeSocketInformation: true });
  assert.equal(connection.connected, true);
  assert.equal(connection.sourceIp, '127.0.0.1');
  const list = await send('ListSubscriptions', { clientId });
  assert.deepEqual(list.subscriptions, [{ topicFilter: 'js/kept', qos: 1 }]);
  await send('DeleteConnection', { clientId });
  await assert.rejects(send('GetConnection', { clientId: 'nobody' }), { name: 'ResourceNotFoundException' });
}

async function main() {
  await shadows();
  await messages();
  await connections();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
