package broker

import (
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/wire"
)

// kind of the acknowledgement that a publish gets.
type ackKind byte

const (
	ackNone ackKind = iota // of QoS 0
	ackPuback
	ackPubrec
)

// ack is the place of one publish in an ackQueue.
type ack struct {
	id    uint16
	kind  ackKind
	ready bool
	dup   bool // of a publish that came before
	code  byte
	text  string
}

// idleRing is the largest ring that a queue keeps while it is empty.
const idleRing = 64

// ackQueue writes the acknowledgements of a connection in the order of the
// publishes [MQTT-4.6.0-2], [MQTT-4.6.0-3], however the outcomes come in, and
// bounds how many of them are open.
type ackQueue struct {
	c     *conn
	limit int

	mu    sync.Mutex // guards what follows
	space *sync.Cond
	ring  []ack  // its length is a power of two
	head  uint64 // number of the oldest open place
	tail  uint64 // number of the next place
	held  int    // QoS 1 and 2 publishes that are not acknowledged to the end
	ended bool
}

func (q *ackQueue) init(c *conn, limit int) {
	q.c, q.limit = c, limit
	q.space = sync.NewCond(&q.mu)
}

// take reserves the next place, waiting while too many are open. ok is false
// when the connection ends, or has to end because the client sent more than the
// Receive Maximum allows [MQTT-3.3.4-9].
func (q *ackQueue) take(kind ackKind, id uint16) (place uint64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if kind != ackNone && q.held >= q.limit && q.c.version >= wire.V5 {
		q.c.fail(causeOf(packets.ErrReceiveMaximum))
		return 0, false
	}
	q.wait()
	if q.ended {
		return 0, false
	}
	if int(q.tail-q.head) == len(q.ring) {
		q.grow()
	}
	place = q.tail
	q.tail++
	if kind != ackNone {
		q.held++
	}
	*q.at(place) = ack{id: id, kind: kind}
	return place, true
}

// wait waits until a place is free. mu is held.
func (q *ackQueue) wait() {
	full := func() bool { return int(q.tail-q.head) >= q.limit && !q.ended }
	if !full() {
		return
	}
	q.mu.Unlock()
	q.c.out.flush() // nobody else writes what this goroutine left
	q.mu.Lock()
	for full() {
		q.space.Wait()
	}
}

func (q *ackQueue) at(place uint64) *ack { return &q.ring[place&uint64(len(q.ring)-1)] }

func (q *ackQueue) grow() {
	ring := make([]ack, max(4, 2*len(q.ring)))
	for p := q.head; p < q.tail; p++ {
		ring[p&uint64(len(ring)-1)] = *q.at(p)
	}
	q.ring = ring
}

// done fills the place in and writes all acknowledgements whose turn it is.
// reader says that the caller is the reading goroutine of the connection.
func (q *ackQueue) done(place uint64, code byte, text string, reader bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.at(place)
	a.ready, a.code, a.text = true, code, text
	if place != q.head || q.ended {
		return
	}
	buf := q.c.out.open()
	for q.head < q.tail && q.at(q.head).ready {
		a := q.at(q.head)
		buf = q.c.appendAck(buf, a)
		if a.kind == ackPuback || a.kind == ackPubrec && (a.dup || a.code >= wire.ReasonFailure) {
			q.held--
		}
		q.head++
	}
	if q.head == q.tail && len(q.ring) > idleRing {
		q.ring = nil
	}
	q.c.out.shut(buf, reader)
	q.space.Signal()
}

// repeated marks the place as that of a QoS 2 publish that came before.
func (q *ackQueue) repeated(place uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.at(place).dup = true
}

// completed ends a QoS 2 publish.
func (q *ackQueue) completed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = max(0, q.held-1)
}

// stop wakes a waiting take. No acknowledgement is written any more.
func (q *ackQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.space.Signal()
}

func (c *conn) appendAck(dst []byte, a *ack) []byte {
	w := wire.Ack{ID: a.id, Reason: a.code, ReasonString: c.reasonString(a.text)}
	switch a.kind {
	case ackPuback:
		return wire.AppendPuback(dst, c.version, w)
	case ackPubrec:
		return wire.AppendPubrec(dst, c.version, w)
	default:
		return dst
	}
}
