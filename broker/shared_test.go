package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

// pool is a shared subscription.
const pool = "$share/pool/t/#"

// publishNumbers publishes n messages, of QoS 2 and 1 in turn.
func (s *server) publishNumbers(t *testing.T, n int) {
	t.Helper()
	p := s.connect(t, connectOptions{id: "pub"})
	for i := range n {
		p.publish(message("t/a", fmt.Sprint(i), byte(2-i%2), uint16(i+1)))
	}
	p.leave()
}

// wantAll reads the messages 0 to n-1, each once, in any order.
func (c *raw) wantAll(n int) {
	c.t.Helper()
	got := make([]string, n)
	want := make([]string, n)
	for i := range n {
		got[i], want[i] = string(c.wantMessage("t/a").Payload), fmt.Sprint(i)
	}
	c.wantQuiet()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.t.Errorf("messages %q, want %q", got, want)
	}
}

// TestSharedMessagesOfASessionThatEndsGoToAnotherMember lets messages wait for the only member, who then loses its
// session in one way or another while there is a second member.
func TestSharedMessagesOfASessionThatEndsGoToAnotherMember(t *testing.T) {
	t.Parallel()
	const n = 150 // more than are read from the store at a time
	for name, end := range map[string]func(t *testing.T, s *server, now *clock){
		"clean start": func(t *testing.T, s *server, _ *clock) {
			t.Helper()
			s.again(t, connectOptions{id: "first"}, false).wantQuiet()
		},
		"DISCONNECT": func(t *testing.T, s *server, _ *clock) {
			t.Helper()
			c := s.again(t, connectOptions{id: "first", keep: true, expiry: hour, edit: func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 1 }}, true)
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}
			pk.Properties.SessionExpiryIntervalFlag = true
			c.want(packets.Publish) // of QoS 2
			c.send(ackOf(packets.Pubrec, 1), ackOf(packets.Pubcomp, 1), pk)
			c.conn.AwaitEnd()
		},
		"expiry": func(t *testing.T, s *server, now *clock) {
			t.Helper()
			now.advance(2 * hour * time.Second)
			s.again(t, connectOptions{id: "first", keep: true}, false).wantQuiet()
		},
		"expiry while the server is down": func(*testing.T, *server, *clock) {},
	} {
		for memory, limits := range map[string]broker.Limits{"in memory": {}, "in the store": tight.Limits} {
			t.Run(name+", "+memory, func(t *testing.T) {
				t.Parallel()
				now := newClock()
				o := broker.Options{Limits: limits, Now: now.Now}
				s := start(t, o)
				first := s.connect(t, device("first"))
				first.subscribe(2, pool)
				first.leave()
				s.publishNumbers(t, n)
				if limits.QueueMemory != 0 {
					eventually(t, "nothing in memory", func() bool { return s.Stats().QueuedBytes == 0 })
				}
				second := s.connect(t, connectOptions{id: "second", keep: true, expiry: 4 * hour})
				second.subscribe(2, pool)
				if strings.Contains(name, "down") {
					now.advance(2 * hour * time.Second)
					s = s.kill(t, o)
					second = s.again(t, connectOptions{id: "second", keep: true, expiry: 4 * hour}, true)
				}
				end(t, s, now)
				if name == "DISCONNECT" { // that one has taken one message, of QoS 2
					for range n - 1 {
						second.wantMessage("t/a")
					}
					second.wantQuiet()
					return
				}
				second.wantAll(n)
			})
		}
	}
}

// TestSharedMessagesMoveDurably ends a session, and then kills the server.
func TestSharedMessagesMoveDurably(t *testing.T) {
	t.Parallel()
	const n = 150
	for memory, o := range map[string]broker.Options{"in memory": {}, "in the store": tight} {
		t.Run(memory, func(t *testing.T) {
			t.Parallel()
			s := start(t, o)
			for _, id := range []string{"first", "second"} {
				c := s.connect(t, device(id))
				if id == "first" {
					c.subscribe(2, pool)
					c.leave()
					s.publishNumbers(t, n)
					continue
				}
				c.subscribe(2, pool)
				c.leave()
			}
			if o.Limits.QueueMemory != 0 {
				eventually(t, "nothing in memory", func() bool { return s.Stats().QueuedBytes == 0 })
			}
			s.again(t, connectOptions{id: "first"}, false).leave()
			s.settled(t)
			s = s.kill(t, o)
			s.again(t, device("second"), true).wantAll(n)
			for _, key := range s.items(t, 1) {
				if strings.HasPrefix(key, "first") {
					t.Errorf("%s is in the store, want nothing of a session that is over", key)
				}
			}
		})
	}
}

// TestSharedMessagesOfConnectionsThatEnd has members with clean sessions, which end with their connections.
func TestSharedMessagesOfConnectionsThatEnd(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	first := s.connect(t, connectOptions{id: "first"})
	first.subscribe(2, pool)
	s.publishNumbers(t, 4)
	for range 4 {
		first.want(packets.Publish) // and no acknowledgement
	}
	second := s.connect(t, connectOptions{id: "second"})
	second.subscribe(2, pool)
	_ = first.conn.Close()
	for _, want := range []string{"1", "3"} { // not those of QoS 2, which first has begun to get [MQTT-4.8.2-5]
		if pk := second.wantMessage("t/a"); string(pk.Payload) != want || pk.FixedHeader.Dup || pk.FixedHeader.Qos != 1 {
			t.Errorf("message %s of QoS %d, DUP %t, want %s of QoS 1 without DUP", pk.Payload, pk.FixedHeader.Qos, pk.FixedHeader.Dup, want)
		}
	}
	second.wantQuiet()
}

// TestSharedMessagesAreNotForgottenWhileTheStoreFails has a clean start fail for what it cannot read, and succeed later.
func TestSharedMessagesAreNotForgottenWhileTheStoreFails(t *testing.T) {
	t.Parallel()
	const n = 10
	s := start(t, tight)
	first := s.connect(t, device("first"))
	first.subscribe(2, pool)
	first.leave()
	s.publishNumbers(t, n)
	eventually(t, "nothing in memory", func() bool { return s.Stats().QueuedBytes == 0 })
	second := s.connect(t, device("second"))
	second.subscribe(2, pool)
	s.store.FailGet(1, errors.New("no answer"))
	if _, ack := s.tryConnect(t, connectOptions{id: "first"}); ack.ReasonCode != packets.ErrServerUnavailable.Code {
		t.Errorf("CONNACK while the store fails = %#x, want %#x", ack.ReasonCode, packets.ErrServerUnavailable.Code)
	}
	second.wantAll(n)
	s.again(t, connectOptions{id: "first"}, false).leave()
}

// TestSessionThatBecomesShortLivedGetsWhatIsInTheStore takes up a session with messages that are only in the store, without
// an expiry interval.
func TestSessionThatBecomesShortLivedGetsWhatIsInTheStore(t *testing.T) {
	t.Parallel()
	const n = 100
	s := start(t, tight)
	s.queueFor(t, "sub", n)
	c := s.again(t, connectOptions{id: "sub", keep: true}, true)
	c.wantNumbers(0, n)
	c.leave()
	s.settled(t)
	if left := s.items(t, 1); len(left) > 0 {
		t.Errorf("%q are in the store, want nothing of a session that is over", left)
	}
}
