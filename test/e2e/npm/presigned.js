// Connects the device class of aws-iot-device-sdk over a WebSocket whose URL is presigned with an access key.
// Arguments: port, id of the key, secret, and whether it gets in: yes or no. NODE_EXTRA_CA_CERTS names the authority.
'use strict';

const { device } = require('aws-iot-device-sdk');

const [port, accessKeyId, secretKey, wanted] = process.argv.slice(2);
const client = device({
  protocol: 'wss', host: 'localhost', port: Number(port), clientId: 'presigned', accessKeyId, secretKey, region: 'us-east-1',
});

function end(getsIn) {
  if (getsIn !== (wanted === 'yes')) {
    console.error(`gets in: ${getsIn}, wanted: ${wanted}`);
    process.exit(1);
  }
  process.exit(0);
}

client.on('connect', () => client.publish('a', 'x', { qos: 1 }, (err) => end(!err)));
client.on('error', () => end(false));
client.on('close', () => end(false));
