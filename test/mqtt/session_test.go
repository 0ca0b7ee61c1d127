package mqtt_test

import (
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

func TestOfflineMessageQueueing(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name(), persistent)
		c.subscribe(2, t.Name()+"/#")
		c.leave()
		other := s.connect(t, version, "other"+t.Name())
		for qos, payload := range []string{"0", "1", "2"} {
			other.publish(t.Name()+"/a", payload, byte(qos))
		}
		c = s.connect(t, version, t.Name(), persistent)
		if !c.connack.SessionPresent {
			t.Error("Session Present = 0, want 1")
		}
		got := c.wantMessages("1", "2") // messages of QoS 0 are not kept
		for i, pk := range got {
			if pk.FixedHeader.Dup || pk.FixedHeader.Qos != byte(i+1) {
				t.Errorf("message %q with QoS %d, DUP %t, want its QoS and no DUP: it was never sent before", pk.Payload, pk.FixedHeader.Qos, pk.FixedHeader.Dup)
			}
		}
	})
}

func TestRedeliveryOnReconnect(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		other := s.connect(t, version, "other"+t.Name())
		c := s.connect(t, version, t.Name(), persistent)
		c.subscribe(2, t.Name())
		c.hold = true
		for i, payload := range []string{"a", "b", "c", "d"} {
			other.publish(t.Name(), payload, byte(1+i%2))
		}
		first := c.wantMessages("a", "b", "c", "d")
		c.send(ack(packets.Pubrec, first[1].PacketID)) // half way
		c.await(packets.Pubrel)
		c.wantNone() // nothing comes again while the connection stands
		c.vanish()

		c = s.connect(t, version, t.Name(), persistent)
		c.hold = true
		for _, want := range []packets.Packet{first[0], first[1], first[2], first[3]} {
			pk, err := c.read(patience)
			if err != nil {
				t.Fatal(err)
			}
			typ := packets.Publish
			if want.PacketID == first[1].PacketID {
				typ = packets.Pubrel
			}
			if pk.FixedHeader.Type != typ || pk.PacketID != want.PacketID || typ == packets.Publish && !pk.FixedHeader.Dup {
				t.Errorf("packet type %d with identifier %d and DUP %t, want type %d with %d and DUP",
					pk.FixedHeader.Type, pk.PacketID, pk.FixedHeader.Dup, typ, want.PacketID)
			}
			if typ == packets.Pubrel {
				c.send(ack(packets.Pubcomp, pk.PacketID))
			} else {
				c.acknowledge(pk)
			}
		}
		c.hold = false
		c.wantNone()
		c.vanish()
		c = s.connect(t, version, t.Name(), persistent)
		c.wantNone()
	})
}

func TestCleanStartForgetsTheSession(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name(), persistent)
		c.subscribe(1, t.Name())
		c.leave()
		other := s.connect(t, version, "other"+t.Name())
		other.publish(t.Name(), "1", 1)
		c = s.connect(t, version, t.Name())
		if c.connack.SessionPresent {
			t.Error("Session Present = 1 after a clean start, want 0")
		}
		other.publish(t.Name(), "2", 1)
		c.wantNone()
		c.leave()
		c = s.connect(t, version, t.Name(), persistent)
		if c.connack.SessionPresent {
			t.Error("Session Present = 1 after a session that was to end with its connection, want 0")
		}
	})
}

func TestSessionExpiry(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{SessionExpiry: 2 * time.Second}})
	other := s.connect(t, v5, "other")
	present := func(id string, options ...func(*packets.Packet)) bool {
		c := s.connect(t, v5, id, append([]func(*packets.Packet){persistent}, options...)...)
		c.leave()
		return c.connack.SessionPresent
	}
	s.connect(t, v5, "none", expiring(0)).leave()
	if present("none") {
		t.Error("a session without expiry outlived its connection")
	}
	c := s.connect(t, v5, "long", expiring(100))
	if got := c.connack.Properties.SessionExpiryInterval; got != 2 {
		t.Errorf("CONNACK: Session Expiry Interval = %d, want 2, the limit of the server", got)
	}
	c.subscribe(1, "a")
	c.leave()
	c = s.connect(t, v5, "changed", expiring(100))
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, Properties: packets.Properties{SessionExpiryIntervalFlag: true},
	})
	c.wantEnd(0)
	if present("changed") {
		t.Error("a session outlived a DISCONNECT that set its expiry to 0")
	}
	c = s.connect(t, v5, "illegal")
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
		Properties:  packets.Properties{SessionExpiryInterval: 5, SessionExpiryIntervalFlag: true},
	})
	c.wantEnd(0x82)
	old := s.connect(t, v311, "old", persistent)
	old.subscribe(1, "a")
	old.leave()

	<-time.After(1200 * time.Millisecond)
	if !present("long") { // which begins its time anew
		t.Error("a session ended before its time")
	}
	subscriptions := s.Stats().Subscriptions
	eventually(t, "the subscriptions of expired sessions go", func() bool { return s.Stats().Subscriptions == subscriptions-2 })
	other.publish("a", "x", 1)
	if c := s.connect(t, v5, "long", persistent); c.connack.SessionPresent {
		t.Error("a session outlived its expiry")
	}
	if c := s.connect(t, v311, "old", persistent); c.connack.SessionPresent {
		t.Error("a session of MQTT 3.1.1 outlived the limit")
	}
}

func TestSessionIsTakenOver(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		first := s.connect(t, version, t.Name(), persistent)
		first.subscribe(1, t.Name())
		second := s.connect(t, version, t.Name(), persistent)
		if !second.connack.SessionPresent {
			t.Error("Session Present = 0, want 1")
		}
		first.wantEnd(0x8E)
		second.publish(t.Name(), "x", 1)
		second.wantMessages("x")
	})
}

func TestSessionMovesBetweenVersions(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	other := s.connect(t, v5, "other")
	c := s.connect(t, v5, "c", persistent)
	c.subscribe(1, "a")
	for _, version := range []byte{v311, v5} {
		c.leave()
		other.publish("a", "x", 1, func(pk *packets.Packet) { pk.Properties.ContentType = "text/plain" })
		if c = s.connect(t, version, "c", persistent); !c.connack.SessionPresent {
			t.Fatalf("version %d: Session Present = 0, want 1", version)
		}
		c.wantMessages("x")
	}
}
