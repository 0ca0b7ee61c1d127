// Package e2e drives umbrad from outside, as its users do: with the AWS CLI and
// the AWS SDKs, with the mosquitto programs and paho clients, through failures
// of Redis and of umbrad itself, with several nodes, and with bad input.
//
// The package has only tests. A test whose tool is not installed is skipped,
// and fails when the environment variable CI is true: a run in CI has tested
// everything.
package e2e
