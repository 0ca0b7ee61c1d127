package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
)

func TestOverlappingSubscriptions(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.subscribe(2, t.Name()+"/#")
		c.subscribe(1, t.Name()+"/+")
		c.publish(t.Name()+"/a", "x", 2)
		if got := c.wantMessage("x"); got.FixedHeader.Qos != 2 {
			t.Errorf("QoS = %d, want 2, the highest of both", got.FixedHeader.Qos)
		}
	})
}

func TestRefusedFilter(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, version byte) {
		s := start(t, broker.Options{
			Limits: broker.Limits{RefuseFilters: []string{"test/nosubscribe", "#"}, TopicLevels: 8},
			Guard:  allow(func(a auth.Action, name string) bool { return a != auth.Subscribe || name != "secret" }),
		})
		c := s.connect(t, version, t.Name())
		for _, tt := range []struct {
			filter      string
			old, recent byte
		}{
			{"test/nosubscribe", 0x80, 0x80},
			{"#", 0x80, 0x80},
			{"$share/g/#", 0x80, 0x80},
			{"test/#", 2, 2},
			{"secret", 0x80, 0x87},
			{"$share/g/secret", 0x80, 0x87},
			{"a/#/b", 0x80, 0x8F},
			{"a/b#", 0x80, 0x8F},
			{"a+/b", 0x80, 0x8F},
			{"", 0x80, 0x8F},
			{"$share/", 0x80, 0x8F},
			{"$share//a", 0x80, 0x8F},
			{"$share/g", 0x80, 0x8F},
			{"$share/g+/a", 0x80, 0x8F},
			{"a/b/c/d/e/f/g/h", 2, 2},
			{"a/b/c/d/e/f/g/h/i", 0x80, 0x97},
		} {
			want := tt.recent
			if version == v311 {
				want = tt.old
			}
			if got := c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: tt.filter, Qos: 2})[0]; got != want {
				t.Errorf("SUBACK for %q = %#x, want %#x", tt.filter, got, want)
			}
		}
		c.publish("secret", "x", 1)
		c.wantNone()
		c.publish("test/nosubscribe", "x", 1)
		c.wantMessages("x") // by test/#
	})
}

func TestManyFiltersInOnePacket(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		got := c.subscribeWith(packets.Properties{},
			packets.Subscription{Filter: t.Name() + "/0"},
			packets.Subscription{Filter: "a/#/b", Qos: 1},
			packets.Subscription{Filter: t.Name() + "/1", Qos: 1},
			packets.Subscription{Filter: t.Name() + "/2", Qos: 2},
			packets.Subscription{Filter: t.Name() + "/2", Qos: 0},
		)
		refused := byte(0x8F)
		if version == v311 {
			refused = 0x80
		}
		if want := []byte{0, refused, 1, 2, 0}; !slices.Equal(got, want) {
			t.Fatalf("SUBACK = %v, want %v", got, want)
		}
		for i, want := range []byte{0, 1, 0} { // the last one replaced the one before
			c.publish(fmt.Sprint(t.Name(), "/", i), "x", 2)
			if qos := c.receive().FixedHeader.Qos; qos != want {
				t.Errorf("message to filter %d has QoS %d, want %d", i, qos, want)
			}
		}
		back := c.unsubscribe(t.Name()+"/0", "never", t.Name()+"/1", t.Name()+"/2", t.Name()+"/2")
		if want := []byte{0, 0x11, 0, 0, 0x11}; version == v5 && !slices.Equal(back, want) {
			t.Errorf("UNSUBACK = %v, want %v", back, want)
		}
		for i := range 3 {
			c.publish(fmt.Sprint(t.Name(), "/", i), "x", 2)
		}
		c.wantNone()
	})
}

func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		other := s.connect(t, version, "other"+t.Name())
		c := s.connect(t, version, t.Name())
		a, b := t.Name()+"/a", t.Name()+"/b"
		c.subscribe(2, a, b, t.Name()+"/+/deep")
		c.unsubscribe(t.Name() + "/+") // only what is written the same is ended
		other.publish(a, "1", 1)
		c.wantMessages("1")

		c.hold = true
		other.publish(a, "2", 2)
		begun := c.receive()
		c.unsubscribe(a)
		other.publish(a, "3", 1)
		other.publish(b, "4", 1)
		c.hold = false
		c.acknowledge(begun) // what has begun is brought to its end
		pk, err := c.read(patience)
		for err == nil && pk.FixedHeader.Type == packets.Publish && string(pk.Payload) == "4" {
			c.inbox = append(c.inbox, pk)
			c.acknowledge(pk)
			pk, err = c.read(patience)
		}
		if err != nil || pk.FixedHeader.Type != packets.Pubrel || pk.PacketID != begun.PacketID {
			t.Fatalf("after PUBREC: packet type %d (%v), want PUBREL", pk.FixedHeader.Type, err)
		}
		c.send(ack(packets.Pubcomp, pk.PacketID))
		c.wantMessages("4")
	})
}

// TestMatching publishes to many topics and looks who gets them.
func TestMatching(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for _, tt := range []struct{ filter, matches, others string }{
		{"sport/tennis/player1/#", "sport/tennis/player1 sport/tennis/player1/ranking sport/tennis/player1/score/wimbledon", "sport/tennis sport/tennis/player2"},
		{"sport/tennis/+", "sport/tennis/player1 sport/tennis/", "sport/tennis sport/tennis/player1/ranking"},
		{"sport/+", "sport/", "sport"},
		{"+/+", "/finance a/b", "finance a/b/c"},
		{"/+", "/finance", "finance"},
		{"+", "finance", "/finance"},
		{"/", "/", "a a/"},
		{"+/tennis/#", "sport/tennis /tennis a/tennis/b", "tennis"},
		{"+/monitor/Clients", "x/monitor/Clients", "$me/monitor/Clients x/monitor/clients"},
		{"$me/#", "$me/monitor/Clients $me", "me"},
		{"$me/monitor/+", "$me/monitor/Clients", "$you/monitor/Clients"},
		{"#", "a /", "$me $me/a"},
		{"ACCOUNTS", "ACCOUNTS", "Accounts"},
		{"Å", "Å", "A\u030A"}, // the same letter, but not the same characters
		{"Accounts payable", "Accounts payable", "Accounts"},
		{"a\uFEFFb", "a\uFEFFb", "ab"},
	} {
		split := func(list string) []string {
			if strings.Contains(tt.filter, " ") {
				return []string{list}
			}
			return strings.Fields(list)
		}
		t.Run(tt.filter, func(t *testing.T) {
			t.Parallel()
			for _, prefix := range []string{"", "$share/g/"} {
				c := s.connect(t, v5, prefix+tt.filter)
				publisher := s.connect(t, v5, "publisher"+prefix+tt.filter)
				c.subscribe(0, prefix+tt.filter)
				mine := func(pk *packets.Packet) { // many tests share the topics
					pk.Properties.User = []packets.UserProperty{{Key: "test", Val: prefix + tt.filter}}
				}
				got := map[string]bool{}
				for _, topic := range slices.Concat(split(tt.matches), split(tt.others)) {
					publisher.publish(topic, "x", 1, mine)
				}
				c.ping()
				for _, pk := range c.inbox {
					if pk.Properties.User[0].Val == prefix+tt.filter {
						got[pk.TopicName] = true
					}
				}
				for _, topic := range split(tt.matches) {
					if !got[topic] {
						t.Errorf("subscription to %q did not get %q", prefix+tt.filter, topic)
					}
				}
				for _, topic := range split(tt.others) {
					if got[topic] {
						t.Errorf("subscription to %q got %q", prefix+tt.filter, topic)
					}
				}
			}
		})
	}
}

func TestTopicsThatBeginWithADollar(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.subscribe(1, "#", "+/"+t.Name(), "$share/g/#")
		c.publish("$TopicA/"+t.Name(), "x", 1)
		c.publish("$TopicA/"+t.Name(), "kept", 1, retained)
		c.subscribe(1, "$TopicA/"+t.Name())
		c.wantMessages("kept")
		c.unsubscribe("$TopicA/" + t.Name())
		c.subscribe(1, "#", "+/"+t.Name())
		for _, pk := range c.inbox {
			if strings.HasPrefix(pk.TopicName, "$") {
				t.Errorf("a wildcard got the retained message on %q", pk.TopicName)
			}
		}
	})
}

func TestNoLocal(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c, other := s.connect(t, v5, "c"), s.connect(t, v5, "other")
	c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: "a", Qos: 2, NoLocal: true})
	other.subscribe(2, "a")
	c.publish("a", "mine", 1)
	other.publish("a", "theirs", 1)
	c.wantMessages("theirs")
	other.wantMessages("mine", "theirs")

	const update = "$aws/things/lamp/shadow/update" // what asks for something is a message too
	c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: update, Qos: 1, NoLocal: true})
	c.publish(update, `{"state":{}}`, 1)
	other.publish(update, `{"state":null}`, 1)
	c.wantMessages(`{"state":null}`)
}

func TestRetainAsPublished(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.subscribe(1, t.Name()+"/0")
		c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: t.Name() + "/1", Qos: 1, RetainAsPublished: true})
		for i, want := range []bool{false, version == v5} {
			topic := fmt.Sprint(t.Name(), "/", i)
			c.publish(topic, "plain", 1)
			c.publish(topic, "retained", 1, retained)
			got := c.wantMessages("plain", "retained")
			if got[0].FixedHeader.Retain || got[1].FixedHeader.Retain != want {
				t.Errorf("RETAIN with Retain As Published %d = %t, %t, want false, %t", i, got[0].FixedHeader.Retain, got[1].FixedHeader.Retain, want)
			}
		}
	})
}

func TestRetainHandling(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, v5, "c")
	c.publish("a", "kept", 1, retained)
	subscribe := func(handling byte) {
		c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: "a", Qos: 1, RetainHandling: handling})
	}
	subscribe(2)
	c.wantNone()
	subscribe(1) // there is one already
	c.wantNone()
	for range 2 {
		subscribe(0)
		c.wantMessages("kept")
	}
	c.unsubscribe("a")
	subscribe(1)
	c.wantMessages("kept")
}

func TestSubscriptionIdentifiers(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c, other := s.connect(t, v5, "c", persistent), s.connect(t, v5, "other")
	identified := func(id int, filter string) {
		c.subscribeWith(packets.Properties{SubscriptionIdentifier: []int{id}}, packets.Subscription{Filter: filter, Qos: 1, Identifier: id})
	}
	identified(456789, "a/#")
	identified(2, "a/+")
	c.subscribe(1, "a/b")
	want := func(pk packets.Packet, ids ...int) {
		t.Helper()
		got := slices.Sorted(slices.Values(pk.Properties.SubscriptionIdentifier))
		if !slices.Equal(got, ids) {
			t.Errorf("subscription identifiers of %q = %v, want %v", pk.Payload, got, ids)
		}
	}
	other.publish("a/b", "both", 1)
	want(c.wantMessage("both"), 2, 456789)
	other.publish("a/b/c", "one", 0)
	want(c.wantMessage("one"), 456789)
	c.subscribe(1, "a/#") // without an identifier now
	other.publish("a/b/c", "none", 1)
	want(c.wantMessage("none"))
	c.leave()
	other.publish("a/x", "later", 1)
	c = s.connect(t, v5, "c", persistent)
	want(c.wantMessage("later"), 2)
	other.publish("kept", "kept", 1, retained)
	identified(7, "kept")
	want(c.wantMessage("kept"), 7)
}

func TestSharedSubscriptions(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	const n = 10
	publisher := s.connect(t, v5, "publisher")
	publisher.publish("a/kept", "kept", 1, retained)
	members := []*client{s.connect(t, v5, "m1"), s.connect(t, v5, "m2"), s.connect(t, v311, "m3")}
	for i, m := range members {
		m.subscribe(byte(i), "$share/group/a/#")
		m.wantNone() // no retained messages for these
	}
	all := s.connect(t, v5, "all")
	all.subscribe(0, "a/#", "$share/another/a/#")
	all.wantMessages("kept")
	for i := range n {
		publisher.publish("a/b", fmt.Sprint(i), 2)
	}
	var got []string
	for i, m := range members {
		m.ping()
		if len(m.inbox) == 0 {
			t.Errorf("member %d got nothing", i)
		}
		for _, pk := range m.inbox {
			if pk.FixedHeader.Qos != byte(i) {
				t.Errorf("member %d got QoS %d, want %d", i, pk.FixedHeader.Qos, i)
			}
		}
		got = append(got, payloads(m.inbox)...)
	}
	slices.Sort(got)
	if want := strings.Split("0 1 2 3 4 5 6 7 8 9", " "); !slices.Equal(got, want) {
		t.Errorf("the group got %q, want each message once", got)
	}
	if got := all.sorted(2 * n); len(slices.Compact(got)) != n {
		t.Errorf("the other group and the plain subscription got %q, want each message twice", got)
	}
	members[0].unsubscribe("$share/group/a/#")
	members[1].leave()
	publisher.publish("a/b", "last", 1)
	members[2].inbox = nil
	members[2].wantMessages("last")
	members[0].inbox = nil
	members[0].wantNone()
}

// TestMessageOfASharedSubscriptionStaysWithItsMember takes a QoS 2 message half way.
func TestMessageOfASharedSubscriptionStaysWithItsMember(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	publisher := s.connect(t, v5, "publisher")
	first := s.connect(t, v5, "first", persistent)
	first.hold = true
	first.subscribe(2, "$share/group/a")
	publisher.publish("a", "x", 2)
	pk := first.receive()
	second := s.connect(t, v5, "second")
	second.subscribe(2, "$share/group/a")
	first.vanish()
	second.wantNone()
	first = s.connect(t, v5, "first", persistent)
	if got := first.wantMessage("x"); got.PacketID != pk.PacketID || !got.FixedHeader.Dup {
		t.Errorf("again with packet identifier %d and DUP %t, want %d and DUP", got.PacketID, got.FixedHeader.Dup, pk.PacketID)
	}
}

func TestMessageThatAMemberRefusesGoesToNobodyElse(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	publisher := s.connect(t, v5, "publisher")
	first, second := s.connect(t, v5, "first"), s.connect(t, v5, "second")
	first.subscribe(2, "$share/group/a")
	first.hold = true
	for qos := byte(1); qos <= 2; qos++ {
		publisher.publish("a", "x", qos)
		if qos == 1 {
			second.subscribe(2, "$share/group/a")
		}
		refusal := ack(packets.Puback, first.receive().PacketID)
		if qos == 2 {
			refusal.FixedHeader.Type = packets.Pubrec
		}
		refusal.ReasonCode = packets.ErrUnspecifiedError.Code
		first.send(refusal)
		first.wantNone()
		second.wantNone()
		second.unsubscribe("$share/group/a")
	}
}

func TestReplacingASubscriptionLosesNothing(t *testing.T) {
	t.Parallel()
	const n = 300
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.subscribe(1, t.Name())
		publisher := s.connect(t, version, "publisher"+t.Name())
		var out []byte
		for i := range n {
			out = append(out, publisher.encode(message(t.Name(), fmt.Sprint(i), 1, uint16(i+1)))...)
		}
		publisher.write(out)
		for len(c.inbox) < n {
			c.subscribe(1, t.Name())
		}
		for i, pk := range c.inbox {
			if string(pk.Payload) != fmt.Sprint(i) {
				t.Fatalf("message %d is %q", i, pk.Payload)
			}
		}
	})
}
