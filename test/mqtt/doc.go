// Package mqtt holds black-box tests of the broker: what MQTT 3.1.1 and MQTT 5
// ask of a server, packet by packet. The table of docs/mqtt.md names the test of
// each normative statement, and a test here checks that it names no others.
package mqtt
