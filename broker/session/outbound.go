package session

import "github.com/umbra-iot/umbra/broker/wire"

// sweepInterval is the shortest time in ms between two looks at all waiting messages for expired ones.
const sweepInterval = 1000

// Delivery is a message for this session, of QoS 1 or 2.
type Delivery struct {
	Message     *wire.Message
	QoS         byte // the lower of the message's and the subscription's
	Retain      bool // flag of the packet
	Identifiers []uint32
	Share       string // filter of the shared subscription that it came by, "" for another one
	Admitted    bool   // its publisher was told that there is room (Fits): it is queued, whoever has taken that meanwhile
}

// Outcome is what became of a delivery.
type Outcome byte

// The outcomes of [Session.Enqueue].
const (
	Queued   Outcome = iota + 1
	Replaced         // queued, and older messages were dropped for it
	Full             // dropped: there is no room
	Expired          // dropped: its time is over
)

// String returns the outcome's name as it is used in metrics and logs.
func (o Outcome) String() string {
	switch o {
	case Queued:
		return "queued"
	case Replaced:
		return "replaced"
	case Full:
		return "full"
	case Expired:
		return "expired"
	}
	return "unknown"
}

// Packet is what to write next.
type Packet struct {
	Message *wire.Message // nil: a PUBREL packet, with nothing but Publish.ID
	Publish wire.Publish
}

// Append appends the packet to dst.
func (p Packet) Append(dst []byte, v wire.Version) []byte {
	if p.Message == nil {
		return wire.AppendPubrel(dst, v, wire.Ack{ID: p.Publish.ID})
	}
	return wire.AppendPublish(dst, v, p.Message, p.Publish)
}

// Fits reports whether [Session.Enqueue] would take m without dropping another message.
func (s *Session) Fits(m *wire.Message, now int64) bool {
	if s.room(m.Size(), s.waiting.len(), s.waitingBytes) {
		return true
	}
	s.sweep(now)
	return s.room(m.Size(), s.waiting.len(), s.waitingBytes)
}

// room reports whether a message of size bytes can be held beside those in flight and so many waiting ones.
func (s *Session) room(size, waiting int, waitingBytes int64) bool {
	c := &s.config
	return (c.MaxMessages == 0 || s.window.n+waiting < c.MaxMessages) &&
		(c.MaxBytes == 0 || s.windowBytes+waitingBytes+int64(size) <= c.MaxBytes) &&
		(c.Spare == nil || int64(size) <= c.Spare()+s.waitingBytes-waitingBytes)
}

// Enqueue queues d behind the others and says what became of it.
func (s *Session) Enqueue(d Delivery, now int64) Outcome {
	if d.Message.Expired(now) || d.Message.Fleeting && !s.connected {
		s.counters.Expired++
		return Expired
	}
	outcome := Queued
	if !s.Fits(d.Message, now) && !d.Admitted {
		outcome = s.makeRoom(d.Message.Size())
	}
	if outcome == Full {
		s.counters.Full++
		return Full
	}
	s.seq++
	h := held{Delivery: d, seq: s.seq}
	s.rec.holds(&h)
	s.wait(h)
	return outcome
}

// wait puts h behind those that wait.
func (s *Session) wait(h held) {
	s.waiting.push(h)
	s.waitingBytes += h.size()
	if h.spilled {
		s.spilled++
		s.spilledBytes += h.size()
	}
	if e := h.expiry(); e != 0 && (s.sweepAt == 0 || e < s.sweepAt) {
		s.sweepAt = e
	}
}

// makeRoom drops the oldest waiting messages if that helps.
func (s *Session) makeRoom(size int) Outcome {
	if !s.room(size, 0, 0) {
		return Full
	}
	for !s.room(size, s.waiting.len(), s.waitingBytes) {
		h := s.take()
		s.rec.drops(&h)
		s.counters.Full++
	}
	return Replaced
}

// take removes the message that waits longest. There must be one.
func (s *Session) take() held {
	h := s.waiting.pop()
	s.waitingBytes -= h.size()
	if h.spilled {
		s.spilled--
		s.spilledBytes -= h.size()
	}
	return h
}

// sweep drops the waiting messages that have expired, unless it is too early to find any.
func (s *Session) sweep(now int64) {
	if s.sweepAt == 0 || now < s.sweepAt {
		return
	}
	s.sweepAt = 0
	for range s.waiting.len() {
		h := s.take()
		if h.expired(now) {
			s.counters.Expired++
			s.rec.drops(&h)
			continue
		}
		s.wait(h)
	}
	if s.sweepAt != 0 {
		s.sweepAt = max(s.sweepAt, now+sweepInterval)
	}
}

// Next returns the packet to write next. ok is false when there is none, when there is no connection, when
// the client has as many messages in hand as it wants [MQTT-3.3.4-9], so that an acknowledgement has to come first,
// and when something has to be stored first ([Session.Waits]).
func (s *Session) Next(now int64) (p Packet, ok bool) {
	if !s.connected {
		return p, false
	}
	for {
		if s.cursor == 0 || !s.window.at(s.cursor).sent {
			s.fill(now)
		}
		if s.cursor == 0 {
			return p, false
		}
		if p, ok, stop := s.nextInFlight(now); ok || stop {
			return p, ok
		}
	}
}

// fill gives identifiers to messages that wait, as many as have to be stored before they are sent, so that they are
// stored together, or else one. It stops at a message that has to be supplied.
func (s *Session) fill(now int64) {
	for s.waiting.len() > 0 && s.window.n < int(s.params.ReceiveMaximum) {
		if s.cursor != 0 && s.rec.durable(s.window.at(s.cursor).after) {
			return
		}
		if next := s.waiting.at(0); next.spilled && !next.expired(now) {
			return
		}
		h := s.take()
		switch {
		case h.expired(now):
			s.counters.Expired++
			s.rec.drops(&h)
		case s.tooLarge(h.Delivery):
			s.counters.TooLarge++
			s.rec.drops(&h)
		default:
			s.windowBytes += int64(h.Message.Size())
			f := s.window.add(h)
			s.rec.sends(f)
			if s.cursor == 0 {
				s.cursor = f.id
			}
		}
	}
}

// nextInFlight looks at the delivery that the connection gets next, and goes on to the next. stop is true
// when it has to wait. PUBREL packets are not held back because of Receive Maximum (MQTT 5, 4.9).
func (s *Session) nextInFlight(now int64) (p Packet, ok, stop bool) {
	f := s.window.at(s.cursor)
	switch {
	case f.begun: // the client acknowledged it before we came here
		s.cursor = f.next
		return p, false, false
	case !f.released && s.unfinished >= int(s.params.ReceiveMaximum):
		return p, false, true
	case !f.released && s.unfit(f.Delivery):
		if f.QoS == 1 || !f.sent {
			s.finish(f.id, f)
			return p, false, false
		}
		// The client may have it from an earlier connection. Without a PUBREL it would take the next
		// message with this identifier for the same one.
		s.release(f)
		return p, false, false
	case !s.rec.durable(f.after):
		s.rec.wanted = max(s.rec.wanted, f.after)
		return p, false, true
	case f.released:
		p.Publish.ID = f.id
	default:
		p = publish(f.Delivery, f.id, now, f.sent)
	}
	f.sent = true
	s.begin(f)
	s.cursor = f.next
	return p, true, false
}

func publish(d Delivery, id uint16, now int64, dup bool) Packet {
	return Packet{Message: d.Message, Publish: wire.Publish{
		ID: id, QoS: d.QoS, Dup: dup, Retain: d.Retain, Identifiers: d.Identifiers, Now: now,
	}}
}

// unfit reports whether d is not to be sent, and counts it then.
func (s *Session) unfit(d Delivery) bool {
	switch {
	case s.tooLarge(d):
		s.counters.TooLarge++
	case s.config.Receives != nil && !s.config.Receives(d.Message):
		s.counters.Refused++
	default:
		return false
	}
	return true
}

// tooLarge reports whether the client takes no packet of d's size [MQTT-3.1.2-24].
func (s *Session) tooLarge(d Delivery) bool {
	limit := int64(s.params.MaximumPacketSize)
	return limit != 0 && int64(wire.PublishSize(s.params.Version, d.Message, d.QoS, d.Identifiers)) > limit
}

// Acked takes a PUBACK and reports whether it was expected.
func (s *Session) Acked(id uint16) bool {
	f := s.window.at(id)
	if f == nil || f.QoS != 1 || !f.sent {
		return false
	}
	s.finish(id, f)
	return true
}

// Received takes a PUBREC and reports whether it was expected. A reason of 0x80 or above ends the delivery.
// Every other PUBREC is to be answered with a PUBREL, whose reason is 0x92 when it was not expected.
func (s *Session) Received(id uint16, reason byte) bool {
	f := s.window.at(id)
	if f == nil || f.QoS != 2 || !f.sent {
		return false
	}
	if reason >= wire.ReasonFailure {
		s.finish(id, f)
		return true
	}
	s.begin(f)
	s.release(f)
	return true
}

// Completed takes a PUBCOMP and reports whether it was expected.
func (s *Session) Completed(id uint16) bool {
	f := s.window.at(id)
	if f == nil || !f.released {
		return false
	}
	s.finish(id, f)
	return true
}

// begin notes that f is under way on this connection.
func (s *Session) begin(f *flight) {
	if !f.begun {
		f.begun = true
		s.unfinished++
	}
}

// release gives up the message of a QoS 2 delivery, of which only the PUBREL is left.
func (s *Session) release(f *flight) {
	if f.released {
		return
	}
	s.rec.releases(f)
	f.released = true
	s.windowBytes -= int64(f.Message.Size())
	f.Message, f.Identifiers = nil, nil
}

// finish forgets a delivery, whose identifier is free again.
func (s *Session) finish(id uint16, f *flight) {
	if f.begun {
		s.unfinished--
	}
	if f.Message != nil {
		s.windowBytes -= int64(f.Message.Size())
	}
	if s.cursor == id {
		s.cursor = f.next
	}
	s.rec.finishes(f)
	s.window.remove(id)
}
