package mqtt_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

func TestAWSProfileIsToldInConnack(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Profile: broker.AWS()})
	p := s.connect(t, v5, "c").connack.Properties
	if !p.MaximumQosFlag || p.MaximumQos != 1 || !p.SubIDAvailableFlag || p.SubIDAvailable != 0 {
		t.Errorf("CONNACK properties = %+v, want Maximum QoS 1 and Subscription Identifier Available 0", p)
	}
	for asked, want := range map[uint16]uint16{0: 1200, 1: 30, 29: 30, 30: 30, 1200: 1200, 1201: 1200} {
		p := s.connect(t, v5, "c", func(pk *packets.Packet) { pk.Connect.Keepalive = asked }).connack.Properties
		if got := p.ServerKeepAlive; p.ServerKeepAliveFlag != (asked != want) || p.ServerKeepAliveFlag && got != want {
			t.Errorf("Server Keep Alive for a client that asks %d s = %d (present: %t), want %d", asked, got, p.ServerKeepAliveFlag, want)
		}
	}
	if c, _ := s.Connection("c"); c.KeepAlive == 0 {
		t.Error("keep-alive of a client that asks for none = 0")
	}
	s.connect(t, v311, "old")
	if c, _ := s.Connection("old"); c.KeepAlive != 1200*time.Second {
		t.Errorf("keep-alive of a client of MQTT 3.1.1 that asks for none = %v, want 20 min", c.KeepAlive)
	}
}

func TestAWSProfileHasNoQoS2(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Profile: broker.AWS()})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		if got := c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: "a", Qos: 2})[0]; got != 1 {
			t.Errorf("SUBACK for QoS 2 = %#x, want 1", got)
		}
		c.send(message("a", "x", 2, 1))
		c.wantEnd(0x9B)
		c = s.tryConnect(t, version, t.Name(), willOn("a", "x"), func(pk *packets.Packet) { pk.Connect.WillQos = 2 })
		if got := c.connack.ReasonCode; version == v5 && got != 0x9B || got == 0 {
			t.Errorf("CONNACK for a will of QoS 2 = %#x, want a refusal", got)
		}
	})
}

func TestAWSProfileHasNoSubscriptionIdentifiers(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Profile: broker.AWS()})
	c := s.connect(t, v5, "c")
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
		Properties: packets.Properties{SubscriptionIdentifier: []int{1}}, Filters: packets.Subscriptions{{Filter: "a", Identifier: 1}},
	})
	c.wantEnd(0xA1)
}

func TestAWSProfileMatchesChildrenOnly(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Profile: broker.AWS()})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.publish(t.Name()+"/kept", "kept", 1, retained)
		c.subscribe(1, t.Name()+"/#", t.Name()+"/+/#") // and no retained messages for wildcards
		c.publish(t.Name(), "parent", 1)
		c.publish(t.Name()+"/a", "child", 1)
		c.publish(t.Name()+"/", "empty", 1)
		c.wantMessages("child", "empty")
		c.subscribe(1, t.Name()+"/kept")
		c.wantMessages("kept")
	})
}

func TestAWSProfileBoundsSubscriptions(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Profile: broker.AWS()})
	c := s.connect(t, v5, "c")
	var eight []packets.Subscription
	for i := range 9 {
		eight = append(eight, packets.Subscription{Filter: fmt.Sprint("first/", i)})
	}
	for i, code := range c.subscribeWith(packets.Properties{}, eight...) {
		if want := byte(i / 8 * 0x97); code != want {
			t.Errorf("SUBACK for filter %d of a packet = %#x, want %#x", i, code, want)
		}
	}
	for i := 8; i < 50; i++ {
		c.subscribe(0, fmt.Sprint(i))
	}
	for filter, want := range map[string]byte{"one too many": 0x97, "49": 0} {
		if got := c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: filter})[0]; got != want {
			t.Errorf("SUBACK for %q in a session with 50 subscriptions = %#x, want %#x", filter, got, want)
		}
	}
}

func TestAWSProfileBoundsTopics(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Profile: broker.AWS()})
	c := s.connect(t, v5, "c")
	for topic, want := range map[string]byte{
		strings.Repeat("x", 256): 0, strings.Repeat("x", 257): 0x90, "a/b/c/d/e/f/g/h": 0, "a/b/c/d/e/f/g/h/i": 0x90,
	} {
		if got := c.publishWith(topic, "x", 1); got != want {
			t.Errorf("publish on %q = %#x, want %#x", topic, got, want)
		}
		if want == 0x90 {
			want = 0x8F
		}
		if got := c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: topic})[0]; got != want {
			t.Errorf("SUBACK for %q = %#x, want %#x", topic, got, want)
		}
	}
}
