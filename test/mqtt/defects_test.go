package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
)

// The tests of this file are each named after what a user would see if a defect
// were there that an MQTT server is known to have had.

// TestSubscribeIsNeverRefusedForItsPacketIdentifier uses those of messages that the client has not acknowledged.
func TestSubscribeIsNeverRefusedForItsPacketIdentifier(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		other := s.connect(t, version, "other"+t.Name())
		c := s.connect(t, version, t.Name())
		c.subscribe(2, t.Name())
		c.hold = true
		want := []string{"1", "2", "3", "4", "5", "6"}
		for i, payload := range want {
			other.publish(t.Name(), payload, byte(1+i%2))
		}
		c.wantMessages(want...)
		for id := range uint16(6) { // all of them are taken in the other direction
			c.nextID = id
			c.subscribe(1, "another")
			c.nextID = id
			c.unsubscribe("another")
			c.nextID = id
			c.publish("another", "x", byte(1+id%2))
		}
	})
}

// TestDeliveryNeverStalls has several publishers and a client with a small window.
func TestDeliveryNeverStalls(t *testing.T) {
	t.Parallel()
	const publishers, each = 4, 300
	s := start(t, broker.Options{})
	for _, window := range []uint16{1, 3, 20, 65535} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			t.Parallel()
			c := s.connect(t, v5, t.Name(), receiveMaximum(window))
			c.subscribe(2, t.Name())
			var running sync.WaitGroup
			for p := range publishers {
				publisher := s.connect(t, v5, fmt.Sprint(t.Name(), p))
				running.Go(func() {
					for i := range each {
						publisher.publish(t.Name(), fmt.Sprint(p, "-", i), byte(1+i%2))
					}
				})
			}
			got := c.sorted(publishers * each)
			running.Wait()
			if n := len(slices.Compact(got)); n != publishers*each {
				t.Errorf("got %d different messages, want %d", n, publishers*each)
			}
			c.wantNone()
		})
	}
}

// TestSlowSubscriberGetsEverythingThatWasAcknowledged reads only after the publisher is done.
func TestSlowSubscriberGetsEverythingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	const n = 3000
	s := start(t, broker.Options{Limits: broker.Limits{OutgoingBytes: 4 << 10}})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.subscribe(1, t.Name())
		publisher := s.connect(t, version, "publisher"+t.Name())
		for i := range n {
			publisher.publish(t.Name(), fmt.Sprint(i, strings.Repeat(" ", 1000)), 1)
		}
		for i := range n {
			if got := strings.TrimSpace(string(c.receive().Payload)); got != fmt.Sprint(i) {
				t.Fatalf("message %d is %q", i, got)
			}
		}
		c.wantNone()
	})
}

// TestClientReconnectsWhileItsOldConnectionIsStuck leaves a connection that reads nothing and floods it.
func TestClientReconnectsWhileItsOldConnectionIsStuck(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		stuck := s.connect(t, version, t.Name(), persistent)
		stuck.subscribe(1, t.Name())
		publisher := s.connect(t, version, "publisher"+t.Name())
		for range 100 {
			publisher.publish(t.Name(), strings.Repeat("x", 100<<10), 1)
		}
		begin := time.Now()
		c := s.connect(t, version, t.Name(), persistent)
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("the new connection had to wait %v", d)
		}
		for range 100 {
			c.receive()
		}
	})
}

// TestFullQueueDropsTheOldestMessagesAndCountsThem stays away too long.
func TestFullQueueDropsTheOldestMessagesAndCountsThem(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{QueueMessages: 3}})
	c := s.connect(t, v5, "c", persistent)
	c.subscribe(1, "a")
	c.leave()
	publisher := s.connect(t, v5, "publisher")
	for i := range 5 {
		publisher.publish("a", fmt.Sprint(i), 1)
	}
	s.connect(t, v5, "c", persistent).wantMessages("2", "3", "4")
	if n := s.Stats().DroppedQueueFull; n != 2 {
		t.Errorf("dropped messages that were counted = %d, want 2", n)
	}
}

// TestRefusalsComeBeforeAnyDelivery fills the queue of a session that ends with its connection, and then that of one
// that outlives it.
func TestRefusalsComeBeforeAnyDelivery(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{QueueMessages: 3, QueueRefuses: true}})
	for _, qos := range []byte{1, 2} {
		topic := fmt.Sprint("t", qos)
		slow, good := s.connect(t, v5, "slow"+topic, receiveMaximum(1)), s.connect(t, v5, "good"+topic)
		slow.hold = true
		slow.subscribe(2, topic)
		good.subscribe(2, topic)
		publisher := s.connect(t, v5, "publisher"+topic)
		for i := range 8 {
			if code := publisher.publishWith(topic, fmt.Sprint(i), qos); code != 0 {
				t.Errorf("message %d of QoS %d is answered with %#x", i, qos, code)
			}
			good.wantMessage(fmt.Sprint(i))
		}
		away := s.connect(t, v5, "away"+topic, persistent)
		away.subscribe(2, topic)
		away.leave()
		for i := range 5 {
			want := byte(0)
			if i >= 3 {
				want = 0x97
			}
			if code := publisher.publishWith(topic, fmt.Sprint(i), qos); code != want {
				t.Errorf("message %d of QoS %d for a full session is answered with %#x, want %#x", i, qos, code, want)
			}
			if want == 0 {
				good.wantMessage(fmt.Sprint(i))
			}
		}
		good.wantNone()
	}
}

// TestSharedMessagesAreKeptByWhoKeepsThem has a member away that takes QoS 0 only.
func TestSharedMessagesAreKeptByWhoKeepsThem(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for qos, id := range []string{"forgets", "keeps"} {
		c := s.connect(t, v5, id, persistent)
		c.subscribe(byte(qos), "$share/g/a")
		c.leave()
	}
	publisher := s.connect(t, v5, "publisher")
	for i := range 4 {
		publisher.publish("a", fmt.Sprint(i), 1)
	}
	s.connect(t, v5, "keeps", persistent).wantMessages("0", "1", "2", "3")
}

// TestSmallestOutbox sends more than fits into it.
func TestSmallestOutbox(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{OutgoingBytes: 1}})
	c := s.connect(t, v5, "c")
	c.subscribe(1, "#")
	publisher := s.connect(t, v5, "publisher")
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i, strings.Repeat("x", 100_000))) // more than the system takes at once
		publisher.publish("a", want[i], 1)
	}
	c.wantMessages(want...)
}

// TestConnectionsThatReplaceEachOtherLeaveNoGhost looks whether the last connection is the one that gets messages.
func TestConnectionsThatReplaceEachOtherLeaveNoGhost(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		publisher := s.connect(t, version, "publisher"+t.Name())
		for i := range 50 {
			c := s.connect(t, version, t.Name())
			c.hold = true
			c.subscribe(1, t.Name())
			publisher.publish(t.Name(), fmt.Sprint(i), 1)
			c.wantMessages(fmt.Sprint(i))
		}
		if c, ok := s.Connection(t.Name()); !ok || !c.Connected {
			t.Errorf("Connection(%q) = %+v, %t, want connected", t.Name(), c, ok)
		}
	})
	t.Cleanup(func() { // after the subtests, whose connections end with them
		eventually(t, "no connection is left", func() bool { return s.Stats().Connections == 0 })
	})
}

// TestMessageTooBigForTheClientDoesNotLockItOut queues one between two small ones.
func TestMessageTooBigForTheClientDoesNotLockItOut(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, v5, "c", persistent)
	c.subscribe(2, "a")
	c.hold = true
	c.publish("a", strings.Repeat("unacknowledged", 10), 1)
	c.receive()
	c.leave()
	publisher := s.connect(t, v5, "publisher")
	publisher.publish("a", "first", 1)
	publisher.publish("a", strings.Repeat("x", 100), 2)
	publisher.publish("a", "last", 2)
	for range 2 {
		c = s.connect(t, v5, "c", persistent, maximumPacketSize(50))
		c.hold = true
		if got := payloads([]packets.Packet{c.receive(), c.receive()}); !slices.Equal(got, []string{"first", "last"}) {
			t.Errorf("got %q, want first, last", got)
		}
		c.vanish()
	}
	c = s.connect(t, v5, "c", persistent, maximumPacketSize(50))
	c.wantMessages("first", "last")
	c.leave()
	c = s.connect(t, v5, "c", persistent)
	c.wantNone()
}

// TestRedeliveredMessageHasItsTopic was sent by its alias in the connection before.
func TestRedeliveredMessageHasItsTopic(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	aliases := func(pk *packets.Packet) { pk.Properties.TopicAliasMaximum = 10 }
	c := s.connect(t, v5, "c", persistent, aliases)
	c.subscribe(1, "topic")
	c.hold = true
	publisher := s.connect(t, v5, "publisher")
	publisher.publish("topic", "1", 1, aliased(1))
	publisher.publish("", "2", 1, aliased(1))
	c.wantMessages("1", "2")
	c.vanish()
	c = s.connect(t, v5, "c", persistent)
	for _, pk := range c.wantMessages("1", "2") {
		if pk.TopicName != "topic" || pk.Properties.TopicAliasFlag {
			t.Errorf("message %q again on %q with alias %d, want its topic and no alias", pk.Payload, pk.TopicName, pk.Properties.TopicAlias)
		}
	}
}

// TestExpiredSessionsLeaveNothingToTheNextClient connects with the identifier of one.
func TestExpiredSessionsLeaveNothingToTheNextClient(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, v5, "c", expiring(1))
	c.subscribe(1, "a")
	c.leave()
	publisher := s.connect(t, v5, "publisher")
	publisher.publish("a", "old", 1)
	eventually(t, "the session expires", func() bool { return s.Stats().Sessions == 1 })
	if n := s.Stats().Subscriptions; n != 0 {
		t.Errorf("subscriptions = %d, want 0", n)
	}
	c = s.connect(t, v5, "c", persistent)
	publisher.publish("a", "new", 1)
	c.wantNone()
}

// TestClientsThatDoNotWaitForTheirConnackLeaveNothing hang up at once.
func TestClientsThatDoNotWaitForTheirConnackLeaveNothing(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for i := range 100 {
		c := s.dial(t, v5)
		c.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Connect},
			Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: fmt.Sprint(i), Clean: true},
		})
		c.vanish()
	}
	eventually(t, "nobody is left", func() bool {
		n := s.Stats()
		return n.Connections == 0 && n.Sessions == 0
	})
}

// TestRefusedSubscriptionStaysRefused comes back to its session.
func TestRefusedSubscriptionStaysRefused(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Guard: allow(func(a auth.Action, name string) bool { return a != auth.Subscribe || name != "secret" })})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name(), persistent)
		if code := c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: "secret", Qos: 1})[0]; code < 0x80 {
			t.Fatalf("SUBACK = %#x, want a refusal", code)
		}
		c.leave()
		c = s.connect(t, version, t.Name(), persistent)
		c.publish("secret", "x", 1)
		c.wantNone()
	})
}

// TestMultiLevelWildcardMatchesItsParent in all kinds of delivery.
func TestMultiLevelWildcardMatchesItsParent(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.publish(t.Name(), "kept", 1, retained)
		c.subscribe(1, t.Name()+"/#")
		c.wantMessages("kept")
		c.publish(t.Name(), "live", 1)
		c.wantMessages("live")
		c.unsubscribe(t.Name() + "/#")
		c.subscribe(1, "$share/g/"+t.Name()+"/#")
		c.publish(t.Name(), "shared", 1)
		c.wantMessages("shared")
	})
}

// TestKeepAliveOfAnyLengthConnects includes those that overflow when multiplied by 1.5.
func TestKeepAliveOfAnyLengthConnects(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		for _, seconds := range []uint16{0, 1, 43690, 43691, 65535} {
			s.connect(t, version, t.Name(), func(pk *packets.Packet) { pk.Connect.Keepalive = seconds }).ping()
		}
	})
}

// TestClientMayCallItselfInline is about a name that a server may keep for itself.
func TestClientMayCallItselfInline(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for _, version := range []byte{v311, v5} {
		c := s.connect(t, version, "inline")
		c.subscribe(1, "a")
		c.publish("a", "x", 1)
		c.wantMessages("x")
		c.leave()
	}
}
