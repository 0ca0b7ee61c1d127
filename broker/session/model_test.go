package session_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/wire"
)

var steps = flag.Int("steps", 300_000, "steps of each case of TestModel")

// sent is what the model knows of one message.
type sent struct {
	m         *wire.Message
	qos       byte
	id        uint16 // packet identifier, while in flight
	times     int    // that it was written
	delivered int    // to the application behind the client
}

// packet is one on its way to the server.
type packet struct {
	kind byte // 'A' PUBACK, 'R' PUBREC, 'C' PUBCOMP
	id   uint16
}

// model is the reference: a client that keeps the rules, a network that loses what is under way when a connection
// ends, and slices of what the session should hold.
type model struct {
	t   *testing.T
	rnd *rand.Rand
	cfg session.Config
	s   *session.Session
	now int64

	seq     uint64
	busy    int              // of a thousand steps, how many bring messages
	waiting []*sent          // in order
	flight  []*sent          // in the order of first sending, until the last acknowledgement
	ids     map[uint16]*sent // of flight
	pubrel  map[*sent]bool   // those of flight whose PUBREC arrived
	params  session.ConnectParams
	online  bool
	window  map[*sent]bool // begun on this connection
	again   []*sent        // still to come again on this connection
	drops   session.Counters
	wraps   int
	lastID  uint16

	toClient []session.Packet
	toServer []packet
	known    map[uint16]*sent // client: identifiers of QoS 2 before their PUBREL
	highest  uint64           // sequence of the latest first delivery
}

func TestModel(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]session.Config{
		"no limit":    {},
		"60 messages": {MaxMessages: 60},
		"600 bytes":   {MaxBytes: 600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &model{
				t: t, rnd: rand.New(rand.NewPCG(1, 7)), cfg: cfg, s: session.New(cfg), now: 1_000_000,
				ids: map[uint16]*sent{}, pubrel: map[*sent]bool{}, window: map[*sent]bool{}, known: map[uint16]*sent{},
			}
			m.connect()
			for i := range *steps {
				if i%500 == 0 {
					m.busy = []int{20, 140, 160, 400}[m.rnd.IntN(4)]
					if len(m.waiting) > 200 {
						m.busy = 20
					}
				}
				m.step()
				m.compare()
			}
			m.drain()
			t.Logf("%d messages, %d times round the identifiers, dropped %+v", m.seq, m.wraps, m.drops)
		})
	}
}

func (m *model) step() {
	if m.rnd.IntN(1000) < m.busy {
		for range 1 + m.rnd.IntN(5) {
			m.enqueue()
		}
		return
	}
	switch n := m.rnd.IntN(1000); {
	case n < 325:
		m.repeat(m.next)
	case n < 650:
		m.repeat(m.client)
	case n < 970:
		m.repeat(m.server)
	case n < 985:
		m.now += m.rnd.Int64N(1000)
	case n < 990:
		m.stray()
	case n < 992 && m.online:
		m.cut()
		m.s.Disconnect(m.now)
	default:
		m.connect() // a takeover, when online
	}
}

func (m *model) repeat(f func()) {
	for range 1 + m.rnd.IntN(12) {
		f()
	}
}

func (m *model) enqueue() {
	m.seq++
	msg := wire.Message{Topic: "t", Payload: make([]byte, m.rnd.IntN(40)), Sequence: m.seq}
	if m.rnd.IntN(5) == 0 {
		msg.Expires = m.now + m.rnd.Int64N(4000) - 200
	}
	p := &sent{m: wire.NewMessage(msg), qos: byte(1 + m.rnd.IntN(2))}
	hadRoom := m.room(p, m.waiting)
	got := m.s.Enqueue(session.Delivery{Message: p.m, QoS: p.qos}, m.now)
	if p.m.Expired(m.now) {
		m.drops.Expired++
		if got != session.Expired {
			m.t.Fatalf("Enqueue(%d) = %v, want expired", m.seq, got)
		}
		return
	}
	if !hadRoom { // the session may look for expired messages; how often it does is its own affair
		m.forgetExpired(int(m.s.Counters().Expired - m.drops.Expired))
	}
	want := session.Queued
	if !m.room(p, m.waiting) {
		want = session.Full
		if m.room(p, nil) {
			want = session.Replaced
		}
	}
	if got != want {
		m.t.Fatalf("Enqueue(%d) = %v, want %v", m.seq, got, want)
	}
	if want == session.Full {
		m.drops.Full++
		return
	}
	for !m.room(p, m.waiting) {
		m.waiting = m.waiting[1:]
		m.drops.Full++
	}
	m.waiting = append(m.waiting, p)
}

// room reports whether p may be held beside the messages in flight and the given waiting ones.
func (m *model) room(p *sent, waiting []*sent) bool {
	if m.cfg.MaxMessages > 0 && len(m.flight)+len(waiting) >= m.cfg.MaxMessages {
		return false
	}
	return m.cfg.MaxBytes == 0 || m.bytes(waiting)+int64(p.m.Size()) <= m.cfg.MaxBytes
}

// bytes returns the size of the messages in flight that are still held and of the given waiting ones.
func (m *model) bytes(waiting []*sent) int64 {
	var n int64
	for _, p := range waiting {
		n += int64(p.m.Size())
	}
	for _, p := range m.flight {
		if !m.pubrel[p] {
			n += int64(p.m.Size())
		}
	}
	return n
}

// forgetExpired removes all expired waiting messages, which must be n, unless the session did not look for them.
func (m *model) forgetExpired(n int) {
	if n == 0 {
		return
	}
	var kept []*sent
	for _, p := range m.waiting {
		if !p.m.Expired(m.now) {
			kept = append(kept, p)
		}
	}
	if len(m.waiting)-len(kept) != n {
		m.t.Fatalf("the session dropped %d expired messages of %d", n, len(m.waiting)-len(kept))
	}
	m.waiting = kept
	m.drops.Expired += uint64(n)
}

// expectAgain returns what the session has to send again next; nil when nothing may or need be.
func (m *model) expectAgain() *sent {
	for len(m.again) > 0 {
		p := m.again[0]
		switch {
		case m.window[p] || !m.inFlight(p):
			m.again = m.again[1:]
		case m.pubrel[p]:
			return p
		case len(m.window) >= int(m.params.ReceiveMaximum):
			return nil
		case m.tooLarge(p):
			m.drops.TooLarge++
			if p.qos == 2 {
				m.pubrel[p] = true
				return p
			}
			m.finish(p)
		default:
			return p
		}
	}
	return nil
}

// expectNew returns what the session has to send for the first time.
func (m *model) expectNew() *sent {
	for len(m.again) == 0 && len(m.waiting) > 0 && len(m.window) < int(m.params.ReceiveMaximum) {
		p := m.waiting[0]
		switch {
		case p.m.Expired(m.now):
			m.drops.Expired++
		case m.tooLarge(p):
			m.drops.TooLarge++
		default:
			return p
		}
		m.waiting = m.waiting[1:]
	}
	return nil
}

func (m *model) tooLarge(p *sent) bool {
	size := len(wire.AppendPublish(nil, m.params.Version, p.m, wire.Publish{QoS: p.qos}))
	return m.params.MaximumPacketSize > 0 && size > int(m.params.MaximumPacketSize)
}

func (m *model) inFlight(p *sent) bool { return slices.Contains(m.flight, p) }

// next lets the session send one packet, which must be the one that the slices say.
func (m *model) next() {
	pk, ok := m.s.Next(m.now)
	if !m.online {
		if ok {
			m.t.Fatalf("Next() = %+v without a connection", pk)
		}
		return
	}
	want := m.expectAgain()
	if want == nil {
		want = m.expectNew()
	}
	if ok != (want != nil) {
		m.t.Fatalf("Next() = %+v, %v, want packet: %v", pk, ok, want != nil)
	}
	if !ok {
		return
	}
	id := pk.Publish.ID
	if want.times == 0 {
		m.first(want, id)
	}
	if m.ids[id] != want {
		m.t.Fatalf("Next() has identifier %d, of another message", id)
	}
	switch {
	case m.pubrel[want] && pk.Message != nil:
		m.t.Fatalf("Next() = PUBLISH %d, want PUBREL after its PUBREC", want.m.Sequence)
	case !m.pubrel[want]:
		m.publish(want, pk)
	}
	m.window[want] = true
	m.toClient = append(m.toClient, pk)
}

// publish checks a PUBLISH packet.
func (m *model) publish(want *sent, pk session.Packet) {
	if pk.Message != want.m {
		m.t.Fatalf("Next() = message %+v, want %d", pk.Message, want.m.Sequence)
	}
	if pk.Publish.Dup != (want.times > 0) || pk.Publish.QoS != want.qos {
		m.t.Fatalf("Next() = %+v of a message written %d times", pk.Publish, want.times)
	}
	want.times++
	if len(m.window) >= int(m.params.ReceiveMaximum) {
		m.t.Fatalf("%d messages in hand, Receive Maximum %d", len(m.window)+1, m.params.ReceiveMaximum)
	}
}

func (m *model) first(p *sent, id uint16) {
	if id == 0 || m.ids[id] != nil {
		m.t.Fatalf("identifier %d is in use or 0", id)
	}
	if id < m.lastID {
		m.wraps++
	}
	m.lastID = id
	m.ids[id], p.id = p, id
	m.waiting = m.waiting[1:]
	m.flight = append(m.flight, p)
}

// client lets the client take one packet and answer it.
func (m *model) client() {
	if len(m.toClient) == 0 {
		return
	}
	pk := m.toClient[0]
	m.toClient = m.toClient[1:]
	id := pk.Publish.ID
	switch {
	case pk.Message == nil:
		delete(m.known, id)
		m.toServer = append(m.toServer, packet{'C', id})
	case pk.Publish.QoS == 1:
		m.deliver(m.ids[id])
		m.toServer = append(m.toServer, packet{'A', id})
	default:
		if m.known[id] == nil {
			m.known[id] = m.ids[id]
			m.deliver(m.ids[id])
		} else if m.known[id] != m.ids[id] {
			m.t.Fatalf("identifier %d was used again before it was free", id)
		}
		m.toServer = append(m.toServer, packet{'R', id})
	}
}

func (m *model) deliver(p *sent) {
	p.delivered++
	if p.delivered > p.times || p.qos == 2 && p.delivered > 1 {
		m.t.Fatalf("message %d of QoS %d delivered %d times", p.m.Sequence, p.qos, p.delivered)
	}
	if p.delivered > 1 {
		return
	}
	if p.m.Sequence < m.highest {
		m.t.Fatalf("message %d delivered after %d", p.m.Sequence, m.highest)
	}
	m.highest = p.m.Sequence
}

// server lets the session take one acknowledgement; now and then a later one overtakes.
func (m *model) server() {
	if len(m.toServer) == 0 {
		return
	}
	i := 0
	if m.rnd.IntN(20) == 0 {
		i = m.rnd.IntN(len(m.toServer))
	}
	a := m.toServer[i]
	m.toServer = append(m.toServer[:i], m.toServer[i+1:]...)
	p := m.ids[a.id]
	var ok bool
	switch a.kind {
	case 'A':
		ok = m.s.Acked(a.id)
		m.finish(p)
	case 'R':
		reason := byte(0)
		if m.rnd.IntN(50) == 0 && !m.pubrel[p] {
			reason = 0x97
			delete(m.known, a.id)
		}
		ok = m.s.Received(a.id, reason)
		if reason != 0 {
			m.finish(p)
			break
		}
		m.pubrel[p], m.window[p] = true, true
		m.toClient = append(m.toClient, session.Packet{Publish: wire.Publish{ID: a.id}})
	case 'C':
		ok = m.s.Completed(a.id)
		m.finish(p)
	}
	if !ok {
		m.t.Fatalf("acknowledgement %c %d was not expected", a.kind, a.id)
	}
}

// stray sends acknowledgements that belong to nothing; they must change nothing.
func (m *model) stray() {
	id := uint16(m.rnd.IntN(1 << 16))
	if len(m.flight) > 0 && m.rnd.IntN(2) == 0 {
		id = m.flight[m.rnd.IntN(len(m.flight))].id
	}
	p := m.ids[id]
	if (p == nil || p.qos == 2) && m.s.Acked(id) {
		m.t.Fatalf("Acked(%d) = true, want false", id)
	}
	if (p == nil || p.qos == 1) && m.s.Received(id, 0) {
		m.t.Fatalf("Received(%d) = true, want false", id)
	}
	if (p == nil || !m.pubrel[p]) && m.s.Completed(id) {
		m.t.Fatalf("Completed(%d) = true, want false", id)
	}
}

func (m *model) finish(p *sent) {
	delete(m.ids, p.id)
	for i, q := range m.flight {
		if p == q {
			m.flight = append(m.flight[:i:i], m.flight[i+1:]...)
			break
		}
	}
	delete(m.window, p)
	delete(m.pubrel, p)
}

// cut loses what is under way.
func (m *model) cut() {
	m.online, m.toClient, m.toServer = false, nil, nil
}

func (m *model) connect() {
	p := session.ConnectParams{Version: wire.V5, Expiry: session.NeverExpires}
	p.ReceiveMaximum = []uint16{1, 2, 3, 10, 30, 0, uint16(m.rnd.IntN(1 << 16))}[m.rnd.IntN(7)]
	if m.rnd.IntN(4) == 0 {
		p.Version = wire.V311
	}
	if m.rnd.IntN(4) == 0 {
		p.MaximumPacketSize = uint32(30 + m.rnd.IntN(30))
	}
	m.connectWith(p)
}

func (m *model) connectWith(p session.ConnectParams) {
	m.cut()
	begun := m.params != session.ConnectParams{}
	if got := m.s.Connect(p, m.now); got != begun {
		m.t.Fatalf("Connect() = %v, want %v", got, begun)
	}
	if p.ReceiveMaximum == 0 {
		p.ReceiveMaximum = 65535
	}
	m.params, m.online = p, true
	clear(m.window)
	m.again = append([]*sent(nil), m.flight...)
}

// compare checks the figures that the session gives of itself.
func (m *model) compare() {
	if m.s.InFlight() != len(m.flight) || m.s.Len() != len(m.waiting) {
		m.t.Fatalf("in flight %d, waiting %d, want %d, %d", m.s.InFlight(), m.s.Len(), len(m.flight), len(m.waiting))
	}
	if bytes := m.bytes(m.waiting); m.s.Bytes() != bytes || m.s.Counters() != m.drops {
		m.t.Fatalf("Bytes() = %d, Counters() = %+v, want %d, %+v", m.s.Bytes(), m.s.Counters(), bytes, m.drops)
	}
}

// drain connects with a client that takes everything and requires that nothing is left, and nothing is lost.
func (m *model) drain() {
	m.connectWith(session.ConnectParams{Version: wire.V5, Expiry: session.NeverExpires})
	left := append(append([]*sent(nil), m.flight...), m.waiting...)
	for range 10 * (len(left) + 1) {
		m.next()
		m.client()
		m.server()
	}
	if m.s.InFlight() != 0 || m.s.Len() != 0 || m.s.Bytes() != 0 {
		m.t.Fatalf("after draining: in flight %d, waiting %d, %d bytes", m.s.InFlight(), m.s.Len(), m.s.Bytes())
	}
	for _, p := range left {
		if p.delivered == 0 && p.times > 0 {
			m.t.Errorf("message %d was lost", p.m.Sequence)
		}
	}
}
