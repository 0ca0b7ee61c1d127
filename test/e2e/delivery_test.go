package e2e_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

const (
	deliveryRounds = 20
	deliveryWindow = 8 // publishes of one client that are not acknowledged

	deliveryRetained = 200 // retained messages for collectors
)

// TestDelivery kills umbrad, and Redis, again and again while clients publish and subscribe, and holds it to what
// MQTT promises: whatever was acknowledged arrives, QoS 2 once, in order; sessions stay; wills are sent once.
func TestDelivery(t *testing.T) {
	t.Parallel()
	t.Run("pebble", func(t *testing.T) {
		t.Parallel()
		u := umbradtest.Start(t, "--queue-messages=1000000", "--store=pebble:"+filepath.Join(t.TempDir(), "db"))
		deliveryTest(t, u, func(int) {
			u.Kill()
			u.Restart()
		})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		redis := storetest.Redis(t)
		u := umbradtest.Start(t, "--queue-messages=1000000", "--store="+redis.URL, "--store-wait=30s", "--commit-timeout=1s")
		deliveryTest(t, u, func(round int) {
			if round%2 == 1 {
				redis.Kill()
				redis.Start()
				return
			}
			u.Kill()
			u.Restart()
		})
	})
}

func deliveryTest(t *testing.T, u *umbradtest.Umbrad, crash func(round int)) {
	t.Helper()
	d := startDelivery(t, u.MQTT())
	for round := range deliveryRounds {
		doomed := d.doomed(t)
		collected := d.collect(t)
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // the moment is what is random here
		crash(round)
		doomed.Abort()
		collected()
		d.verifyKept(t)
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
	d.finish(t)
}

// delivery is clients that publish and subscribe all the time, whatever becomes of the server.
type delivery struct {
	addr        string
	subscribers []*peer
	publishers  []*peer
	keeper      *peer // publishes retained messages
	wills       int
	collectors  int
}

// startDelivery lets the clients run until the end of the test.
func startDelivery(t *testing.T, addr string) *delivery {
	t.Helper()
	d := &delivery{
		addr:        addr,
		subscribers: []*peer{newPeer(t, "steady", addr, "d/#", "will/#"), newPeer(t, "flaky", addr, "d/#", "will/#")},
		publishers:  []*peer{newPeer(t, "one-a", addr), newPeer(t, "one-b", addr), newPeer(t, "two-a", addr), newPeer(t, "two-b", addr)},
		keeper:      newPeer(t, "keeper", addr),
	}
	d.subscribers[1].patience = 1000
	for i, p := range d.publishers {
		p.qos, p.topic = byte(1+i/2), "d/"+p.id
	}
	d.keeper.qos, d.keeper.topic, d.keeper.retain = 1, "kept", true
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	for _, p := range slices.Concat(d.subscribers, d.senders()) {
		wg.Go(func() { p.run(ctx) })
		p.await(t, "the first connection", func() bool { return p.connections > 0 })
	}
	d.retain(t)
	return d
}

// retain publishes what collectors collect.
func (d *delivery) retain(t *testing.T) {
	t.Helper()
	c := dial(t, d.addr, mqtttest.Options{})
	defer c.Close()
	for i := range deliveryRetained {
		m := mqtttest.Message{Topic: fmt.Sprint("r/", i), Payload: []byte("1"), QoS: 2, Retain: true}
		if _, err := c.Publish(wait(t), m); err != nil {
			t.Fatal(err)
		}
	}
}

// collect subscribes to retained messages, with a client that goes away and comes back. The returned function waits
// until it has all of them, each once, and forgets it.
func (d *delivery) collect(t *testing.T) (collected func()) {
	t.Helper()
	d.collectors++
	p := newPeer(t, fmt.Sprint("collector-", d.collectors), d.addr, "r/#")
	p.patience = deliveryRetained
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { p.run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	p.await(t, "its SUBACK", func() bool { return p.connections > 0 })
	return func() {
		p.await(t, "all retained messages", func() bool { return len(p.got) == deliveryRetained })
		cancel()
		wg.Wait()
		eventually(t, func() error {
			c, err := mqtttest.Dial(wait(t), d.addr, mqtttest.Options{ClientID: p.id})
			if err == nil {
				c.Close()
			}
			return err
		})
	}
}

// senders are all who publish.
func (d *delivery) senders() []*peer { return append(slices.Clone(d.publishers), d.keeper) }

// doomed connects a client with a will. What ends its connection has to send the will.
func (d *delivery) doomed(t *testing.T) *mqtttest.Client {
	t.Helper()
	d.wills++
	return dial(t, d.addr, mqtttest.Options{
		ClientID: fmt.Sprint("doomed-", d.wills),
		Will:     &mqtttest.Message{Topic: fmt.Sprint("will/", d.wills), Payload: []byte("1"), QoS: 2},
	})
}

// finish ends publishing, and waits until everything has arrived that has to.
func (d *delivery) finish(t *testing.T) {
	t.Helper()
	for _, p := range d.senders() {
		p.stop()
		p.await(t, "all acknowledgements", func() bool { return len(p.order) == 0 })
	}
	for _, s := range d.subscribers {
		for _, p := range d.publishers {
			s.await(t, "all of "+p.id, func() bool { return s.got[p.topic].highest == p.sent })
			t.Logf("%s: %s: %d messages, %d repeated", s.id, p.topic, p.sent, s.got[p.topic].repeated)
		}
		for n := 1; n <= d.wills; n++ {
			topic := fmt.Sprint("will/", n)
			s.await(t, topic, func() bool { return s.got[topic].highest == 1 })
		}
	}
}

// verifyKept checks that the retained message is not older than the last one that was acknowledged.
func (d *delivery) verifyKept(t *testing.T) {
	t.Helper()
	if kept := d.keeper.acknowledged(); kept > 0 {
		verifyKept(t, d.addr, kept)
	}
}

// verifyKept checks that the retained message is not older than the last one that was acknowledged.
func verifyKept(t *testing.T, addr string, least int) {
	t.Helper()
	eventually(t, func() error {
		c, err := mqtttest.Dial(wait(t), addr, mqtttest.Options{})
		if err != nil {
			return err
		}
		defer c.Abort()
		if _, err := c.Subscribe(wait(t), "kept"); err != nil {
			return err
		}
		m, err := c.Receive(wait(t))
		if err != nil {
			return err
		}
		if n, err := strconv.Atoi(string(m.Payload)); err != nil || n < least {
			t.Errorf("retained message is %s, %d was acknowledged", m.Payload, least)
		}
		return nil
	})
}

// peer is an MQTT 3.1.1 client that keeps its part of the session from one connection to the next.
type peer struct {
	t        *testing.T
	id, addr string
	filters  []string
	patience int // packets that it reads before it goes away without a word; 0 for all

	topic  string // that it publishes on, "" for none
	qos    byte
	retain bool

	mu          sync.Mutex // guards what follows
	conn        net.Conn
	connections int
	stopped     bool
	sent        int
	acked       int
	nextID      uint16
	order       []uint16             // identifiers of publishes under way
	flight      map[uint16]*outgoing // by identifier
	known       map[uint16]bool      // QoS 2 messages to it whose PUBREL has not come
	got         map[string]arrivals  // by topic
}

// arrivals is what came on a topic, whose messages are numbered from 1: all up to highest.
type arrivals struct{ highest, repeated int }

type outgoing struct {
	n        int
	received bool // the PUBREC came
	again    bool
}

func newPeer(t *testing.T, id, addr string, filters ...string) *peer {
	t.Helper()
	return &peer{
		t: t, id: id, addr: addr, filters: filters, flight: map[uint16]*outgoing{}, known: map[uint16]bool{},
		got: map[string]arrivals{},
	}
}

// run connects until ctx ends.
func (p *peer) run(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.addr)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			p.serve(conn)
			stop()
			_ = conn.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// serve runs one connection to its end.
func (p *peer) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: p.id, Keep: true})); err != nil {
		return
	}
	pk, err := mqtttest.ReadPacket(r, nil)
	if err != nil || pk.Type() != mqtttest.TypeConnack || pk.Body[1] != 0 {
		return
	}
	if !p.begin(conn, pk.Body[0] == 1) {
		return
	}
	left := p.patience
	if left > 0 {
		left = 1 + rand.IntN(left)
	}
	for {
		pk, err := mqtttest.ReadPacket(r, nil)
		if err != nil || !p.take(pk) {
			return
		}
		if left--; left == 0 {
			return
		}
	}
}

// begin goes on where the last connection has ended.
func (p *peer) begin(conn net.Conn, present bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = conn
	if p.connections > 0 && !present {
		p.t.Errorf("%s: the session is gone", p.id)
	}
	var out []byte
	if p.connections == 0 && len(p.filters) > 0 {
		body := []byte{0xff, 0xff}
		for _, f := range p.filters {
			body = append(binary.BigEndian.AppendUint16(body, uint16(len(f))), f...)
			body = append(body, 2)
		}
		out = append(append(out, 0x82, byte(len(body))), body...)
	} else {
		p.connections++
	}
	for _, id := range p.order {
		out = p.appendPublish(out, id)
	}
	return p.write(p.fill(out))
}

func (p *peer) appendPublish(out []byte, id uint16) []byte {
	f := p.flight[id]
	if f.received {
		return mqtttest.AppendAck(out, mqtttest.TypePubrel, id)
	}
	from := len(out)
	m := mqtttest.Message{Topic: p.topic, QoS: p.qos, Retain: p.retain, Payload: strconv.AppendInt(nil, int64(f.n), 10)}
	out = mqtttest.AppendPublish(out, mqtttest.V311, id, m)
	if f.again {
		out[from] |= 8 // DUP
	}
	f.again = true
	return out
}

// fill publishes as much as the window allows.
func (p *peer) fill(out []byte) []byte {
	for p.topic != "" && !p.stopped && len(p.order) < deliveryWindow {
		p.nextID = max(p.nextID+1, 1)
		p.sent++
		p.flight[p.nextID] = &outgoing{n: p.sent}
		p.order = append(p.order, p.nextID)
		out = p.appendPublish(out, p.nextID)
	}
	return out
}

func (p *peer) write(out []byte) bool {
	_ = p.conn.SetDeadline(time.Now().Add(patience))
	_, err := p.conn.Write(out)
	return err == nil
}

// take handles a packet; false ends the connection.
func (p *peer) take(pk mqtttest.Packet) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pk.Type() == mqtttest.TypePublish {
		return p.receive(pk)
	}
	id := binary.BigEndian.Uint16(pk.Body)
	switch pk.Type() {
	case mqtttest.TypePuback, mqtttest.TypePubcomp:
		p.finish(id)
		return p.write(p.fill(nil))
	case mqtttest.TypePubrec:
		p.flight[id].received = true
		return p.write(mqtttest.AppendAck(nil, mqtttest.TypePubrel, id))
	case mqtttest.TypePubrel:
		delete(p.known, id)
		return p.write(mqtttest.AppendAck(nil, mqtttest.TypePubcomp, id))
	case mqtttest.TypeSuback:
		p.connections++
	}
	return true
}

func (p *peer) finish(id uint16) {
	f := p.flight[id]
	if f == nil {
		p.t.Errorf("%s: acknowledgement of %d, which is not under way", p.id, id)
		return
	}
	p.acked = max(p.acked, f.n)
	delete(p.flight, id)
	for i := range p.order {
		if p.order[i] == id {
			p.order = append(p.order[:i], p.order[i+1:]...)
			break
		}
	}
}

func (p *peer) receive(pk mqtttest.Packet) bool {
	m, id, err := mqtttest.ParsePublish(mqtttest.V311, pk)
	if err != nil {
		p.t.Errorf("%s: %v", p.id, err)
		return false
	}
	if m.QoS == 1 {
		p.deliver(m)
		return p.write(mqtttest.AppendAck(nil, mqtttest.TypePuback, id))
	}
	if !p.known[id] {
		p.known[id] = true
		p.deliver(m)
	}
	return p.write(mqtttest.AppendAck(nil, mqtttest.TypePubrec, id))
}

// deliver gives a message to the application.
func (p *peer) deliver(m mqtttest.Message) {
	n, err := strconv.Atoi(string(m.Payload))
	if err != nil {
		p.t.Errorf("%s: %v", p.id, err)
	}
	a := p.got[m.Topic]
	switch {
	case n > a.highest+1:
		p.t.Errorf("%s: %s: %d came after %d: what is between them is lost", p.id, m.Topic, n, a.highest)
	case n <= a.highest && m.QoS == 2:
		p.t.Errorf("%s: %s: %d of QoS 2 came again", p.id, m.Topic, n)
	case n <= a.highest:
		a.repeated++
	}
	a.highest = max(a.highest, n)
	p.got[m.Topic] = a
}

func (p *peer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

func (p *peer) acknowledged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

func (p *peer) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventually(t, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !ok() {
			return fmt.Errorf("%s waits for %s", p.id, what)
		}
		return nil
	})
}
