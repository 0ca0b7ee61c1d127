package mqtt_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

func TestRetainedMessages(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		for qos, topic := range []string{"0", "1", "2"} {
			c.publish(t.Name()+"/"+topic, "old", byte(qos), retained)
			c.publish(t.Name()+"/"+topic, topic, byte(qos), retained) // replaces it
			c.publish(t.Name()+"/"+topic, "passing", byte(qos))       // does not
		}
		c.subscribe(2, t.Name()+"/+")
		for range 3 {
			pk := c.receive()
			if want := t.Name() + "/" + string(pk.Payload); pk.TopicName != want || !pk.FixedHeader.Retain || pk.FixedHeader.Qos != pk.Payload[0]-'0' {
				t.Errorf("message %q on %q, RETAIN %t, QoS %d, want topic %q, RETAIN, and the QoS in the payload",
					pk.Payload, pk.TopicName, pk.FixedHeader.Retain, pk.FixedHeader.Qos, want)
			}
		}
		c.publish(t.Name()+"/1", "passing", 1)
		if pk := c.wantMessage("passing"); pk.FixedHeader.Retain {
			t.Error("RETAIN is set in a message that is not a retained one")
		}
		for qos, topic := range []string{"0", "1", "2"} {
			c.publish(t.Name()+"/"+topic, "", byte(qos), retained)
		}
		c.wantMessages("", "", "") // an empty message is a message
		c.subscribe(2, t.Name()+"/+")
		c.wantNone()
	})
}

func TestSubscribeAgainBringsRetainedMessagesAgain(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.publish(t.Name(), "kept", 1, retained)
		for range 3 {
			c.subscribe(1, t.Name())
			c.wantMessages("kept")
		}
	})
}

func TestFilterTwiceInOnePacketBringsRetainedMessagesTwice(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name(), receiveMaximum(1))
		c.publish(t.Name()+"/1", "one", 1, retained)
		c.publish(t.Name()+"/2", "two", 1, retained)
		c.subscribe(1, t.Name()+"/#", t.Name()+"/#")
		c.wantMessages("one", "two", "one", "two")
		if version < v5 {
			return
		}
		for _, tt := range []struct {
			handling []byte
			want     []string
		}{
			{[]byte{1, 1}, []string{"one", "two"}}, // the second one is no new subscription
			{[]byte{0, 2}, []string{"one", "two"}},
			{[]byte{1, 0, 1}, []string{"one", "two", "one", "two"}},
		} {
			c.unsubscribe(t.Name() + "/#")
			var filters []packets.Subscription
			for _, h := range tt.handling {
				filters = append(filters, packets.Subscription{Filter: t.Name() + "/#", Qos: 1, RetainHandling: h})
			}
			c.subscribeWith(packets.Properties{}, filters...)
			c.wantMessages(tt.want...)
		}
	})
}

func TestManyRetainedMessagesReachASlowSubscriber(t *testing.T) {
	t.Parallel()
	const n = 500
	s := start(t, broker.Options{Limits: broker.Limits{OutgoingBytes: 2000}})
	inBoth(t, func(t *testing.T, version byte) {
		publisher := s.connect(t, version, "publisher"+t.Name())
		want := make([]string, n)
		for i := range want {
			want[i] = string([]byte{'a' + byte(i/26/26%26), 'a' + byte(i/26%26), 'a' + byte(i%26)})
			publisher.publish(t.Name()+"/"+want[i], want[i], byte(i%3), retained)
		}
		for qos := range byte(3) {
			c := s.connect(t, version, t.Name(), receiveMaximum(3))
			c.subscribe(qos, t.Name()+"/#")
			if got := c.sorted(n); !slices.Equal(got, want) {
				t.Errorf("QoS %d: got %d messages, want %d different ones", qos, len(slices.Compact(got)), n)
			}
			c.wantNone()
			c.leave()
		}
	})
}

func TestRetainedMessagesOutliveTheirPublisher(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		publisher := s.connect(t, version, t.Name())
		publisher.publish(t.Name(), "kept", 1, retained)
		publisher.leave()
		s.connect(t, version, t.Name()).leave() // a clean start
		c := s.connect(t, version, "other"+t.Name())
		c.subscribe(1, t.Name())
		c.wantMessages("kept")
	})
}

// TestMessagesThatAreNotRetainedAreDelivered has no room for a second retained message.
func TestMessagesThatAreNotRetainedAreDelivered(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{RetainedMessages: 1}})
	inBoth(t, func(t *testing.T, version byte) {
		s.connect(t, v5, "").publish("first", "x", 1, retained)
		other := s.connect(t, version, "other"+t.Name())
		other.subscribe(2, t.Name())
		c := s.connect(t, version, t.Name())
		before := s.Stats().NotRetained
		for qos := range byte(3) {
			want := byte(0)
			if version == v5 && qos > 0 {
				want = 0x97
			}
			if code := c.publishWith(t.Name(), fmt.Sprint(qos), qos, retained); code != want {
				t.Errorf("QoS %d is answered with %#x, want %#x", qos, code, want)
			}
			other.wantMessage(fmt.Sprint(qos))
		}
		s.connect(t, version, t.Name(), willOn(t.Name(), "will"), func(pk *packets.Packet) { pk.Connect.WillRetain = true }).vanish()
		other.wantMessage("will")
		other.wantNone()
		late := s.connect(t, version, "late"+t.Name())
		late.subscribe(1, t.Name())
		late.wantNone()
		if n := s.Stats().NotRetained - before; n < 4 {
			t.Errorf("%d messages are counted as not retained, want 4", n)
		}
	})
}
