package broker_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/test/packetio"
)

func TestPersistentSessionKeepsItsQueue(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			t.Parallel()
			s := start(t, broker.Options{})
			o := connectOptions{id: "sub", version: version, keep: true, expiry: 100}
			sub := s.connect(t, o)
			sub.subscribe(2, "a/#")
			sub.leave()
			pub := s.connect(t, connectOptions{id: "pub"})
			eventually(t, "disconnect", func() bool { c, _ := s.Connection("sub"); return !c.Connected })
			for i := range 300 {
				qos := byte(1 + i%2)
				pub.send(message(fmt.Sprintf("a/%d", i), "x", qos, uint16(i+1)))
				finish(pub, qos, uint16(i+1))
			}
			sub, ack := s.tryConnect(t, o)
			if !ack.SessionPresent {
				t.Error("session not present")
			}
			for i := range 300 {
				sub.wantMessage(fmt.Sprintf("a/%d", i))
			}
			sub.leave()
			o.keep = false
			if _, ack = s.tryConnect(t, o); ack.SessionPresent {
				t.Error("session present after a clean start")
			}
			if n := s.Stats().Subscriptions; n != 0 {
				t.Errorf("subscriptions = %d, want 0", n)
			}
		})
	}
}

func TestUnacknowledgedMessagesComeAgainInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	o := connectOptions{id: "sub", keep: true, expiry: 100, edit: func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 3 }}
	sub := s.connect(t, o)
	sub.subscribe(1, "a")
	pub := s.connect(t, connectOptions{id: "pub"})
	for i := range 6 {
		pub.send(message("a", fmt.Sprint(i), 1, 1))
		finish(pub, 1, 1)
	}
	for i := range 3 {
		if pk := sub.want(packets.Publish); string(pk.Payload) != fmt.Sprint(i) || pk.FixedHeader.Dup {
			t.Fatalf("message %d = %s, dup %v", i, pk.Payload, pk.FixedHeader.Dup)
		}
	}
	sub.wantQuiet()
	_ = sub.conn.Close()
	sub = s.connect(t, o)
	for i := range 6 {
		pk := sub.want(packets.Publish)
		if string(pk.Payload) != fmt.Sprint(i) || pk.FixedHeader.Dup != (i < 3) {
			t.Fatalf("message %d = %s, dup %v", i, pk.Payload, pk.FixedHeader.Dup)
		}
		sub.acknowledge(pk)
	}
}

func TestReceiveMaximumOfOne(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	sub := s.connect(t, connectOptions{id: "sub", edit: func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 1 }})
	sub.subscribe(2, "a")
	pub := s.connect(t, connectOptions{id: "pub"})
	for i := range 50 {
		qos := byte(1 + i%2)
		pub.send(message("a", fmt.Sprint(i), qos, 1))
		finish(pub, qos, 1)
	}
	for i := range 50 {
		if pk := sub.wantMessage("a"); string(pk.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d = %s", i, pk.Payload)
		}
	}
}

// The identifiers of both directions and of SUBSCRIBE have nothing to do with each other.
func TestPacketIdentifiersOfBothDirectionsMayBeEqual(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "c"})
	c.subscribe(1, "in")
	other := s.connect(t, connectOptions{id: "other"})
	other.send(message("in", "1", 1, 1))
	finish(other, 1, 1)
	got := c.want(packets.Publish)
	c.send(message("out", "x", 1, got.PacketID))
	finish(c, 1, got.PacketID)
	c.send(message("out", "x", 2, got.PacketID))
	finish(c, 2, got.PacketID)
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: got.PacketID, Filters: packets.Subscriptions{{Filter: "x", Qos: 1}},
	})
	if ack := c.want(packets.Suback); ack.ReasonCodes[0] != 1 {
		t.Errorf("SUBACK = %#x, want 1", ack.ReasonCodes[0])
	}
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: got.PacketID, Filters: packets.Subscriptions{{Filter: "x"}, {Filter: "y"}},
	})
	if ack := c.want(packets.Unsuback); ack.ReasonCodes[0] != 0 || ack.ReasonCodes[1] != 0x11 {
		t.Errorf("UNSUBACK = %#x, want 0 and 0x11", ack.ReasonCodes)
	}
	c.acknowledge(got)
	c.leave()
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	events := s.connect(t, connectOptions{id: "events"})
	events.subscribe(1, "$aws/events/presence/+/c")
	o := connectOptions{id: "c", keep: true, expiry: 100}
	first := s.connect(t, o)
	first.subscribe(1, "a")
	second, ack := s.tryConnect(t, o)
	if !ack.SessionPresent {
		t.Error("session not present")
	}
	first.wantEnd(0x8E)
	second.send(message("a", "x", 1, 1))
	second.wantMessage("a")
	finish(second, 1, 1)

	var version int
	for i, want := range []string{"connected", "disconnected", "connected"} {
		pk := events.wantMessage("$aws/events/presence/" + want + "/c")
		v := field[int](t, pk.Payload, "versionNumber")
		if i == 1 {
			if reason := field[string](t, pk.Payload, "disconnectReason"); reason != "DUPLICATE_CLIENTID" || v != version {
				t.Errorf("disconnected: %s", pk.Payload)
			}
		} else if v <= version {
			t.Errorf("versionNumber = %d after %d", v, version)
		}
		version = v
	}
}

func TestManyTakeoversAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	o := connectOptions{id: "c", keep: true, expiry: 100}
	s.connect(t, o).subscribe(1, "a")
	const messages = 500
	var accepted, ended sync.WaitGroup
	for range 40 {
		accepted.Add(1)
		ended.Go(func() {
			waits := sync.OnceFunc(accepted.Done)
			defer waits()
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			c := &raw{t, packetio.New(conn, 5)}
			if _, err := conn.Write(c.encode(packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5,
				Connect:    packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "c"},
				Properties: packets.Properties{SessionExpiryInterval: 100, SessionExpiryIntervalFlag: true},
			})); err != nil {
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			_, _ = conn.Read(make([]byte, 100))
			waits()
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("a connection that was taken over stays")
			}
		})
	}
	pub := s.connect(t, connectOptions{id: "pub"})
	for i := range messages {
		pub.send(message("a", fmt.Sprint(i), 1, 1))
		finish(pub, 1, 1)
	}
	accepted.Wait()
	last := s.connect(t, o)
	for i := range messages {
		if pk := last.wantMessage("a"); string(pk.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d = %s", i, pk.Payload)
		}
	}
	ended.Wait()
	eventually(t, "all other connections gone", func() bool { return s.Stats().Connections == 2 })
	pub.send(message("a", "more", 1, 1))
	finish(pub, 1, 1)
	last.wantMessage("a")
	if n := s.Stats().Panics; n > 0 {
		t.Errorf("%d connections have panicked", n)
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "short", keep: true, expiry: 1})
	c.subscribe(1, "a")
	c.leave()
	c = s.connect(t, connectOptions{id: "v3", version: 4})
	c.subscribe(1, "a")
	_ = c.conn.Close()
	c = s.connect(t, connectOptions{id: "lowered", keep: true, expiry: 100})
	c.subscribe(1, "a")
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, Properties: packets.Properties{SessionExpiryIntervalFlag: true},
	})
	eventually(t, "no session left", func() bool { n := s.Stats(); return n.Sessions == 0 && n.Subscriptions == 0 })

	c = s.connect(t, connectOptions{id: "raised"})
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
		Properties:  packets.Properties{SessionExpiryIntervalFlag: true, SessionExpiryInterval: 5},
	})
	c.wantEnd(0x82)
}

func TestSharedSubscription(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	var members []*raw
	for i := range 3 {
		m := s.connect(t, connectOptions{id: fmt.Sprint("m", i)})
		m.subscribe(1, "$share/g/a/+")
		members = append(members, m)
	}
	pub := s.connect(t, connectOptions{id: "pub"})
	for i := range 9 {
		pub.send(message(fmt.Sprint("a/", i), "x", 1, 1))
		finish(pub, 1, 1)
	}
	for _, m := range members {
		for range 3 {
			m.acknowledge(m.want(packets.Publish))
		}
		m.wantQuiet()
	}
}

func TestSubscriptionOptions(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "c"})
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Properties: packets.Properties{SubscriptionIdentifier: []int{7}},
		Filters: packets.Subscriptions{{Filter: "a/+", Qos: 1, NoLocal: true}, {Filter: "b/+", Qos: 2, RetainAsPublished: true}},
	})
	c.want(packets.Suback)
	c.subscribe(0, "b/#")
	c.send(message("a/1", "own", 1, 1))
	finish(c, 1, 1)
	pk := message("b/1", "own", 1, 2)
	pk.FixedHeader.Retain = true
	c.send(pk)
	got := c.wantMessage("b/1")
	if ids := got.Properties.SubscriptionIdentifier; !got.FixedHeader.Retain || len(ids) != 1 || ids[0] != 7 || got.FixedHeader.Qos != 1 {
		t.Errorf("retain %v, identifiers %v, QoS %d, want true, 7, 1", got.FixedHeader.Retain, ids, got.FixedHeader.Qos)
	}
	finish(c, 1, 2)
	c.wantQuiet()
	for _, ids := range [][]int{{1, 2}} {
		c.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
			Properties: packets.Properties{SubscriptionIdentifier: ids}, Filters: packets.Subscriptions{{Filter: "x"}},
		})
		c.wantEnd(0x82)
	}
}

func TestRetainedMessagesOnSubscribe(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	pub := s.connect(t, connectOptions{id: "pub"})
	const n = 700
	for i := range n {
		pk := message(fmt.Sprintf("r/%03d", i), "x", 1, 1)
		pk.FixedHeader.Retain = true
		pub.send(pk)
		finish(pub, 1, 1)
	}
	for qos := range byte(3) {
		sub := s.connect(t, connectOptions{id: fmt.Sprint("sub", qos), edit: func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 10 }})
		sub.subscribe(qos, "r/#")
		for i := range n {
			pk := sub.wantMessage(fmt.Sprintf("r/%03d", i))
			if !pk.FixedHeader.Retain || pk.FixedHeader.Qos != min(qos, 1) {
				t.Fatalf("retain %v, QoS %d", pk.FixedHeader.Retain, pk.FixedHeader.Qos)
			}
		}
		sub.wantQuiet()
	}
	pk := message("r/000", "", 1, 1)
	pk.FixedHeader.Retain = true
	pub.send(pk)
	finish(pub, 1, 1)
	if _, ok := s.RetainedMessage("r/000"); ok || s.Stats().Retained != n-1 {
		t.Errorf("retained messages = %d, want %d", s.Stats().Retained, n-1)
	}
}

func TestTopicAliases(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "c"})
	c.subscribe(0, accepted, "a")
	alias := func(topic, payload string, alias uint16) packets.Packet {
		pk := message(topic, payload, 0, 0)
		pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = alias, true
		return pk
	}
	c.send(alias(update, `{"state":{}}`, 1), alias("", `{"state":{}}`, 1))
	for range 2 {
		c.wantMessage(accepted)
	}
	c.send(alias("a", "x", 1), alias("", "y", 1))
	for range 2 {
		c.wantMessage("a")
	}
	c.send(alias("", "z", 2))
	c.wantEnd(0x82)
	c = s.connect(t, connectOptions{id: "c"})
	c.send(alias("a", "z", 17))
	c.wantEnd(0x94)
}

func TestMessageExpiry(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	o := connectOptions{id: "sub", keep: true, expiry: 100}
	sub := s.connect(t, o)
	sub.subscribe(1, "a")
	_ = sub.conn.Close()
	eventually(t, "disconnect", func() bool { c, _ := s.Connection("sub"); return !c.Connected })
	pub := s.connect(t, connectOptions{id: "pub"})
	for _, seconds := range []uint32{1, 100} {
		pk := message("a", fmt.Sprint(seconds), 1, 1)
		pk.Properties.MessageExpiryInterval = seconds
		pub.send(pk)
		finish(pub, 1, 1)
	}
	<-time.After(1100 * time.Millisecond)
	sub = s.connect(t, o)
	if pk := sub.wantMessage("a"); string(pk.Payload) != "100" || pk.Properties.MessageExpiryInterval == 0 || pk.Properties.MessageExpiryInterval > 99 {
		t.Errorf("message %s with expiry %d, want 100 with at most 99", pk.Payload, pk.Properties.MessageExpiryInterval)
	}
	if n := s.Stats().DroppedExpired; n != 1 {
		t.Errorf("expired messages = %d, want 1", n)
	}
}

func TestRetainedMessageExpires(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "c"})
	for i, seconds := range []uint32{1, 100} {
		pk := message(fmt.Sprint("r/", seconds), "x", 1, uint16(i+1))
		pk.FixedHeader.Retain, pk.Properties.MessageExpiryInterval = true, seconds
		c.send(pk)
		finish(c, 1, uint16(i+1))
	}
	eventually(t, "expiry", func() bool { return s.Stats().Retained == 1 })
	if _, ok := s.RetainedMessage("r/100"); !ok {
		t.Error("the other message is gone too")
	}
}
