package session_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
)

var durableSteps = flag.Int("durable-steps", 20_000, "steps of each case of TestCrashes")

// disk is a store of the items of one session.
type disk map[string]string

func (d disk) apply(items []session.Item) {
	for _, it := range items {
		switch {
		case it.Value != nil:
			d[string(it.Key)] = string(it.Value)
		case it.Key != nil:
			delete(d, string(it.Key))
		default:
			clear(d)
		}
	}
}

func (d disk) items() []session.Item {
	var items []session.Item
	for _, k := range slices.Sorted(maps.Keys(d)) {
		items = append(items, session.Item{Key: []byte(k), Value: []byte(d[k])})
	}
	return items
}

func (d disk) restore(t *testing.T, now int64) (*session.Session, bool) {
	t.Helper()
	s, lost, err := session.Restore(session.Config{Durable: true}, d.items(), now)
	if err != nil {
		t.Fatal(err)
	}
	return s, lost
}

// save stores all changes of s.
func (d disk) save(s *session.Session) {
	_, items := s.Drain(nil, nil)
	d.apply(items)
	s.Stored()
}

// told is a message that the server has for the client.
type told struct {
	qos    byte
	stored bool
	times  int // delivered to the application
}

// sends is a QoS 2 message of the client.
type sends struct {
	number   uint64
	received bool // the PUBREC came
}

// crashes is a client that keeps the rules and its state, and a server that stores, and crashes, and keeps what was
// stored. It checks exactly once both ways.
type crashes struct {
	t   *testing.T
	rnd *rand.Rand
	s   *session.Session
	now int64

	disk  disk
	batch []session.Item // drained and not yet stored, nil for none
	busy  bool           // there is a batch

	count   uint64
	told    map[uint64]*told // by number
	drained uint64           // messages up to this one are in the batch
	highest uint64

	online   bool
	toClient []session.Packet
	toServer []packet
	known    map[uint16]bool // by the client: QoS 2 before the PUBREL

	sent    uint64            // messages of the client
	open    map[uint16]*sends // of the client, before the PUBCOMP
	routed  map[uint64]int    // number of the client's message: times it was routed
	undo    []uint64          // routed since the last Drain
	undo2   []uint64          // routed, and in the batch
	answers []packet          // of the server, that wait for the next Drain to be stored
	ready   []packet          // that wait for the batch to be stored
	fetched int               // messages that came back from the store
}

func TestCrashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			c := &crashes{
				t: t, rnd: rand.New(rand.NewPCG(seed, 3)), s: session.New(session.Config{Durable: true}), now: start,
				disk: disk{}, told: map[uint64]*told{}, known: map[uint16]bool{}, open: map[uint16]*sends{}, routed: map[uint64]int{},
			}
			c.connect(false)
			c.drain()
			c.store()
			for range *durableSteps {
				c.step()
			}
			c.finish()
		})
	}
}

func (c *crashes) step() {
	c.now += c.rnd.Int64N(3)
	switch n := c.rnd.IntN(1000); {
	case n < 100:
		c.enqueue()
	case n < 300:
		c.next()
	case n < 500:
		c.client()
	case n < 700:
		c.server()
	case n < 800:
		c.drain()
	case n < 900:
		c.store()
	case n < 960:
		c.publish()
	case n < 970:
		c.subscribe()
	case n < 972:
		if c.online {
			c.cut()
			c.s.Disconnect(c.now)
		}
	case n < 978:
		c.connect(true)
	case n < 982:
		c.crash()
	case n < 990:
		c.s.Spill(c.rnd.IntN(3))
	default:
		c.next()
	}
}

func (c *crashes) enqueue() {
	for range 1 + c.rnd.IntN(4) {
		if c.s.Len() > 40 {
			return
		}
		c.count++
		m := wire.Message{Topic: strconv.FormatUint(c.count, 10), Payload: bytes.Repeat([]byte("p"), c.rnd.IntN(20)), QoS: 2, Retain: c.rnd.IntN(2) == 0}
		if c.rnd.IntN(4) == 0 {
			m.Properties = &wire.Properties{ContentType: "x", HasContentType: true, User: []wire.UserProperty{{Key: "k", Value: "v"}}}
		}
		d := session.Delivery{Message: wire.NewMessage(m), QoS: byte(1 + c.rnd.IntN(2)), Retain: c.rnd.IntN(2) == 0}
		for range c.rnd.IntN(3) {
			d.Identifiers = append(d.Identifiers, c.rnd.Uint32N(1<<20))
		}
		c.s.Enqueue(d, c.now)
		c.told[c.count] = &told{qos: d.QoS}
	}
}

func (c *crashes) subscribe() {
	filter := fmt.Sprint("f", c.rnd.IntN(5))
	if c.rnd.IntN(3) == 0 {
		c.s.Unsubscribe(filter)
		return
	}
	c.s.Subscribe(filter, topic.Options{
		QoS: byte(c.rnd.IntN(3)), NoLocal: c.rnd.IntN(2) == 0, RetainAsPublished: c.rnd.IntN(2) == 0,
		RetainHandling: byte(c.rnd.IntN(3)), Identifier: c.rnd.Uint32N(1 << 28),
	})
}

func (c *crashes) next() {
	for range 1 + c.rnd.IntN(6) {
		pk, ok := c.s.Next(c.now)
		if !ok {
			c.supply(c.s.Missing(1+c.rnd.IntN(3), 1+c.rnd.Int64N(50)))
			return
		}
		c.toClient = append(c.toClient, pk)
	}
}

// supply brings spilled messages back.
func (c *crashes) supply(keys [][]byte) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = []byte(c.disk[string(key)])
	}
	if err := c.s.Supply(keys, values); err != nil {
		c.t.Fatalf("Supply(%q) = %v", keys, err)
	}
	c.fetched += len(keys)
}

// publish lets the client send a QoS 2 message.
func (c *crashes) publish() {
	id := uint16(1 + c.rnd.IntN(5))
	if c.open[id] != nil || !c.online {
		return
	}
	c.sent++
	c.open[id] = &sends{number: c.sent}
	c.toServer = append(c.toServer, packet{'P', id})
}

// client lets the client take a packet and answer it.
func (c *crashes) client() {
	if len(c.toClient) == 0 {
		return
	}
	pk := c.toClient[0]
	c.toClient = c.toClient[1:]
	id := pk.Publish.ID
	switch {
	case pk.Publish.Now < 0: // an answer to the client's own messages
		c.answered(pk.Publish.QoS, id)
	case pk.Message == nil:
		delete(c.known, id)
		c.toServer = append(c.toServer, packet{'C', id})
	case pk.Publish.QoS == 1:
		c.deliver(pk.Message)
		c.toServer = append(c.toServer, packet{'A', id})
	default:
		if !c.known[id] {
			c.known[id] = true
			c.deliver(pk.Message)
		}
		c.toServer = append(c.toServer, packet{'R', id})
	}
}

func (c *crashes) answered(kind byte, id uint16) {
	switch m := c.open[id]; kind {
	case 'r':
		m.received = true
		c.toServer = append(c.toServer, packet{'L', id})
	case 'c':
		delete(c.open, id)
	}
}

func (c *crashes) deliver(m *wire.Message) {
	n, err := strconv.ParseUint(m.Topic, 10, 64)
	d := c.told[n]
	if err != nil || d == nil {
		c.t.Fatalf("message %q, which there is not", m.Topic)
	}
	d.times++
	if d.qos == 2 && (!d.stored || d.times > 1) {
		c.t.Fatalf("message %d of QoS 2: stored %t, delivered %d times", n, d.stored, d.times)
	}
	if d.times == 1 && n < c.highest {
		c.t.Fatalf("message %d came after %d", n, c.highest)
	}
	c.highest = max(c.highest, n)
}

// server lets the server take a packet.
func (c *crashes) server() {
	if len(c.toServer) == 0 {
		return
	}
	p := c.toServer[0]
	c.toServer = c.toServer[1:]
	switch p.kind {
	case 'A':
		c.s.Acked(p.id)
	case 'R':
		c.s.Received(p.id, 0)
		c.answers = append(c.answers, packet{'l', p.id})
	case 'C':
		c.s.Completed(p.id)
	case 'P':
		if !c.s.InboundQoS2(p.id) {
			n := c.open[p.id].number
			c.routed[n]++
			c.undo = append(c.undo, n)
		}
		c.answers = append(c.answers, packet{'r', p.id})
	case 'L':
		c.s.Release(p.id)
		c.answers = append(c.answers, packet{'c', p.id})
	}
}

// drain begins to store what has changed.
func (c *crashes) drain() {
	if c.busy {
		return
	}
	_, c.batch = c.s.Drain(nil, nil)
	c.busy, c.drained = true, c.count
	c.ready, c.answers = c.answers, nil
	c.undo2, c.undo = c.undo, nil
}

// store ends it.
func (c *crashes) store() {
	if !c.busy {
		return
	}
	c.disk.apply(c.batch)
	c.busy, c.undo2 = false, nil
	c.s.Stored()
	for n := c.drained; n > 0 && c.told[n] != nil && !c.told[n].stored; n-- {
		c.told[n].stored = true
	}
	for _, p := range c.ready {
		pk := session.Packet{Publish: wire.Publish{ID: p.id, QoS: p.kind, Now: -1}}
		if p.kind == 'l' {
			pk.Publish.Now, pk.Publish.QoS = 0, 0
		}
		c.toClient = append(c.toClient, pk)
	}
	c.ready = nil
	if !c.s.Changed() {
		c.compare()
	}
}

// compare restores the session and requires it to be the same.
func (c *crashes) compare() {
	restored, lost := c.disk.restore(c.t, c.now)
	if lost != c.online {
		c.t.Fatalf("Restore() says that there was a connection: %t, want %t", lost, c.online)
	}
	if lost {
		restored.Connect(session.ConnectParams{Expiry: restored.Expiry()}, c.now)
	}
	if got, want := c.s.Bytes(), restored.Bytes(); got != want {
		c.t.Fatalf("Bytes() = %d with %d spilled, want %d", got, c.s.Spilled(), want)
	}
	for n := range c.told {
		c.supply(c.s.SpilledOn(strconv.FormatUint(n, 10)))
	}
	if c.s.Spilled() != 0 || c.s.Resident() != c.s.Bytes() {
		c.t.Fatalf("after all came back %d are spilled, %d of %d bytes resident", c.s.Spilled(), c.s.Resident(), c.s.Bytes())
	}
	if diff := cmp.Diff(c.s.Dump(), restored.Dump()); diff != "" {
		c.t.Fatalf("restored session (-want +got):\n%s", diff)
	}
}

func (c *crashes) cut() {
	c.online, c.toClient, c.toServer, c.answers, c.ready = false, nil, nil, nil, nil
}

func (c *crashes) connect(present bool) {
	c.cut()
	p := session.ConnectParams{Version: wire.V5, Expiry: 3600 + c.rnd.Uint32N(3), ReceiveMaximum: uint16(c.rnd.IntN(10))}
	if got := c.s.Connect(p, c.now); got != present {
		c.t.Fatalf("Connect() = %t, want %t", got, present)
	}
	c.online = true
	for _, id := range slices.Sorted(maps.Keys(c.open)) {
		kind := byte('P')
		if c.open[id].received {
			kind = 'L'
		}
		c.toServer = append(c.toServer, packet{kind, id})
	}
}

// crash ends the server. A batch that is being stored is stored or not.
func (c *crashes) crash() {
	if c.busy && c.rnd.IntN(2) == 0 {
		c.store()
	}
	for _, n := range append(c.undo, c.undo2...) {
		c.routed[n]--
	}
	c.undo, c.undo2, c.busy = nil, nil, false
	for n, d := range c.told {
		if !d.stored {
			delete(c.told, n) // its publisher has no acknowledgement
		}
	}
	c.cut()
	c.s, _ = c.disk.restore(c.t, c.now)
}

// finish lets everything come to its end and requires that nothing was lost and nothing is left.
func (c *crashes) finish() {
	c.connect(true)
	for range 1000 {
		c.drain()
		c.store()
		c.next()
		c.client()
		c.server()
	}
	for n := uint64(1); n <= c.count; n++ {
		if d := c.told[n]; d != nil && d.times == 0 {
			c.t.Errorf("message %d of QoS %d was lost", n, d.qos)
		}
	}
	for n := uint64(1); n <= c.sent; n++ {
		if c.routed[n] != 1 {
			c.t.Errorf("message %d of the client was routed %d times", n, c.routed[n])
		}
	}
	for i := range 5 {
		c.s.Unsubscribe(fmt.Sprint("f", i))
	}
	c.disk.save(c.s)
	if len(c.disk) != 1 {
		c.t.Errorf("left in the store: %q", slices.Sorted(maps.Keys(c.disk)))
	}
	if c.fetched == 0 {
		c.t.Error("no message came back from the store")
	}
	c.t.Logf("%d messages to the client, %d of them came back from the store, %d from it", c.count, c.fetched, c.sent)
}

func TestEndedSessionLeavesNothing(t *testing.T) {
	t.Parallel()
	clean, short := params(0), params(0)
	clean.CleanStart, clean.Expiry = true, 0
	short.Expiry = 0
	for name, end := range map[string]func(*session.Session){
		"clean start":             func(s *session.Session) { s.Connect(clean, start) },
		"no expiry any more":      func(s *session.Session) { s.Connect(short, start) },
		"disconnect with no time": func(s *session.Session) { s.SetExpiry(0); s.Disconnect(start) },
		"over":                    func(s *session.Session) { s.Disconnect(start); s.Forget() },
	} {
		s := session.New(session.Config{Durable: true})
		s.Connect(params(0), start)
		d := disk{}
		s.Subscribe("t", topic.Options{})
		s.BeginScan("t")
		s.InboundQoS2(1)
		put(s, 2, "a", "b")
		d.save(s)
		write(s)
		put(s, 1, "c")
		d.save(s)
		if len(d) != 9 {
			t.Errorf("%d items, want 9: %q", len(d), d)
		}
		put(s, 1, "d")
		end(s)
		d.save(s)
		if len(d) != 0 {
			t.Errorf("%s: left in the store: %q", name, d)
		}
	}
}

// TestScansSurvive restores a session from the store after each step of the delivery of retained messages.
func TestScansSurvive(t *testing.T) {
	t.Parallel()
	s := session.New(session.Config{Durable: true})
	s.Connect(params(0), start)
	d := disk{}
	want := func(filter, after string) {
		t.Helper()
		stored, _ := d.restore(t, start)
		for name, s := range map[string]*session.Session{"session": s, "stored session": stored} {
			sc, o, ok := s.Scan()
			if ok != (filter != "") || sc.Filter != filter || sc.After != after || ok && o.QoS != 1 {
				t.Errorf("Scan() of the %s = %+v, %+v, %t, want %q after %q", name, sc, o, ok, filter, after)
			}
		}
	}
	for _, filter := range []string{"a/#", "b/+", "c"} {
		s.Subscribe(filter, topic.Options{QoS: 1})
		s.BeginScan(filter)
	}
	d.save(s)
	want("a/#", "")
	s.Scanned("a/1")
	s.Scanned("a/2")
	d.save(s)
	want("a/#", "a/2")
	s.RepeatScan("a/#")
	s.RepeatScan("a/#")
	d.save(s)
	want("a/#", "a/2")
	s.ScannedAll()
	s.EndScan("b/+")
	s.EndScan("c")
	for _, filter := range []string{"a/#", "a/#", ""} { // twice more, from the first message on
		d.save(s)
		want(filter, "")
		if filter != "" {
			s.ScannedAll()
		}
	}
	s.RepeatScan("a/#")
	s.RepeatScan("a/#")
	s.BeginScan("a/#") // subscribed again
	d.save(s)
	want("a/#", "")
	s.ScannedAll()
	d.save(s)
	want("", "")
	s.BeginScan("a/#")
	s.BeginScan("c")
	s.Connect(params(0), start)
	s.Unsubscribe("a/#")
	d.save(s)
	want("c", "")
	s.EndScan("c")
	d.save(s)
	want("", "")
}

func TestOnlyDurableSessionsAreStored(t *testing.T) {
	t.Parallel()
	for expiry, durable := range map[uint32]bool{0: true, 3600: false} {
		s := session.New(session.Config{Durable: durable})
		s.Connect(session.ConnectParams{Expiry: expiry}, start)
		s.Subscribe("t", topic.Options{})
		s.InboundQoS2(1)
		put(s, 2, "a")
		expect(t, s, "a:1")
		s.Received(1, 0)
		s.Disconnect(start)
		if _, items := s.Drain(nil, nil); s.Changed() || len(items) > 0 {
			t.Errorf("expiry %d, durable %t: Changed() = %t, %d items", expiry, durable, s.Changed(), len(items))
		}
	}
}

func TestFastClientCostsNoItems(t *testing.T) {
	t.Parallel()
	s := session.New(session.Config{Durable: true})
	s.Connect(params(0), start)
	s.Drain(nil, nil)
	put(s, 1, "a")
	expect(t, s, "a:1")
	s.Acked(1)
	if _, items := s.Drain(nil, nil); len(items) != 0 {
		t.Errorf("%d items for a message that was acknowledged before they were drained", len(items))
	}
}

func TestQoS2WaitsForTheStore(t *testing.T) {
	t.Parallel()
	s := session.New(session.Config{Durable: true})
	s.Connect(params(0), start)
	put(s, 1, "a")
	put(s, 2, "b", "c")
	put(s, 1, "d")
	expect(t, s, "a:1")
	if !s.Waits() {
		t.Error("Waits() = false before the QoS 2 messages are stored")
	}
	s.Drain(nil, nil)
	expect(t, s)
	s.Stored()
	expect(t, s, "b:2", "c:3", "d:4")
	s.Received(2, 0)
	s.Connect(params(0), start)
	expect(t, s, "a:1 dup")
	s.Drain(nil, nil)
	s.Stored()
	expect(t, s, "pubrel 2", "c:3 dup", "d:4 dup")
	if s.Waits() {
		t.Error("Waits() = true after all is stored")
	}
}

func FuzzRestore(f *testing.F) {
	s := session.New(session.Config{Durable: true})
	s.Connect(params(0), start)
	s.Subscribe("t", topic.Options{QoS: 1, Identifier: 300})
	put(s, 2, "a")
	_, items := s.Drain(nil, nil)
	for _, it := range items {
		f.Add(it.Key, it.Value)
	}
	f.Fuzz(func(_ *testing.T, key, value []byte) {
		with := append([]session.Item{{Key: key, Value: value}}, items...)
		s, _, err := session.Restore(session.Config{}, with, start)
		if err == nil {
			s.Connect(params(0), start)
			write(s)
		}
	})
}
