package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/schemas"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/statestore/pebblestore"
	"github.com/umbra-iot/umbra/things"
)

// hour is a session expiry interval in seconds.
const hour = 3600

// device is a client with a session that outlives its connection.
func device(id string) connectOptions { return connectOptions{id: id, keep: true, expiry: hour} }

// clock is a time that stands still unless moved.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(time.Now().UnixMilli())
	return c
}

func (c *clock) Now() time.Time { return time.UnixMilli(c.ms.Load()) }

func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// again connects a client that expects its session to be there, or not.
func (s *server) again(t *testing.T, o connectOptions, present bool) *raw {
	t.Helper()
	c, ack := s.tryConnect(t, o)
	if ack.ReasonCode != 0 || ack.SessionPresent != present {
		t.Fatalf("CONNACK of %s = %#x, session present %t, want 0, %t", o.id, ack.ReasonCode, ack.SessionPresent, present)
	}
	return c
}

// publish sends a message and waits for its acknowledgement.
func (c *raw) publish(pk packets.Packet) {
	c.t.Helper()
	c.send(pk)
	switch pk.FixedHeader.Qos {
	case 1:
		c.want(packets.Puback)
	case 2:
		c.want(packets.Pubrec)
		c.send(ackOf(packets.Pubrel, pk.PacketID))
		c.want(packets.Pubcomp)
	}
}

// items counts what there is in the store of a space.
func (s *server) items(t *testing.T, space byte) (keys []string) {
	t.Helper()
	err := s.store.Store.Scan(t.Context(), space, func(it statestore.Item) error {
		keys = append(keys, fmt.Sprintf("%s/%q", it.Partition, it.Key))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// settled waits until nothing waits to be stored.
func (s *server) settled(t *testing.T) {
	t.Helper()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestQueueSurvivesKill(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, device("sub"))
	c.subscribe(2, "t/#")
	c.leave()
	p := s.connect(t, connectOptions{id: "pub"})
	for i := range 10 {
		pk := message("t/a", fmt.Sprint(i), byte(1+i%2), uint16(i+1))
		pk.Properties.ContentType = "n"
		p.publish(pk)
	}
	s = s.kill(t, broker.Options{})
	c = s.again(t, device("sub"), true)
	for i := range 10 {
		pk := c.wantMessage("t/a")
		if string(pk.Payload) != fmt.Sprint(i) || pk.FixedHeader.Qos != byte(1+i%2) || pk.FixedHeader.Dup || pk.Properties.ContentType != "n" {
			t.Errorf("message %d is %s, QoS %d, DUP %t, content type %q", i, pk.Payload, pk.FixedHeader.Qos, pk.FixedHeader.Dup, pk.Properties.ContentType)
		}
	}
	c.wantQuiet()
}

func TestSubscriptionsSurviveKill(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, device("sub"))
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Properties: packets.Properties{SubscriptionIdentifier: []int{300}},
		Filters: packets.Subscriptions{{Filter: "t", Qos: 1, RetainAsPublished: true, Identifier: 300}, {Filter: "$share/g/shared", Qos: 1, Identifier: 300}},
	})
	c.want(packets.Suback)
	c.subscribe(1, "gone")
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 2, Filters: packets.Subscriptions{{Filter: "gone"}}})
	c.want(packets.Unsuback)
	s = s.kill(t, broker.Options{})
	p := s.connect(t, connectOptions{id: "pub"})
	pk := message("t", "1", 1, 1)
	pk.FixedHeader.Retain = true
	p.publish(pk)
	p.publish(message("shared", "2", 1, 2))
	p.publish(message("gone", "3", 1, 3))
	c = s.again(t, device("sub"), true)
	got := c.wantMessage("t")
	if !got.FixedHeader.Retain || len(got.Properties.SubscriptionIdentifier) != 1 || got.Properties.SubscriptionIdentifier[0] != 300 {
		t.Errorf("retain %t, identifiers %v, want true, [300]", got.FixedHeader.Retain, got.Properties.SubscriptionIdentifier)
	}
	c.wantMessage("shared")
	c.wantQuiet()
}

func TestFlightSurvivesKill(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, device("sub"))
	c.subscribe(2, "t")
	p := s.connect(t, connectOptions{id: "pub"})
	for i := range 3 {
		p.publish(message("t", fmt.Sprint(i), 2, uint16(i+1)))
	}
	var ids []uint16
	for range 3 {
		ids = append(ids, c.want(packets.Publish).PacketID)
	}
	c.send(ackOf(packets.Pubrec, ids[0]))
	c.want(packets.Pubrel)
	s = s.kill(t, broker.Options{})
	c = s.again(t, device("sub"), true)
	if pk := c.want(packets.Pubrel); pk.PacketID != ids[0] {
		t.Errorf("PUBREL %d, want %d", pk.PacketID, ids[0])
	}
	for i := range 2 {
		pk := c.want(packets.Publish)
		if pk.PacketID != ids[i+1] || !pk.FixedHeader.Dup || string(pk.Payload) != fmt.Sprint(i+1) {
			t.Errorf("PUBLISH %d, %s, DUP %t, want %d, %d, true", pk.PacketID, pk.Payload, pk.FixedHeader.Dup, ids[i+1], i+1)
		}
	}
}

func TestInboundQoS2SurvivesKill(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	sub := s.connect(t, device("sub"))
	sub.subscribe(1, "t")
	sub.leave()
	p := s.connect(t, device("pub"))
	p.send(message("t", "1", 2, 7))
	p.want(packets.Pubrec)
	s = s.kill(t, broker.Options{})
	p = s.again(t, device("pub"), true)
	pk := message("t", "1", 2, 7)
	pk.FixedHeader.Dup = true
	p.publish(pk)
	s = s.kill(t, broker.Options{})
	p = s.again(t, device("pub"), true)
	p.publish(message("t", "2", 2, 7)) // the identifier is free since the PUBCOMP
	sub = s.again(t, device("sub"), true)
	for _, want := range []string{"1", "2"} {
		if pk := sub.wantMessage("t"); string(pk.Payload) != want {
			t.Errorf("message %s, want %s", pk.Payload, want)
		}
	}
	sub.wantQuiet()
}

func TestRetainedSurvivesKill(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, broker.Options{Now: clock.Now})
	p := s.connect(t, connectOptions{id: "pub"})
	for i, pk := range []packets.Packet{
		message("a", "old", 1, 1), message("a", "new", 1, 2), message("b", "x", 1, 3), message("b", "", 1, 4), message("c", "soon", 1, 5),
	} {
		pk.FixedHeader.Retain = true
		if i == 4 {
			pk.Properties.MessageExpiryInterval = 60
		}
		p.publish(pk)
	}
	s = s.kill(t, broker.Options{Now: clock.Now})
	if m, ok := s.RetainedMessage("a"); !ok || string(m.Payload) != "new" || m.Modified == 0 {
		t.Errorf("RetainedMessage(a) = %+v, %t", m, ok)
	}
	if _, ok := s.RetainedMessage("b"); ok {
		t.Error("RetainedMessage(b) is there although it was deleted")
	}
	if _, ok := s.RetainedMessage("c"); !ok {
		t.Error("RetainedMessage(c) is not there")
	}
	s.store.SetDown(errKilled) // while the server is down
	clock.advance(time.Minute)
	s = s.kill(t, broker.Options{Now: clock.Now})
	if list := s.RetainedMessages("", 10); len(list) != 1 {
		t.Errorf("%d retained messages, want 1: c has expired", len(list))
	}
	eventually(t, "expired messages leave the store", func() bool {
		s.settled(t)
		return len(s.items(t, 2)) == 1
	})
}

// The SUBACK promises all that is retained. A client that is cut off, or whose server dies, gets the rest when it is back.
func TestRetainedMessagesGoOnWhereTheyWereInterrupted(t *testing.T) {
	t.Parallel()
	const topics, step = 300, 70
	s := start(t, broker.Options{})
	p := s.connect(t, connectOptions{id: "pub"})
	for i := range topics {
		pk := message(fmt.Sprintf("r/%03d", i), "x", 1, 1)
		pk.FixedHeader.Retain = true
		p.publish(pk)
	}
	o := device("sub")
	o.edit = func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 10 }
	sub := s.connect(t, o)
	sub.subscribe(1, "#", "r/299")
	got := map[string]int{}
	take := func(n int) {
		for range n {
			pk := sub.want(packets.Publish)
			if !pk.FixedHeader.Retain {
				t.Errorf("%s comes without the retain flag", pk.TopicName)
			}
			got[pk.TopicName]++
			sub.acknowledge(pk)
		}
	}
	for round := 0; len(got)+step < topics; round++ {
		take(step)
		if round%2 == 0 {
			s = s.kill(t, broker.Options{})
		}
		sub = s.again(t, o, true)
	}
	for len(got) < topics || got["r/299"] < 2 {
		take(1)
	}
	sub.wantQuiet()
	repeated := 0
	for _, times := range got {
		repeated += times - 1
	}
	t.Logf("%d came again", repeated)
	s.settled(t)
	for _, key := range s.items(t, 1) {
		if strings.HasPrefix(key, `sub/"r`) || strings.HasPrefix(key, `sub/"m`) {
			t.Errorf("left in the store: %s", key)
		}
	}
}

func TestWillsAreSentAfterKill(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, broker.Options{Now: clock.Now})
	watcher := s.connect(t, device("watcher"))
	watcher.subscribe(1, "will/#")
	with := func(o connectOptions, delay uint32) connectOptions {
		o.edit = func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillQos = true, "will/"+o.id, []byte("gone"), 1
			pk.Connect.WillProperties.WillDelayInterval = delay
		}
		return o
	}
	s.connect(t, with(connectOptions{id: "clean"}, 0))
	s.connect(t, with(connectOptions{id: "clean-delayed"}, 3600))
	s.connect(t, with(device("at-once"), 0))
	s.connect(t, with(device("later"), 5))
	s.connect(t, with(device("back"), 60))
	s.connect(t, with(device("left"), 0)).leave()
	eventually(t, "the clean end is noticed", func() bool {
		c, _ := s.Connection("left")
		return !c.Connected
	})
	s.settled(t)
	s = s.kill(t, broker.Options{Now: clock.Now})
	s.again(t, device("back"), true)
	watcher = s.again(t, device("watcher"), true)
	got := map[string]bool{}
	for range 3 {
		got[watcher.want(packets.Publish).TopicName] = true
	}
	for _, id := range []string{"clean", "clean-delayed", "at-once"} {
		if !got["will/"+id] {
			t.Errorf("no will of %s; got %v", id, got)
		}
	}
	watcher.wantQuiet()
	clock.advance(5 * time.Second)
	s.settled(t)
	s = s.kill(t, broker.Options{Now: clock.Now})
	watcher = s.again(t, device("watcher"), true)
	got = map[string]bool{}
	for range 4 { // the three were not acknowledged
		pk := watcher.want(packets.Publish)
		watcher.acknowledge(pk)
		got[pk.TopicName] = true
	}
	if !got["will/later"] {
		t.Errorf("the delayed will was not sent; got %v", got)
	}
	watcher.wantQuiet()
	if got := s.items(t, 1); len(got) > 20 {
		t.Errorf("left in the store: %v", got)
	}
}

// TestDelayOfAWillBeginsWithTheKill although an earlier will of the client waited before, and was called off.
func TestDelayOfAWillBeginsWithTheKill(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, broker.Options{Now: clock.Now})
	s.connect(t, device("watcher")).subscribe(1, "will")
	o := device("c")
	o.edit = withWill("will", "gone", func(pk *packets.Packet) { pk.Connect.WillProperties.WillDelayInterval = 60 })
	_ = s.connect(t, o).conn.Close()
	eventually(t, "the end is noticed", func() bool {
		c, _ := s.Connection("c")
		return !c.Connected
	})
	s.again(t, o, true)
	clock.advance(2 * time.Minute)
	s.settled(t)
	s = s.kill(t, broker.Options{Now: clock.Now})
	s.again(t, device("watcher"), true).wantQuiet()
	clock.advance(time.Minute)
	s.settled(t)
	s = s.kill(t, broker.Options{Now: clock.Now})
	s.again(t, device("watcher"), true).wantMessage("will")
}

func TestWillOnARequestTopicAfterKill(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	s.connect(t, connectOptions{id: "lamp", edit: func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, update, []byte(`{"state":{"reported":{"connected":false}}}`)
	}})
	s = s.kill(t, broker.Options{})
	eventually(t, "the will is in the shadow, and out of the store", func() bool {
		d, err := s.things.Document(t.Context(), shadow.ID{Thing: "lamp"})
		s.settled(t)
		return err == nil && d != nil && d.Version() == 1 && len(s.items(t, 1)) == 0
	})
}

// A will cannot come again as a publish can that was not acknowledged.
func TestWillsOfConnectionsThatEndWhileTheStoreFails(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{StoreTimeout: time.Second})
	watcher := s.connect(t, device("watcher"))
	watcher.subscribe(2, "will")
	will := func(topic, payload string) func(*packets.Packet) {
		return withWill(topic, payload, func(pk *packets.Packet) { pk.Connect.WillQos = 2 })
	}
	plain := s.connect(t, connectOptions{id: "plain", edit: will("will", "gone")})
	asking := s.connect(t, connectOptions{id: "asking", edit: will(update, `{"state":{"reported":{"connected":false}}}`)})
	s.settled(t)
	s.store.SetDown(errors.New("no disk"))
	for _, c := range []*raw{plain, asking} {
		_ = c.conn.Close()
	}
	for _, id := range []string{"plain", "asking"} {
		eventually(t, "the end of "+id+" is noticed", func() bool {
			c, _ := s.Connection(id)
			return !c.Connected
		})
	}
	if d, err := s.things.Document(t.Context(), shadow.ID{Thing: "lamp"}); err == nil {
		t.Errorf("shadow while the store fails = %v", d)
	}
	s.store.SetDown(nil)
	if pk := watcher.wantMessage("will"); string(pk.Payload) != "gone" {
		t.Errorf("will = %s", pk.Payload)
	}
	eventually(t, "the will is in the shadow", func() bool {
		d, err := s.things.Document(t.Context(), shadow.ID{Thing: "lamp"})
		return err == nil && d != nil && d.Version() == 1
	})
}

func TestEndedSessionsLeaveTheStore(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := start(t, broker.Options{Now: clock.Now})
	fill := func(o connectOptions) *raw {
		c := s.connect(t, o)
		c.subscribe(2, "t/"+o.id)
		p := s.connect(t, connectOptions{id: "pub"})
		p.publish(message("t/"+o.id, "x", 2, 1))
		c.want(packets.Publish)
		p.publish(message("t/"+o.id, "y", 1, 2))
		return c
	}
	fill(device("clean start"))
	fill(device("no expiry"))
	fill(device("disconnect")).send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, Properties: packets.Properties{SessionExpiryIntervalFlag: true},
	})
	fill(device("removed"))
	fill(device("expires"))
	fill(device("expires while the server is down"))
	s.connect(t, connectOptions{id: "clean start"})
	s.connect(t, connectOptions{id: "no expiry", keep: true})
	s.Disconnect("removed", broker.DisconnectOptions{CleanSession: true})
	s.Disconnect("expires", broker.DisconnectOptions{})
	s.Disconnect("expires while the server is down", broker.DisconnectOptions{})
	partitions := func() map[string]bool {
		s.settled(t)
		list := map[string]bool{}
		for _, k := range s.items(t, 1) {
			list[filepath.Dir(k)] = true
		}
		return list
	}
	eventually(t, "sessions that ended leave the store", func() bool { return len(partitions()) <= 4 })
	clock.advance(hour * time.Second)
	s.connect(t, connectOptions{id: "expires"})
	s = s.kill(t, broker.Options{Now: clock.Now})
	eventually(t, "all leave the store", func() bool { return len(partitions()) == 0 })
	s.again(t, device("expires while the server is down"), false)
}

func TestStoreFailureIsNoAcknowledgement(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{StoreTimeout: time.Second})
	sub := s.connect(t, device("sub"))
	sub.subscribe(2, "t")
	v5, v3 := s.connect(t, connectOptions{id: "v5"}), s.connect(t, connectOptions{id: "v3", version: 4})
	once := s.connect(t, device("once"))
	s.store.SetDown(errors.New("no disk"))
	v5.send(message("t", "1", 1, 1))
	if pk := v5.want(packets.Puback); pk.ReasonCode != 0x80 {
		t.Errorf("PUBACK = %#x while the store fails, want 0x80", pk.ReasonCode)
	}
	v3.send(message("t", "2", 1, 1))
	v3.wantEnd(0)
	once.send(message("t", "3", 2, 1))
	if pk, err := once.next(patience); err == nil && (pk.FixedHeader.Type != packets.Pubrec || pk.ReasonCode < 0x80) && pk.FixedHeader.Type != packets.Disconnect {
		t.Errorf("packet type %d, %#x for a QoS 2 publish while the store fails", pk.FixedHeader.Type, pk.ReasonCode)
	}
	if _, ack := s.tryConnect(t, device("new")); ack.ReasonCode != 0x88 {
		t.Errorf("CONNACK = %#x while the store fails, want 0x88", ack.ReasonCode)
	}
	clean := s.connect(t, connectOptions{id: "clean"}) // needs no store
	clean.subscribe(1, "other")
	v5.publish(message("other", "4", 1, 2))
	clean.wantMessage("other")
	s.store.SetDown(nil)
	eventually(t, "the store works again", func() bool { return s.Flush(t.Context()) == nil })
	v5.publish(message("t", "5", 1, 3))
	s = s.kill(t, broker.Options{})
	sub = s.again(t, device("sub"), true)
	for {
		pk := sub.want(packets.Publish)
		sub.acknowledge(pk)
		if string(pk.Payload) == "5" {
			break
		}
	}
	sub.wantQuiet()
}

// TestStoreFailureIsNotWhatTheClientSent has the store fail at CONNECT and at SUBSCRIBE: the codes are those of a failure of
// the server, and so is what the log says.
func TestStoreFailureIsNotWhatTheClientSent(t *testing.T) {
	t.Parallel()
	log := make(lines, 1000)
	s := start(t, broker.Options{StoreTimeout: time.Second, Log: slog.New(slog.NewTextHandler(log, nil))})
	defer s.store.SetDown(nil)
	subscriber := s.connect(t, device("subscriber"))
	s.settled(t)
	s.store.SetDown(errors.New("no disk"))
	for range 2 { // while the failure is not known yet, and after that
		for version, code := range map[byte]byte{4: 3, 5: 0x88} {
			o := device("new")
			o.version = version
			c, ack := s.tryConnect(t, o)
			if ack.ReasonCode != code {
				t.Errorf("CONNACK of version %d = %#x, want %#x", version, ack.ReasonCode, code)
			}
			c.wantEnd(0)
		}
	}
	subscriber.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "a"}}})
	subscriber.wantEnd(0x80)
	for told := 0; told < 5; {
		select {
		case line := <-log:
			if strings.Contains(line, "for what the client sent") {
				t.Errorf("the log says %s", line)
			}
			if strings.Contains(line, `reason="the store fails"`) {
				told++
			}
		case <-time.After(patience):
			t.Fatalf("the log tells of the store for %d connections, want 5", told)
		}
	}
}

func TestAcknowledgementComesAfterTheStore(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	sub := s.connect(t, device("sub"))
	sub.subscribe(2, "t")
	p := s.connect(t, connectOptions{id: "pub"})
	s.settled(t)
	release := s.store.Hold()
	p.send(message("t", "1", 1, 1), message("t", "2", 2, 2))
	retained := message("r", "3", 1, 3)
	retained.FixedHeader.Retain = true
	p.send(retained)
	if pk := sub.want(packets.Publish); string(pk.Payload) != "1" { // nobody minds if it comes again
		t.Errorf("message %s, want 1", pk.Payload)
	}
	sub.wantQuiet()
	p.wantQuiet()
	release()
	p.want(packets.Puback)
	p.want(packets.Pubrec)
	p.want(packets.Puback)
	if pk := sub.want(packets.Publish); string(pk.Payload) != "2" {
		t.Errorf("message %s, want 2", pk.Payload)
	}
}

func TestCleanSessionsNeedNoStore(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	s.store.SetDown(errors.New("no disk"))
	c := s.connect(t, connectOptions{id: "a"})
	c.subscribe(2, "t")
	for i := range 3 {
		c.send(message("t", "x", byte(i), uint16(i+1)))
	}
	c.want(packets.Publish)
	c.want(packets.Publish)
	if got := s.items(t, 1); len(got) > 0 {
		t.Errorf("items %v of a clean session", got)
	}
}

func TestShadowMessagesSurviveKill(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, device("sub"))
	c.subscribe(1, delta, accepted)
	c.leave()
	eventually(t, "the client is away", func() bool {
		k, _ := s.Connection("sub")
		return !k.Connected
	})
	for i := range 3 {
		s.do(t, fmt.Sprintf(`{"state":{"desired":{"a":%d},"reported":{"a":-1}}}`, i))
	}
	s = s.kill(t, broker.Options{})
	c = s.again(t, device("sub"), true)
	for v := 1; v <= 3; v++ {
		for _, topic := range []string{accepted, delta} {
			if pk := c.wantMessage(topic); field[int](t, pk.Payload, "version") != v {
				t.Errorf("%s: %s, want version %d", topic, pk.Payload, v)
			}
		}
	}
	c.wantQuiet()
}

// TestOutboxFillsWhatTheSessionsMiss commits updates whose messages are not stored any more.
func TestOutboxFillsWhatTheSessionsMiss(t *testing.T) {
	t.Parallel()
	items := &brittle{Store: memstore.New(statestore.Options{})}
	s := startOn(t, broker.Options{}, items, true)
	c := s.connect(t, device("sub"))
	c.subscribe(1, delta)
	c.leave()
	eventually(t, "the client is away", func() bool {
		k, _ := s.Connection("sub")
		return !k.Connected
	})
	s.do(t, `{"state":{"desired":{"a":1}}}`)
	s.settled(t)
	items.broken.Store(true)
	s.do(t, `{"state":{"desired":{"a":2}}}`)
	s.store.SetDown(errKilled)
	items.broken.Store(false)
	s = s.kill(t, broker.Options{})
	c = s.again(t, device("sub"), true)
	for v := 1; v <= 2; v++ {
		if pk := c.wantMessage(delta); field[int](t, pk.Payload, "version") != v {
			t.Errorf("delta %s, want version %d", pk.Payload, v)
		}
	}
	c.wantQuiet()
}

// TestReplayDoublesNothing kills a server that has stored everything but the note that it has.
func TestReplayDoublesNothing(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]broker.Options{"in memory": {}, "in the store": tight} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replayDoublesNothing(t, o)
		})
	}
}

func replayDoublesNothing(t *testing.T, o broker.Options) {
	t.Helper()
	s := startOn(t, o, &forgetful{memstore.New(statestore.Options{})}, true)
	c := s.connect(t, device("sub"))
	c.subscribe(1, update+"/#")
	c.leave()
	eventually(t, "the client is away", func() bool {
		k, _ := s.Connection("sub")
		return !k.Connected
	})
	s.do(t, `{"state":{"desired":{"a":1}}}`)
	s.do(t, `{"state":{"desired":{"a":2}}}`)
	s.settled(t)
	s = s.kill(t, o)
	c = s.again(t, device("sub"), true)
	for range 2 {
		for _, topic := range []string{accepted, delta, update + "/documents"} {
			c.wantMessage(topic)
		}
	}
	c.wantQuiet()
}

// forgetful is a store that does not note what was announced.
type forgetful struct{ statestore.Store }

func (*forgetful) Announced(context.Context, []statestore.Mark) error { return nil }

func TestQueuePolicies(t *testing.T) {
	t.Parallel()
	validator, err := schemas.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, refuses := range []bool{false, true} {
		s := start(t, broker.Options{Limits: broker.Limits{QueueMessages: 2, QueueRefuses: refuses}})
		c := s.connect(t, device("sub"))
		c.subscribe(1, "t")
		c.leave()
		eventually(t, "the client is away", func() bool {
			k, _ := s.Connection("sub")
			return !k.Connected
		})
		operator := s.connect(t, connectOptions{id: "operator"})
		operator.subscribe(1, "$aws/events/queue/+/+")
		p := s.connect(t, connectOptions{id: "pub"})
		var codes []byte
		for i := range 3 {
			p.send(message("t", fmt.Sprint(i), 1, uint16(i+1)))
			codes = append(codes, p.want(packets.Puback).ReasonCode)
		}
		want, first := byte(0), "2"
		if refuses {
			want, first = 0x97, "0"
			v3 := s.connect(t, connectOptions{id: "v3", version: 4})
			v3.send(message("t", "3", 1, 1))
			v3.wantEnd(0)
		} else {
			p.publish(message("t", "4", 1, 9))
		}
		kind, dropped := "dropped", 1
		if refuses {
			kind, dropped = "refused", 0
		}
		event := operator.wantMessage("$aws/events/queue/" + kind + "/sub").Payload
		if field[string](t, event, "eventType") != kind || field[int](t, event, "messagesQueued") != 2 || field[int](t, event, "messagesDropped") != dropped {
			t.Errorf("refuses %t: event %s", refuses, event)
		}
		if err := validator.Validate("queue-event", event); err != nil {
			t.Error(err)
		}
		operator.wantQuiet() // the second one is within a minute
		if codes[2] != want {
			t.Errorf("refuses %t: PUBACK = %#x, want %#x", refuses, codes[2], want)
		}
		s = s.kill(t, broker.Options{})
		c = s.again(t, device("sub"), true)
		if pk := c.wantMessage("t"); string(pk.Payload) != first {
			t.Errorf("refuses %t: first message is %s, want %s", refuses, pk.Payload, first)
		}
		c.wantMessage("t")
		c.wantQuiet()
	}
}

// TestSessionsOnDisk is a restart with a real store.
func TestSessionsOnDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "db")
	open := func() statestore.Store {
		store, err := pebblestore.Open(dir, statestore.Options{}, pebblestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	base := open()
	s := startOn(t, broker.Options{}, base, true)
	c := s.connect(t, device("sub"))
	c.subscribe(2, "t")
	c.leave()
	p := s.connect(t, connectOptions{id: "pub"})
	for i := range 100 {
		p.publish(message("t", fmt.Sprint(i), 1, uint16(i+1)))
	}
	s.stop()
	if err := base.Close(); err != nil {
		t.Fatal(err)
	}
	base = open()
	t.Cleanup(func() { _ = base.Close() })
	s = startOn(t, broker.Options{}, base, true)
	c = s.again(t, device("sub"), true)
	for i := range 100 {
		if pk := c.wantMessage("t"); string(pk.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %s, want %d", pk.Payload, i)
		}
	}
}

var _ things.Publisher = (*broker.Broker)(nil)

// brittle is a store whose items cannot be stored any more.
type brittle struct {
	statestore.Store
	broken atomic.Bool
}

func (b *brittle) Put(ctx context.Context, items []statestore.Item) error {
	if b.broken.Load() {
		return errKilled
	}
	return b.Store.Put(ctx, items)
}
