// Package session is what a broker keeps for one client identifier, whether the client is connected or not:
// its subscriptions, the messages for it that wait, those in flight, and the state of QoS 2 both ways
// (MQTT 5, 4.1 and 4.4).
//
// A [Session] is a state machine without clock, lock, goroutine or socket. The caller brings the packets that
// arrived and the time, and writes what [Session.Next] says, in this order, until it says that there is nothing:
//
//	s.Enqueue(d, now)                      // the router has a message for the client
//	for p, ok := s.Next(now); ok; p, ok = s.Next(now) {
//		buf = p.Append(buf, version)
//	}
//	s.Acked(id)                            // a PUBACK arrived: there may be something to write again
//
// What Next returned counts as sent. When the connection ends before the acknowledgement, the next connection
// gets it again, in the original order, as a PUBLISH with DUP or, for QoS 2 after the PUBREC, as a PUBREL
// [MQTT-4.4.0-1], [MQTT-4.6.0-1]. It gets nothing again otherwise.
//
// QoS 0 needs no session: the caller writes such a message to the connection of a connected session, or drops
// it. It may overtake messages of another QoS (MQTT 5, 4.6).
package session

import (
	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
)

// All times are milliseconds since the Unix epoch.

// NeverExpires as an expiry interval keeps a session for ever (MQTT 5, 3.1.2.11.2).
const NeverExpires = 1<<32 - 1

// Config bounds a session; 0 means no limit. In a session that is full those messages give way that wait longest; see
// [Session.Fits] to refuse new ones instead.
type Config struct {
	MaxMessages int   // waiting or in flight
	MaxBytes    int64 // of messages waiting or in flight, as [wire.Message.Size]
	Durable     bool  // the session is to be stored as long as its expiry interval is not 0

	// Spare returns how many bytes the session may hold beside those that it holds already, because of what
	// others hold; it may be less than 0. nil means any number.
	Spare func() int64

	// Receives reports, when a message is about to be sent, whether the client may have it; nil allows all.
	Receives func(*wire.Message) bool
}

// ConnectParams are what a CONNECT packet says about its session.
type ConnectParams struct {
	Version           wire.Version
	CleanStart        bool   // forget what was kept (in MQTT 3.1.1: clean session)
	ReceiveMaximum    uint16 // how many QoS 1 and 2 messages the client takes at a time; 0 stands for 65535
	MaximumPacketSize uint32 // in bytes; 0 for no limit
	Expiry            uint32 // seconds that the session outlives its connection, or [NeverExpires]
}

// Counters count dropped messages since the session began.
type Counters struct {
	Full     uint64 // for want of room
	Expired  uint64 // because their time was over before they were sent [MQTT-3.3.2-5]
	Refused  uint64 // because the client may not have them
	TooLarge uint64 // because the client takes no packet of that size [MQTT-3.1.2-25]
}

// Session is the state of one client identifier. Its methods must not be called concurrently.
type Session struct {
	config   Config
	counters Counters

	begun     bool // by a first connection
	connected bool
	params    ConnectParams
	ended     int64 // when the last connection did

	subscriptions []Subscription // by filter
	scans         []Scan         // the first goes on
	inbound       map[uint16]Request

	waiting      queue
	waitingBytes int64
	spilled      int // how many of them have their message only in the store
	spilledBytes int64
	sweepAt      int64 // when a look for expired messages among the waiting ones is worth it; 0 never

	window      window
	windowBytes int64
	cursor      uint16 // packet identifier that the connection gets next; 0: it has got all
	unfinished  int    // deliveries begun on this connection, the measure of Receive Maximum

	seq uint64 // of the delivery that came last
	rec recorder
}

// New returns a session that had no connection yet.
func New(c Config) *Session {
	return &Session{config: c}
}

// Connect begins a connection, and ends the one before when that still lasts (takeover). It reports whether
// the session was there already (Session Present). If not, because it is new, had expired, or a clean start was asked
// for, everything was forgotten: a caller that has a part of it elsewhere, such as subscriptions in an index, looks
// for it before.
func (s *Session) Connect(p ConnectParams, now int64) (present bool) {
	if s.connected {
		s.Disconnect(now)
	}
	present = s.begun && !p.CleanStart && !s.Over(now)
	if !present {
		s.rec.stop()
		*s = Session{config: s.config, begun: true, rec: s.rec}
		s.rec.on = s.config.Durable && p.Expiry > 0
	}
	if p.ReceiveMaximum == 0 {
		p.ReceiveMaximum = 65535
	}
	s.connected, s.params = true, p
	s.SetExpiry(p.Expiry)
	s.cursor, s.unfinished = s.window.first, 0
	for id := s.window.first; id != 0; id = s.window.at(id).next {
		s.window.at(id).begun = false
	}
	return present
}

// Disconnect ends the connection.
func (s *Session) Disconnect(now int64) {
	s.connected, s.ended = false, now
	s.rec.meta = s.rec.on
}

// Connected reports whether the session has a connection.
func (s *Session) Connected() bool { return s.connected }

// Expiry returns the expiry interval in seconds.
func (s *Session) Expiry() uint32 { return s.params.Expiry }

// SetExpiry changes the expiry interval, as an MQTT 5 DISCONNECT can. A session that gets 0 is not stored any more,
// unless some of its messages are only in the store.
func (s *Session) SetExpiry(seconds uint32) {
	s.params.Expiry = seconds
	if seconds == 0 && s.rec.on && s.spilled == 0 {
		s.rec.stop()
	}
	s.rec.meta = s.rec.on
}

// ExpiresAt returns when the session is over; ok is false while it is connected, and for one that never expires.
func (s *Session) ExpiresAt() (at int64, ok bool) {
	if s.connected || s.params.Expiry == NeverExpires {
		return 0, false
	}
	return s.ended + int64(s.params.Expiry)*1000, true
}

// Ended returns when the last connection ended.
func (s *Session) Ended() int64 { return s.ended }

// Over reports whether the session has expired, so that nothing of it need be kept.
func (s *Session) Over(now int64) bool {
	at, ok := s.ExpiresAt()
	return ok && now >= at
}

// Len returns the number of messages that wait.
func (s *Session) Len() int { return s.waiting.len() }

// InFlight returns the number of messages that were sent but not acknowledged to the end.
func (s *Session) InFlight() int { return s.window.n }

// Bytes returns the size of all messages held. One that several sessions hold counts in each.
func (s *Session) Bytes() int64 { return s.waitingBytes + s.windowBytes }

// Resident returns the size of all messages held in memory.
func (s *Session) Resident() int64 { return s.Bytes() - s.spilledBytes }

// Spilled returns how many of the messages that wait are only in the store.
func (s *Session) Spilled() int { return s.spilled }

// Counters returns the counts of dropped messages.
func (s *Session) Counters() Counters { return s.counters }

// Subscription is one of a session's subscriptions.
type Subscription struct {
	Filter string
	topic.Options
}
