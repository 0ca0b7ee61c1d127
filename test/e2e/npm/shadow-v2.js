// Drives the shadow client of aws-iot-device-sdk-v2, in MQTT 5 and in MQTT 3.1.1.
// Arguments: host, port, file names of CA, certificate and key, thing.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { iot, iotshadow, mqtt, mqtt5 } = require('aws-iot-device-sdk-v2');

const [host, port, caPath, certPath, keyPath, thing] = process.argv.slice(2);

// exercise takes a shadow through its life.
async function exercise(client) {
  await assert.rejects(client.getShadow({ thingName: thing }), (err) => err.modeledError.code === 404);
  const deltas = client.createShadowDeltaUpdatedStream({ thingName: thing });
  const subscribed = once(deltas, 'subscriptionStatus');
  const delta = once(deltas, 'incomingPublish');
  deltas.open();
  await subscribed;
  let answer = await client.updateShadow({ thingName: thing, state: { desired: { on: true }, reported: { on: false } } });
  const { version } = answer;
  const [event] = await delta;
  assert.deepEqual(event.message.state, { on: true });
  answer = await client.updateShadow({ thingName: thing, state: { reported: { on: true } } });
  assert.deepEqual(answer.state, { reported: { on: true } });
  answer = await client.getShadow({ thingName: thing });
  assert.deepEqual(answer.state, { desired: { on: true }, reported: { on: true } });
  answer = await client.deleteShadow({ thingName: thing });
  assert.equal(answer.version, version + 1);
  deltas.close();
}

const limits = { maxRequestResponseSubscriptions: 6, maxStreamingSubscriptions: 2, operationTimeoutInSeconds: 30 };

async function inMQTT5() {
  const builder = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromPath(host, certPath, keyPath);
  builder.withCertificateAuthorityFromPath(undefined, caPath).withPort(Number(port));
  builder.withConnectProperties({ clientId: thing, keepAliveIntervalSeconds: 30 });
  const client = new mqtt5.Mqtt5Client(builder.build());
  client.on('error', (err) => { throw err; });
  const connected = once(client, 'connectionSuccess');
  client.start();
  await connected;
  const shadows = iotshadow.IotShadowClientv2.newFromMqtt5(client, limits);
  await exercise(shadows);
  shadows.close();
  const stopped = once(client, 'stopped');
  client.stop();
  await stopped;
  client.close();
}

async function inMQTT311() {
  const builder = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder_from_path(certPath, keyPath);
  builder.with_certificate_authority_from_path(undefined, caPath).with_endpoint(host).with_port(Number(port));
  builder.with_client_id(thing).with_clean_session(true);
  const connection = new mqtt.MqttClient().new_connection(builder.build());
  await connection.connect();
  const shadows = iotshadow.IotShadowClientv2.newFromMqtt311(connection, limits);
  await exercise(shadows);
  shadows.close();
  await connection.disconnect();
}

// The SDK keeps the process alive, so it is told to end.
inMQTT5().then(inMQTT311).then(() => process.exit(0), (err) => {
  console.error(err);
  process.exit(1);
});
