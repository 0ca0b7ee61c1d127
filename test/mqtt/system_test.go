package mqtt_test

import (
	"testing"
	"time"

	"github.com/umbra-iot/umbra/broker"
)

func TestSystemTopics(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{SystemInterval: 20 * time.Millisecond}, Version: "1.2.3"})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.subscribe(1, "$SYS/broker/version")
		if pk := c.wantMessage("umbra 1.2.3"); !pk.FixedHeader.Retain {
			t.Error("RETAIN = 0 in the answer to a subscription, want 1")
		}
		c.unsubscribe("$SYS/broker/version")
		c.subscribe(0, "#", "+/broker/version")
		c.wantNone()

		c.subscribe(0, "$SYS/broker/publish/messages/received")
		before := c.receive()
		c.publish("$SYS/broker/publish/messages/received", "forged", 0)
		after := c.receive() // the attempt counts
		if string(after.Payload) == "forged" || string(after.Payload) == string(before.Payload) || after.FixedHeader.Retain {
			t.Errorf("messages received = %q after %q with RETAIN %t, want another number and no RETAIN", after.Payload, before.Payload, after.FixedHeader.Retain)
		}
	})
}

func TestSystemTopicsAreAllThere(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{SystemInterval: time.Hour}})
	c := s.connect(t, v5, "c")
	c.subscribe(0, "$SYS/#")
	c.ping()
	got := map[string]string{}
	for _, pk := range c.inbox {
		got[pk.TopicName] = string(pk.Payload)
	}
	for _, name := range []string{
		"uptime", "version", "clients/connected", "clients/disconnected", "clients/total", "subscriptions/count", "retained messages/count",
		"messages/received", "messages/sent", "publish/messages/received", "publish/messages/sent", "publish/messages/dropped",
		"bytes/received", "bytes/sent",
	} {
		if got["$SYS/broker/"+name] == "" {
			t.Errorf("$SYS/broker/%s is missing", name)
		}
	}
	if got["$SYS/broker/uptime"] != "0 seconds" {
		t.Errorf("uptime = %q, want %q", got["$SYS/broker/uptime"], "0 seconds")
	}
}

func TestThereAreNoSystemTopicsUnlessAskedFor(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, v5, "c")
	c.subscribe(0, "$SYS/#")
	c.wantNone()
}
