package session

// smallest is the capacity that queues and windows begin with; what has grown beyond keep is given back
// when it is empty, so that a client that was away once does not cost memory for ever.
const (
	smallest = 8
	keep     = 64
)

// held is a delivery that the session holds.
type held struct {
	Delivery
	seq    uint64 // its place among all that the session ever held
	drain  uint64 // number of the Drain that takes it to the store, 0 for one that was restored
	change int    // its place among the changes until then

	spilled bool // the message is only in the store
	bytes   int  // of a spilled message
	expires int64
	topic   uint64 // its hash
}

// size returns the size of the message.
func (h *held) size() int64 {
	if h.spilled {
		return int64(h.bytes)
	}
	return int64(h.Message.Size())
}

// expiry returns when the message expires, 0 for never.
func (h *held) expiry() int64 {
	if h.spilled {
		return h.expires
	}
	return h.Message.Expires
}

func (h *held) expired(now int64) bool {
	e := h.expiry()
	return e != 0 && now >= e
}

// queue is a first-in first-out queue in a ring that grows by doubling. The zero queue is empty and has no memory.
type queue struct {
	ring []held // its length is 0 or a power of two
	head int    // of the oldest
	n    int
}

func (q *queue) len() int { return q.n }

// at returns the place of the i-th oldest.
func (q *queue) at(i int) *held { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *queue) push(h held) {
	if q.n == len(q.ring) {
		q.grow()
	}
	*q.at(q.n) = h
	q.n++
}

// pop removes the oldest. There must be one.
func (q *queue) pop() held {
	h := q.ring[q.head]
	q.ring[q.head] = held{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	if q.n == 0 && len(q.ring) > keep {
		*q = queue{}
	}
	return h
}

func (q *queue) grow() {
	ring := make([]held, max(smallest, 2*len(q.ring)))
	n := copy(ring, q.ring[q.head:])
	copy(ring[n:], q.ring[:q.head])
	q.ring, q.head = ring, 0
}
