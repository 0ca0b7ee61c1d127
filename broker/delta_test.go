package broker_test

import (
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

func TestDeltaOnSubscribe(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{delta, update + "/#", update + "/+", lamp + "#", lamp + "+/delta", lamp + "+/+"} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("%s/qos%d", filter, qos), func(t *testing.T) {
				t.Parallel()
				testDeltaOnSubscribe(t, filter, qos)
			})
		}
	}
}

func testDeltaOnSubscribe(t *testing.T, filter string, qos byte) {
	t.Helper()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "dev"})
	c.subscribe(qos, filter)
	c.wantQuiet()
	s.do(t, `{"state":{"desired":{"on":true}}}`)
	late := s.connect(t, connectOptions{id: "late"})
	late.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
		Filters: packets.Subscriptions{{Filter: filter, Qos: qos}, {Filter: delta, Qos: qos}},
	})
	late.want(packets.Suback)
	pk := late.wantMessage(delta)
	if v := field[int](t, pk.Payload, "version"); v != 1 || pk.FixedHeader.Qos != min(qos, 1) || pk.FixedHeader.Retain {
		t.Errorf("delta of version %d with QoS %d", v, pk.FixedHeader.Qos)
	}
	late.wantQuiet()
	s.do(t, `{"state":{"reported":{"on":true}}}`)
	insync := s.connect(t, connectOptions{id: "insync"})
	insync.subscribe(qos, filter)
	insync.wantQuiet()
}

func TestNoDeltaOnSubscribeToTheDeltasOfMany(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	s.do(t, `{"state":{"desired":{"on":true}}}`)
	for i, filter := range []string{
		"$aws/things/+/shadow/update/delta", "$aws/#", "#", "$aws/things/lamp/+/update/delta", accepted, "$share/g/" + delta,
		"$aws/things/lamp/shadow/name/+/update/delta",
	} {
		c := s.connect(t, connectOptions{id: fmt.Sprint("c", i)})
		c.subscribe(1, filter)
		for {
			pk, err := c.next(quiet)
			if err != nil {
				break
			}
			if pk.TopicName == delta {
				t.Errorf("%s: got a delta", filter)
			}
			c.acknowledge(pk)
		}
		c.leave()
	}
}

func TestDeltaOnResume(t *testing.T) {
	t.Parallel()
	for qos := range byte(2) {
		t.Run(fmt.Sprint("qos", qos), func(t *testing.T) {
			t.Parallel()
			s := start(t, broker.Options{})
			o := connectOptions{id: "dev", keep: true, expiry: 100}
			c := s.connect(t, o)
			c.subscribe(qos, delta)
			s.do(t, `{"state":{"desired":{"on":1}}}`)
			c.wantMessage(delta)
			c.ping()

			_ = c.conn.Close() // it has the delta, and gets it again: it may have lost it
			c = s.connect(t, o)
			if v := field[int](t, c.wantMessage(delta).Payload, "version"); v != 1 {
				t.Errorf("version = %d, want 1", v)
			}
			c.wantQuiet()

			_ = c.conn.Close()
			eventually(t, "disconnect", func() bool { n, _ := s.Connection("dev"); return !n.Connected })
			s.do(t, `{"state":{"desired":{"on":2}}}`)
			s.do(t, `{"state":{"desired":{"on":3}}}`)
			c = s.connect(t, o)
			first := 3
			if qos == 1 {
				first = 2 // was queued
			}
			for want := first; want <= 3; want++ { // and the current one comes once
				pk := c.want(packets.Publish)
				if v := field[int](t, pk.Payload, "version"); v != want {
					t.Errorf("version = %d, want %d", v, want)
				}
			}
			c.wantQuiet()

			_ = c.conn.Close() // without acknowledging
			c = s.connect(t, o)
			for want := first; want <= 3; want++ {
				if v := field[int](t, c.wantMessage(delta).Payload, "version"); v != want {
					t.Errorf("version = %d, want %d", v, want)
				}
			}
			c.wantQuiet()

			s.do(t, `{"state":{"reported":{"on":3}}}`)
			_ = c.conn.Close()
			c = s.connect(t, o)
			c.wantQuiet()
		})
	}
}
