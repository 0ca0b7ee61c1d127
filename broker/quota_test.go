package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/retained"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/internal/quota"
)

// bounded are the options of a server that bounds what its users use.
func bounded(l broker.Limits) broker.Options {
	return broker.Options{Authenticator: users{}, Guard: &denials{}, Quotas: &quota.Book{}, Limits: l}
}

func TestConnectionsOfAPrincipalAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, bounded(broker.Limits{Principal: quota.Limits{Connections: 2}}))
	first := s.connect(t, login("bob", "one"))
	s.connect(t, login("bob", "two"))
	s.connect(t, login("bob", "two")) // takes the place of the one before
	if _, ack := s.tryConnect(t, login("bob", "three")); ack.ReasonCode != 0x97 {
		t.Errorf("CONNACK of a third connection = %#x, want 0x97", ack.ReasonCode)
	}
	if n := s.Stats().Sessions; n != 2 {
		t.Errorf("%d sessions, want two", n)
	}
	s.connect(t, login("alice", "three"))
	first.leave()
	eventually(t, "a place is free", func() bool {
		_, ack := s.tryConnect(t, login("bob", "one"))
		return ack.ReasonCode == 0
	})
}

// Sessions count whether they are connected or not, over a restart too, and no more when they have ended.
func TestSessionsOfAPrincipalAreBounded(t *testing.T) {
	t.Parallel()
	o := bounded(broker.Limits{Principal: quota.Limits{Sessions: 2}})
	s := start(t, o)
	s.connect(t, login("bob", "one")).leave()
	s.connect(t, login("bob", "two"))
	wantRefused := func() {
		t.Helper()
		if _, ack := s.tryConnect(t, login("bob", "three")); ack.ReasonCode != 0x97 {
			t.Errorf("CONNACK of a third session = %#x, want 0x97", ack.ReasonCode)
		}
		if n := s.Stats().Sessions; n != 2 {
			t.Errorf("%d sessions, want two", n)
		}
	}
	wantRefused()
	o.Quotas = &quota.Book{} // a new process has counted nothing
	s = s.kill(t, o)
	wantRefused()
	one := s.again(t, login("bob", "one"), true)
	one.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
		Properties:  packets.Properties{SessionExpiryInterval: 0, SessionExpiryIntervalFlag: true},
	})
	eventually(t, "the place of a session that has ended is free", func() bool {
		_, ack := s.tryConnect(t, login("bob", "three"))
		return ack.ReasonCode == 0
	})
	s.connect(t, login("alice", "one"))
}

func TestSubscriptionsOfAPrincipalAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, bounded(broker.Limits{Principal: quota.Limits{Subscriptions: 3}}))
	one, two := s.connect(t, login("bob", "one")), s.connect(t, login("bob", "two"))
	one.subscribe(1, "a", "b")
	one.subscribe(1, "a") // is not one more
	wantSuback(t, two, []string{"no/levels/#/here", "c", "d", "c"}, 0x8F, 1, 0x97, 1)
	s.connect(t, login("alice", "three")).subscribe(1, "a", "b", "c")

	one.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 7, Filters: packets.Subscriptions{{Filter: "b"}}})
	one.want(packets.Unsuback)
	wantSuback(t, two, []string{"d", "e"}, 1, 0x97)

	one.leave()
	again := login("bob", "one")
	again.keep = false
	s.connect(t, again) // what the session had is free
	wantSuback(t, two, []string{"e", "f"}, 1, 0x97)
}

// wantSuback subscribes and looks at the reason codes.
func wantSuback(t *testing.T, c *raw, filters []string, want ...byte) {
	t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 65001}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: 1})
	}
	c.send(pk)
	if got := c.want(packets.Suback).ReasonCodes; !slices.Equal(got, want) {
		t.Errorf("SUBACK for %q = %#x, want %#x", filters, got, want)
	}
}

// What a principal publishes is as fast as he may be with all connections together, and nothing of it is lost.
func TestMessagesOfAPrincipalAreHeldBack(t *testing.T) {
	t.Parallel()
	for name, most := range map[string]quota.Limits{"messages": {Messages: 20}, "bytes": {Bytes: 20 * 1006}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, bounded(broker.Limits{Principal: most}))
			began := time.Now()
			var all sync.WaitGroup
			for i := range 3 {
				c := s.connect(t, login("bob", fmt.Sprint("bob", i)))
				all.Go(func() {
					for id := range 10 {
						c.send(message("a", string(make([]byte, 1000)), 1, uint16(id+1)))
					}
					for range 10 {
						c.want(packets.Puback)
					}
				})
			}
			alice := s.connect(t, login("alice", "alice"))
			alice.publish(message("a", "1", 1, 1))
			all.Wait()
			if took := time.Since(began); took < 400*time.Millisecond { // 20 at once, and 10 in half a second
				t.Errorf("30 messages took %v", took)
			}
		})
	}
}

// Who connects too often waits, and is refused when that would take longer than a CONNECT may.
func TestConnectsAreHeldBack(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]broker.Limits{
		"principal": {Principal: quota.Limits{Connects: 5}, ConnectTimeout: 500 * time.Millisecond},
		"client id": {ClientConnects: 5, ConnectTimeout: 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, bounded(l))
			var refused, accepted int
			began := time.Now()
			for refused == 0 && accepted < 100 {
				for _, ack := range s.connectAtOnce(t, 10) {
					switch ack.ReasonCode {
					case 0x9F:
						refused++
					case 0:
						accepted++
					default:
						t.Fatalf("CONNACK = %#x", ack.ReasonCode)
					}
				}
			}
			if refused == 0 {
				t.Errorf("%d connections in %v, none refused", accepted, time.Since(began))
			}
			if _, ack := s.tryConnect(t, login("alice", "alice")); ack.ReasonCode != 0 {
				t.Errorf("CONNACK of somebody else = %#x", ack.ReasonCode)
			}
			eventually(t, "its time has come", func() bool {
				_, ack := s.tryConnect(t, login("bob", "bob"))
				return ack.ReasonCode == 0
			})
		})
	}
}

// connectAtOnce has n clients with the same id connect, and returns the CONNACKs of those that others have left the time for one.
func (s *server) connectAtOnce(t *testing.T, n int) (acks []packets.Packet) {
	t.Helper()
	var (
		all sync.WaitGroup
		mu  sync.Mutex
	)
	for range n {
		c := s.dial(t, 5)
		pk := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5,
			Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "bob"},
		}
		as("bob", "secret")(&pk)
		c.send(pk)
		all.Go(func() {
			if ack, err := c.next(patience); err == nil && ack.FixedHeader.Type == packets.Connack {
				mu.Lock()
				defer mu.Unlock()
				acks = append(acks, ack)
			}
		})
	}
	all.Wait()
	return acks
}

// Retained messages are those of who has published them last, by whatever way, over a restart too.
func TestRetainedMessagesOfAPrincipalAreBounded(t *testing.T) {
	t.Parallel()
	o := bounded(broker.Limits{PrincipalRetained: 3, PrincipalRetainedBytes: 1000})
	s := start(t, o)
	bob := s.connect(t, login("bob", "bob"))
	retain := func(c *raw, topic, payload string, want byte) {
		t.Helper()
		pk := message(topic, payload, 1, 9)
		pk.FixedHeader.Retain = true
		c.send(pk)
		if code := c.want(packets.Puback).ReasonCode; code != want && (want != 0 || code >= 0x80) {
			t.Errorf("PUBACK for %q = %#x, want %#x", topic, code, want)
		}
	}
	retain(bob, "a", "1", 0)
	retain(bob, "b", "1", 0)
	will := login("bob", "leaving")
	s.connect(t, leavingWill(will, "c", 0)).conn.Close()
	eventually(t, "the will is retained", func() bool { return s.Stats().Retained == 3 })
	retain(bob, "d", "1", 0x97)
	retain(bob, "a", "2", 0) // in place of its own
	if err := s.PublishMessage(t.Context(), broker.Publication{Topic: "d", Payload: []byte("1"), Retain: true, Owner: "user:bob"}); err == nil {
		t.Error("one by HTTP is retained too")
	}

	o.Quotas = &quota.Book{}
	s = s.kill(t, o)
	bob = s.again(t, login("bob", "bob"), true)
	alice := s.connect(t, login("alice", "alice"))
	retain(bob, "d", "1", 0x97)
	retain(alice, "a", "3", 0) // is hers now
	retain(bob, "d", "1", 0)
	retain(bob, "c", "", 0) // deleting always works
	retain(bob, "e", string(make([]byte, 1000)), 0x97)
	retain(alice, "e", "1", 0)
	if m, ok := s.RetainedMessage("a"); !ok || string(m.Payload) != "3" {
		t.Errorf("retained message = %+v, %v", m, ok)
	}
}

// What waits for all sessions of a principal is bounded, over a restart too, and freed when it is taken: it leaves room for
// what waits for others.
func TestQueuesOfAPrincipalAreBounded(t *testing.T) {
	t.Parallel()
	const most = 16 << 10
	o := bounded(broker.Limits{QueueTotal: 64 << 10, PrincipalQueueBytes: most})
	s := start(t, o)
	for id, user := range map[string]string{"one": "bob", "two": "bob", "three": "alice"} {
		c := s.connect(t, login(user, id))
		c.subscribe(1, "to/"+id)
		c.leave()
	}
	fill := func(id string) {
		t.Helper()
		p := s.connect(t, login("eve", "pub"))
		for n := range 12 {
			p.publish(kilobyte("to/"+id, n))
		}
	}
	fill("one")
	fill("two")
	if held := s.Stats().HeldBytes; held > most || held < most-2<<10 {
		t.Errorf("%d bytes wait for bob, want close to %d", held, most)
	}
	o.Quotas = &quota.Book{}
	s = s.kill(t, o)
	fill("two")
	fill("three")
	if held := s.Stats().HeldBytes; held < most+10<<10 || held > most+14<<10 {
		t.Errorf("%d bytes wait for bob and alice, want %d and 12 messages", held, most)
	}
	one := s.again(t, login("bob", "one"), true)
	for range 12 {
		one.acknowledge(one.wantMessage("to/one"))
	}
	eventually(t, "alice's are left", func() bool { return s.Stats().HeldBytes < most+4<<10 })
	before := s.Stats().DroppedQueueFull
	p := s.connect(t, login("eve", "pub"))
	for n := range 10 {
		p.publish(kilobyte("to/two", n))
	}
	if dropped := s.Stats().DroppedQueueFull - before; dropped != 0 {
		t.Errorf("%d messages are dropped although there is room again", dropped)
	}
}

func TestStoredRetainedMessages(t *testing.T) {
	t.Parallel()
	for _, owner := range []string{"", "user:bob", strings.Repeat("x", 200)} {
		m := retained.Message{Message: wire.NewMessage(wire.Message{Topic: "a", Payload: []byte("1"), QoS: 1, Retain: true}), Modified: 1 << 40, Owner: owner}
		got, err := broker.Retained(m)
		if err != nil || got.Owner != m.Owner || got.Modified != m.Modified || got.Topic != m.Topic || string(got.Payload) != "1" {
			t.Errorf("a message of %.10q is %+v after it was stored, %v", owner, got, err)
		}
	}
}

// FuzzStored: whatever the store has, it is read or refused.
func FuzzStored(f *testing.F) {
	f.Add([]byte{2, 1, 8, 'u', 's', 'e', 'r', ':', 'b', 'o', 'b', 1, 0})
	f.Add([]byte{1, 1, 1, 1, 1})
	f.Add([]byte("\x02" + `{"Principal":{"ID":"user:bob"},"Link":null}`))
	f.Fuzz(func(_ *testing.T, value []byte) { broker.ParseStored("c", value) })
}
