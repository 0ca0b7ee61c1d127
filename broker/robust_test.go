package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/test/packetio"
)

// It breaks the decoder.
func TestSubscribeWithoutOptionsEndsItsConnectionOnly(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	other := s.connect(t, connectOptions{id: "other"})
	c := s.connect(t, connectOptions{id: "c", edit: withWill("will", "x", nil)})
	other.subscribe(0, "will")
	c.write([]byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}) // a subscription without its options
	c.wantEnd(0x81)
	other.wantMessage("will")
	other.ping()
	s.connect(t, connectOptions{id: "c"}).ping()
	if n := s.Stats().Panics; n != 0 {
		t.Errorf("panics = %d, want 0", n)
	}
}

func TestHugePacketIsRefusedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for _, version := range []byte{4, 5} {
		c := s.connect(t, connectOptions{id: "c", version: version})
		c.write([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F})
		c.wantEnd(0x95)
	}
	c := s.dial(t, 5)
	c.write([]byte("\x10\xFF\xFF\xFF\x7F\x00\x04MQTT\x05"))
	if code := c.want(packets.Connack).ReasonCode; code != 0x95 {
		t.Errorf("CONNACK = %#x, want 0x95", code)
	}
	c.wantEnd(0)
	c = s.connect(t, connectOptions{id: "c"})
	c.send(message("a", strings.Repeat("x", 1<<20), 1, 1))
	finish(c, 1, 1)
}

func TestConnectRules(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for _, tt := range []struct {
		name string
		o    connectOptions
		code byte
	}{
		{"long id", connectOptions{id: strings.Repeat("x", 129)}, 0x85},
		{"long id, 3.1.1", connectOptions{id: strings.Repeat("x", 129), version: 4}, 2},
		{"no id but a session, 3.1.1", connectOptions{version: 4, keep: true}, 2},
		{"keep-alive that overflows", connectOptions{id: "a", edit: func(pk *packets.Packet) { pk.Connect.Keepalive = 43691 }}, 0},
		{"no id", connectOptions{}, 0},
		{"extended authentication", connectOptions{id: "a", edit: func(pk *packets.Packet) { pk.Properties.AuthenticationMethod = "x" }}, 0x8C},
		{"version 6", connectOptions{id: "a", version: 6}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, ack := s.tryConnect(t, tt.o)
			if ack.ReasonCode != tt.code {
				t.Fatalf("CONNACK = %#x, want %#x", ack.ReasonCode, tt.code)
			}
			if tt.code != 0 {
				c.wantEnd(0)
				return
			}
			c.ping()
			if tt.o.id == "" && ack.Properties.AssignedClientID == "" {
				t.Error("no client id assigned")
			}
		})
	}
	second := s.connect(t, connectOptions{id: "second"})
	second.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, ClientIdentifier: "x"},
	})
	second.wantEnd(0x82)
}

func TestConnackTellsTheLimits(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{KeepAlive: 60 * time.Second, SessionExpiry: time.Hour, PayloadBytes: 1000, ReceiveMaximum: 5}})
	_, ack := s.tryConnect(t, connectOptions{id: "c", expiry: 1 << 31, edit: func(pk *packets.Packet) { pk.Connect.Keepalive = 120 }})
	p := ack.Properties
	if p.ServerKeepAlive != 60 || p.SessionExpiryInterval != 3600 || p.MaximumPacketSize != 2024 || p.ReceiveMaximum != 5 || p.TopicAliasMaximum != 16 {
		t.Errorf("CONNACK properties = %+v", p)
	}
}

func TestReceiveMaximumOfTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{ReceiveMaximum: 2}})
	c := s.connect(t, connectOptions{id: "c"})
	for id := range uint16(2) {
		c.send(message("a", "x", 2, id+1))
		c.want(packets.Pubrec)
	}
	c.send(message("a", "x", 1, 3))
	c.wantEnd(0x93)

	old := s.connect(t, connectOptions{id: "old", version: 4}) // it cannot know, and is read more slowly
	release := s.store.Hold()
	defer release()
	for id := range uint16(20) {
		old.send(message(update, `{"state":{}}`, 1, id+1))
	}
	eventually(t, "commit under way", func() bool { return s.store.Held() == 1 })
	if n := s.Stats().Requests; n > 2 {
		t.Errorf("requests under way = %d, want at most 2", n)
	}
	release()
	for id := range uint16(20) {
		finish(old, 1, id+1)
	}
}

func TestKeepAliveTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	events := s.connect(t, connectOptions{id: "events"})
	events.subscribe(0, "$aws/events/presence/disconnected/#")
	c := s.connect(t, connectOptions{id: "c", edit: func(pk *packets.Packet) { pk.Connect.Keepalive = 1 }})
	begin := time.Now()
	c.wantEnd(0x8D)
	if d := time.Since(begin); d < 1400*time.Millisecond {
		t.Errorf("closed after %v, want 1.5 s", d)
	}
	pk := events.wantMessage("$aws/events/presence/disconnected/c")
	if got := field[string](t, pk.Payload, "disconnectReason"); got != "MQTT_KEEP_ALIVE_TIMEOUT" {
		t.Errorf("disconnectReason = %s", got)
	}
}

func TestConnectDeadline(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{ConnectTimeout: 50 * time.Millisecond}})
	c := s.dial(t, 5)
	c.write([]byte{0x10})
	c.wantEnd(0)
	c = s.connect(t, connectOptions{id: "c"})
	c.wantQuiet()
	c.ping()
}

func TestFilterOfManyLevels(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "c"})
	for _, tt := range []struct {
		filter string
		code   byte
	}{
		{strings.Repeat("a/", 32000) + "a", 0x97},
		{"a/#/b", 0x8F},
		{"a+", 0x8F},
		{"", 0x8F},
		{"$share/g", 0x8F},
		{"$share/+/a", 0x8F},
		{lamp + "foo", 0x8F},
		{"$aws/things/a b/shadow/update", 0x8F},
		{update + "/extra", 0},
		{"$aws/things/lamp/jobs/notify", 0x8F},
	} {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: tt.filter}}})
		if ack := c.want(packets.Suback); ack.ReasonCodes[0] != tt.code {
			t.Errorf("SUBACK for %.40q = %#x, want %#x", tt.filter, ack.ReasonCodes[0], tt.code)
		}
	}
	old := s.connect(t, connectOptions{id: "old", version: 4})
	old.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "a+"}, {Filter: "a", Qos: 2}}})
	if ack := old.want(packets.Suback); !bytes.Equal(ack.ReasonCodes, []byte{0x80, 2}) {
		t.Errorf("SUBACK = %#x, want 0x80 and 2", ack.ReasonCodes)
	}
}

func TestSlowReaderHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{OutgoingBytes: 64 << 10, QueueMessages: 100000}})
	slow := s.connect(t, connectOptions{id: "slow"})
	slow.subscribe(0, "zero")
	slow.subscribe(1, "one")
	fast := s.connect(t, connectOptions{id: "fast"})
	fast.subscribe(1, "one")
	pub := s.connect(t, connectOptions{id: "pub"})
	payload := strings.Repeat("x", 60<<10)
	n := 0
	for ; s.Stats().DroppedSlow == 0; n++ { // until all buffers on the way are full
		if n > 2000 {
			t.Fatal("QoS 0 is not dropped")
		}
		pub.send(message("zero", payload, 0, 0))
		pub.ping()
	}
	for i := range 50 {
		pub.send(message("one", fmt.Sprint(i, payload), 1, 1))
		finish(pub, 1, 1)
		fast.wantMessage("one")
	}
	got := 0
	for i := 0; i < 50; { // QoS 1 waits for its turn
		pk := slow.want(packets.Publish)
		slow.acknowledge(pk)
		if pk.TopicName == "zero" {
			got++
			continue
		}
		if !strings.HasPrefix(string(pk.Payload), fmt.Sprint(i)) {
			t.Fatalf("message %.10s, want %d", pk.Payload, i)
		}
		i++
	}
	if got >= n {
		t.Errorf("QoS 0 messages = %d of %d, want some dropped", got, n)
	}
}

func TestClientThatTakesNothingIsCutOff(t *testing.T) {
	t.Parallel()
	told := make(chan string, 100)
	s := start(t, broker.Options{
		Limits: broker.Limits{WriteTimeout: 200 * time.Millisecond, OutgoingBytes: 16 << 20},
		Log:    slog.New(slog.NewTextHandler(lines(told), nil)),
	})
	stuck := s.connect(t, connectOptions{id: "stuck"})
	stuck.subscribe(0, "a")
	pub := s.connect(t, connectOptions{id: "pub"})
	payload := strings.Repeat("x", 100<<10)
	for range 150 {
		pub.send(message("a", payload, 0, 0))
	}
	eventually(t, "cut off", func() bool { c, ok := s.Connection("stuck"); return !ok || !c.Connected })
	pub.ping()
	for line := ""; !strings.Contains(line, "the client reads nothing"); {
		select {
		case line = <-told:
		case <-time.After(patience):
			t.Fatal("the log says nothing of a client that was cut off")
		}
	}
}

// TestSlowClientThatPingsStays has a client take nothing for longer than its keep-alive, as one that has much to take and
// a slow network: what it sends shows that it is there.
func TestSlowClientThatPingsStays(t *testing.T) {
	t.Parallel()
	const (
		n         = 100 // at a time; more bytes than the system keeps for a connection
		keepAlive = 3 * time.Second
	)
	s := start(t, broker.Options{Limits: broker.Limits{QueueBytes: 1 << 30}})
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	slow := &raw{t, packetio.New(conn, 5)}
	slow.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "slow", Clean: true, Keepalive: uint16(keepAlive / time.Second)},
		Properties:  packets.Properties{ReceiveMaximum: n},
	})
	slow.want(packets.Connack)
	slow.subscribe(1, "a")
	var (
		mu    sync.Mutex // guards what follows, and the writing of slow
		pings int
	)
	send := func(pks ...packets.Packet) {
		mu.Lock()
		defer mu.Unlock()
		slow.send(pks...)
		if pks[0].FixedHeader.Type == packets.Pingreq {
			pings++
		}
	}
	ended := make(chan struct{})
	var pinging sync.WaitGroup
	pinging.Go(func() {
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			case <-ended:
				return
			}
		}
	})
	end := sync.OnceFunc(func() {
		close(ended)
		pinging.Wait()
	})
	defer end()
	pub := s.connect(t, connectOptions{id: "pub"})
	payload := strings.Repeat("x", 100<<10)
	for range 2 * n {
		pub.publish(message("a", payload, 1, 1))
	}
	pongs := 0
	take := func(more func(messages int) bool) (acks []packets.Packet) {
		for more(len(acks)) {
			switch pk, err := slow.next(patience); {
			case err != nil:
				t.Fatalf("after %d messages and %d answers to pings: %v", len(acks), pongs, err)
			case pk.FixedHeader.Type == packets.Publish:
				acks = append(acks, ackOf(packets.Puback, pk.PacketID))
			case pk.FixedHeader.Type == packets.Pingresp:
				pongs++
			default:
				t.Fatalf("packet type %d, %#x after %d messages", pk.FixedHeader.Type, pk.ReasonCode, len(acks))
			}
		}
		return acks
	}
	send(take(func(messages int) bool { return messages < n })...)
	<-time.After(2 * keepAlive) // nothing is taken
	end()
	take(func(messages int) bool { return messages < n || pongs < pings })
	slow.ping()
}

// valve accepts connections whose writes wait for leave.
type valve struct {
	net.Listener
	writes chan []byte   // what is to be written
	leave  chan struct{} // for one of them each
}

type valveConn struct {
	net.Conn
	l *valve
}

func (l *valve) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &valveConn{c, l}, err
}

func (c *valveConn) Write(b []byte) (int, error) {
	c.l.writes <- bytes.Clone(b)
	<-c.l.leave
	return c.Conn.Write(b)
}

// TestWhatOthersSendDoesNotKeepAClientFromBeingRead has a client that is always sent something: while that is written, what
// it sends is read.
func TestWhatOthersSendDoesNotKeepAClientFromBeingRead(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &valve{Listener: tcp, writes: make(chan []byte, 100), leave: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- s.ServeTCP(l) }()
	t.Cleanup(func() {
		close(l.leave)
		s.stop()
		<-served
	})
	other := s.connect(t, connectOptions{id: "other"})
	other.subscribe(0, "heard")
	s.addr = tcp.Addr().String()
	c := s.dial(t, 4)
	wrote := func(first byte) {
		t.Helper()
		select {
		case b := <-l.writes:
			if b[0] != first {
				t.Fatalf("the server writes %x, want a packet that begins with %#x", b, first)
			}
		case <-time.After(patience):
			t.Fatalf("the server does not write a packet that begins with %#x", first)
		}
	}
	c.write([]byte("\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"))
	wrote(0x20)
	l.leave <- struct{}{}
	c.write([]byte("\x82\x06\x00\x01\x00\x01a\x00"))
	wrote(0x90) // by who reads
	other.publish(message("a", "x", 1, 1))
	l.leave <- struct{}{}
	wrote(0x30) // and this not
	c.send(message("heard", "x", 0, 0))
	other.wantMessage("heard")
}

// stubborn accepts connections whose Close takes until it is let go.
type stubborn struct {
	net.Listener
	closing chan struct{} // gets one for each Close
	letGo   chan struct{}
}

type stubbornConn struct {
	net.Conn
	l *stubborn
}

func (l *stubborn) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &stubbornConn{c, l}, err
}

func (c *stubbornConn) Close() error {
	c.l.closing <- struct{}{}
	<-c.l.letGo
	return c.Conn.Close()
}

// TestCuttingAClientOffHoldsNobodyUp has the close of a connection take long, as TLS may.
func TestCuttingAClientOffHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{WriteTimeout: 200 * time.Millisecond, OutgoingBytes: 16 << 20}})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &stubborn{Listener: tcp, closing: make(chan struct{}, 100), letGo: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- s.ServeTCP(l) }()
	t.Cleanup(func() {
		close(l.letGo)
		s.stop()
		<-served
	})
	pub := s.connect(t, connectOptions{id: "pub"})
	s.addr = tcp.Addr().String()
	s.connect(t, connectOptions{id: "stuck"}).subscribe(0, "a")
	payload := strings.Repeat("x", 100<<10)
	for range 150 {
		pub.send(message("a", payload, 0, 0))
	}
	select {
	case <-l.closing:
	case <-time.After(patience):
		t.Fatal("the client is not cut off")
	}
	pub.send(message("a", payload, 1, 1))
	pub.want(packets.Puback)
}

// lines hands on what is written to it, as long as there is room.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

func TestMaximumPacketSizeOfTheClient(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	sub := s.connect(t, connectOptions{id: "sub", edit: func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = 100 }})
	sub.subscribe(1, "a")
	pub := s.connect(t, connectOptions{id: "pub"})
	for i, payload := range []string{"1", strings.Repeat("x", 200), "2"} {
		pub.send(message("a", payload, byte(i%2), uint16(i%2)))
		finish(pub, byte(i%2), 1)
	}
	if pk := sub.wantMessage("a"); string(pk.Payload) != "1" {
		t.Errorf("message = %s, want 1", pk.Payload)
	}
	if pk := sub.wantMessage("a"); string(pk.Payload) != "2" {
		t.Errorf("message = %s, want 2", pk.Payload)
	}
	if n := s.Stats().DroppedTooBig; n != 1 {
		t.Errorf("too big = %d, want 1", n)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	events := s.connect(t, connectOptions{id: "events"})
	events.subscribe(1, "$aws/events/+/+/dev")
	c := s.connect(t, connectOptions{id: "dev"})
	in := events.wantMessage("$aws/events/presence/connected/dev")
	if got := field[string](t, in.Payload, "ipAddress"); got != "127.0.0.1" {
		t.Errorf("ipAddress = %s", got)
	}
	c.subscribe(0, "a", "b/#")
	sub := events.wantMessage("$aws/events/subscriptions/subscribed/dev")
	if got := field[[]string](t, sub.Payload, "topics"); len(got) != 2 || got[0] != "a" || got[1] != "b/#" {
		t.Errorf("topics = %q", got)
	}
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "a"}}})
	c.want(packets.Unsuback)
	if got := field[[]string](t, events.wantMessage("$aws/events/subscriptions/unsubscribed/dev").Payload, "topics"); len(got) != 1 || got[0] != "a" {
		t.Errorf("topics = %q", got)
	}
	c.leave()
	out := events.wantMessage("$aws/events/presence/disconnected/dev")
	if got := field[string](t, out.Payload, "disconnectReason"); got != "CLIENT_INITIATED_DISCONNECT" || !field[bool](t, out.Payload, "clientInitiatedDisconnect") {
		t.Errorf("disconnected: %s", out.Payload)
	}
	for _, name := range []string{"sessionIdentifier", "clientId"} {
		if a, b := field[string](t, in.Payload, name), field[string](t, out.Payload, name); a != b || a == "" {
			t.Errorf("%s = %q and %q", name, a, b)
		}
	}
	if a, b := field[int](t, in.Payload, "versionNumber"), field[int](t, out.Payload, "versionNumber"); a != b {
		t.Errorf("versionNumber = %d and %d", a, b)
	}
	for _, id := range []string{"a/b", "a#", "a+"} {
		s.connect(t, connectOptions{id: id}).leave()
	}
	events.wantQuiet()
}

func TestConnectionsOfTheAPI(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	o := connectOptions{id: "c", keep: true, expiry: 100, edit: withWill("will", "x", func(pk *packets.Packet) { pk.Connect.Keepalive = 30 })}
	c := s.connect(t, o)
	c.subscribe(1, "b", "a", "c")
	watch := s.connect(t, connectOptions{id: "watch"})
	watch.subscribe(0, "will")
	got, ok := s.Connection("c")
	if !ok || !got.Connected || got.KeepAlive != 30*time.Second || got.SessionExpiry != 100*time.Second || got.ConnectedSince == 0 || got.Source != c.conn.LocalAddr().String() {
		t.Errorf("Connection = %+v, %v", got, ok)
	}
	if list, ok := s.Subscriptions("c", "a", 1); !ok || len(list) != 1 || list[0] != (broker.Subscription{Filter: "b", QoS: 1}) {
		t.Errorf("Subscriptions = %+v, %v", list, ok)
	}
	if !s.Disconnect("c", broker.DisconnectOptions{}) {
		t.Error("Disconnect = false")
	}
	c.wantEnd(0x98)
	watch.wantMessage("will")
	if got, ok := s.Connection("c"); !ok || got.Connected || got.DisconnectReason != "API_INITIATED_DISCONNECT" || got.DisconnectedSince == 0 {
		t.Errorf("Connection = %+v, %v", got, ok)
	}
	c = s.connect(t, o)
	if !s.Disconnect("c", broker.DisconnectOptions{CleanSession: true, PreventWill: true}) {
		t.Error("Disconnect = false")
	}
	c.wantEnd(0x98)
	watch.wantQuiet()
	if _, ok := s.Connection("c"); ok {
		t.Error("session is still there")
	}
	if s.Disconnect("c", broker.DisconnectOptions{}) {
		t.Error("Disconnect of nobody = true")
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Guard: guard(func(_ *auth.Principal, _ auth.Action, name string) bool {
		return name != "evil" && !strings.HasPrefix(name, "secret") && name != update
	})})
	if _, ack := s.tryConnect(t, connectOptions{id: "evil"}); ack.ReasonCode != 0x87 {
		t.Errorf("CONNACK = %#x, want 0x87", ack.ReasonCode)
	}
	if _, ack := s.tryConnect(t, connectOptions{id: "evil", version: 4}); ack.ReasonCode != 5 {
		t.Errorf("CONNACK = %#x, want 5", ack.ReasonCode)
	}
	if _, ack := s.tryConnect(t, connectOptions{id: "c", edit: withWill("secret", "x", nil)}); ack.ReasonCode != 0x87 {
		t.Errorf("CONNACK = %#x, want 0x87", ack.ReasonCode)
	}
	c := s.connect(t, connectOptions{id: "c"})
	for i, topic := range []string{"secret", update} {
		for qos := range byte(3) {
			c.send(message(topic, `{"state":{}}`, qos, uint16(i)*3+uint16(qos)))
			if qos == 0 {
				continue
			}
			if code := finish(c, qos, uint16(i)*3+uint16(qos)); code != 0x87 {
				t.Errorf("publish to %s with QoS %d = %#x, want 0x87", topic, qos, code)
			}
		}
	}
	for _, filter := range []string{"secret/#", "$share/g/secret"} {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: filter}}})
		if ack := c.want(packets.Suback); ack.ReasonCodes[0] != 0x87 {
			t.Errorf("SUBACK for %s = %#x, want 0x87", filter, ack.ReasonCodes[0])
		}
	}
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("requests = %d, want 0", n)
	}
}

// Random packets neither harm the server nor leave anything behind.
func TestGarbage(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	hello := s.dial(t, 5).encode(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "g", Clean: true},
	})
	for i := range 400 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		b := append(bytes.Clone(hello), byte(i*7), byte(i%5), byte(i), 0, byte(i>>3), byte(i*31), 2, byte(i*13))
		if i%4 == 0 {
			b[i%len(hello)] ^= byte(i)
		}
		_, _ = conn.Write(b)
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	eventually(t, "all gone", func() bool { n := s.Stats(); return n.Connections == 0 })
	s.connect(t, connectOptions{id: "c"}).ping()
}

// guard makes a function a guard.
type guard func(p *auth.Principal, a auth.Action, name string) bool

func (g guard) Rights(p *auth.Principal, _ auth.Link) auth.Rights { return rights{g, p} }

type rights struct {
	guard
	who *auth.Principal
}

func (rights) Timed(auth.Action) bool { return false }

func (r rights) Allows(a auth.Action, name string) bool { return r.guard(r.who, a, name) }
func (r rights) Shows(a auth.Action, name string) bool  { return r.guard(r.who, a, name) }

// users is an authenticator: every user has the password "secret".
type users struct{}

func (users) Recall(*auth.Principal) {}

func (users) Authenticate(_ context.Context, c *auth.Credentials) (*auth.Principal, error) {
	switch {
	case c.Username == "broken":
		return nil, auth.ErrUnavailable
	case string(c.Password) != "secret":
		return nil, auth.ErrDenied
	}
	return &auth.Principal{ID: auth.NewID(auth.User, c.Username), Kind: auth.User, Name: c.Username}, nil
}

// as makes a CONNECT packet that of a user.
func as(name, password string) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		p := &pk.Connect
		p.UsernameFlag, p.Username, p.PasswordFlag, p.Password = true, []byte(name), true, []byte(password)
	}
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Authenticator: users{}, Guard: guard(func(p *auth.Principal, _ auth.Action, _ string) bool { return p.Name == "alice" })})
	for _, test := range []struct {
		name, password string
		version, want  byte
	}{
		{"alice", "wrong", 5, 0x86},
		{"alice", "wrong", 4, 4},
		{"broken", "secret", 5, 0x88},
		{"broken", "secret", 4, 3},
		{"bob", "secret", 5, 0x87},
		{"alice", "secret", 5, 0},
		{"alice", "secret", 4, 0},
	} {
		_, ack := s.tryConnect(t, connectOptions{id: "c", version: test.version, edit: as(test.name, test.password)})
		if ack.ReasonCode != test.want {
			t.Errorf("CONNACK for %s with %s, MQTT %d = %#x, want %#x", test.name, test.password, test.version, ack.ReasonCode, test.want)
		}
	}
}
