// Package conformance runs the conformance cases of the device shadow protocol
// against a real umbrad: over MQTT 3.1.1, MQTT 5 and REST, on every store. All
// that umbrad says in these runs is validated against the schemas as well.
//
// The package has only tests.
package conformance
