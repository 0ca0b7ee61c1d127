// Package session is the state that a broker keeps for one client identifier, whether the client is
// connected or not: subscriptions, the queue of messages for it, what is in flight, and the state of QoS 2 both ways.
package session

import (
	"iter"

	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
)

// NeverExpires as ConnectParams.Expiry keeps a session for ever (MQTT 5, 3.1.2.11.2).
const NeverExpires = 1<<32 - 1

// Policy says what happens to a message for a session whose queue is full.
type Policy byte

// The policies.
const (
	DropNewest Policy = iota // the message that arrives is dropped: the publisher can be told (0x97)
	DropOldest               // messages that wait longest give way
)

// Config bounds a session; 0 means no limit.
type Config struct {
	MaxMessages int   // waiting or in flight
	MaxBytes    int64 // of messages waiting or in flight, as [wire.Message.Size]
	Full        Policy
}

// ConnectParams are what a CONNECT packet says about its session.
type ConnectParams struct {
	Version           wire.Version
	CleanStart        bool   // forget what was kept (MQTT 3.1.1: clean session)
	ReceiveMaximum    uint16 // QoS 1 and 2 messages in flight to the client at most; 0 stands for 65535
	MaximumPacketSize uint32 // bytes; 0 for no limit
	Expiry            uint32 // seconds that the session outlives the connection, or NeverExpires
}

// Delivery is a message for this session. QoS 0 never comes here.
type Delivery struct {
	Message     *wire.Message
	QoS         byte // 1 or 2: the lower of the message's and the subscription's
	Retain      bool // flag to deliver
	Identifiers []uint32
}

// Outcome is what became of a delivery.
type Outcome byte

// The outcomes of Enqueue.
const (
	Queued   Outcome = iota + 1
	Replaced         // queued; older messages were dropped for it
	Full             // dropped: no room
	Expired          // dropped: its time is over
)

// Packet is what to write next.
type Packet struct {
	Message *wire.Message // nil: a PUBREL packet
	Publish wire.Publish  // for a PUBREL only ID is set
}

// Append appends the packet as it goes over the wire.
func (p Packet) Append(dst []byte, v wire.Version) []byte {
	if p.Message == nil {
		return wire.AppendPubrel(dst, v, wire.Ack{ID: p.Publish.ID})
	}
	return wire.AppendPublish(dst, v, p.Message, p.Publish)
}

// Counters count dropped messages since the session began.
type Counters struct {
	Full     uint64 // for want of room
	Expired  uint64 // because their time was over before they were sent
	TooLarge uint64 // because the client takes no packet of that size [MQTT-3.1.2-25]
}

// Subscription is one of a session's subscriptions.
type Subscription struct {
	Filter string
	topic.Options
}

// Session is the state of one client identifier. Its methods must not be called concurrently.
type Session struct{}

// New returns a session without a connection.
func New(c Config) *Session { panic("not yet") }

// Connect begins a connection (also while another one lasts: takeover). present is false when nothing was kept, because the session
// is new, had expired, or p wants a clean start; the caller forgets its subscriptions then.
func (s *Session) Connect(p ConnectParams, now int64) (present bool) { panic("not yet") }

// Disconnect ends the connection.
func (s *Session) Disconnect(now int64) { panic("not yet") }

// Connected reports whether the session has a connection.
func (s *Session) Connected() bool { panic("not yet") }

// SetExpiry changes the expiry interval, as an MQTT 5 DISCONNECT can. Call it before Disconnect.
func (s *Session) SetExpiry(seconds uint32) { panic("not yet") }

// ExpiresAt returns when the session is over; ok is false while it is connected or when it never expires.
func (s *Session) ExpiresAt() (at int64, ok bool) { panic("not yet") }

// Fits reports whether Enqueue would take m without dropping anything.
func (s *Session) Fits(m *wire.Message, now int64) bool { panic("not yet") }

// Enqueue queues d behind the others.
func (s *Session) Enqueue(d Delivery, now int64) Outcome { panic("not yet") }

// Next returns the packet to write next; ok is false when there is none or the client's Receive Maximum is reached.
func (s *Session) Next(now int64) (p Packet, ok bool) { panic("not yet") }

// Acked takes a PUBACK and reports whether it was expected.
func (s *Session) Acked(id uint16) bool { panic("not yet") }

// Received takes a PUBREC and reports whether it was expected. Answer it with a PUBREL (reason 0x92 when it
// was not expected), unless reason is 0x80 or above: that ends the delivery.
func (s *Session) Received(id uint16, reason byte) bool { panic("not yet") }

// Completed takes a PUBCOMP and reports whether it was expected.
func (s *Session) Completed(id uint16) bool { panic("not yet") }

// InboundQoS2 takes the packet identifier of a QoS 2 PUBLISH from the client. A duplicate must not be routed again.
func (s *Session) InboundQoS2(id uint16) (duplicate bool) { panic("not yet") }

// Release takes a PUBREL (or a failed PUBLISH) and reports whether the identifier was in use.
func (s *Session) Release(id uint16) bool { panic("not yet") }

// Subscribe keeps a subscription and reports whether it replaced one.
func (s *Session) Subscribe(filter string, o topic.Options) (existed bool) { panic("not yet") }

// Unsubscribe forgets a subscription and reports whether there was one.
func (s *Session) Unsubscribe(filter string) bool { panic("not yet") }

// Subscriptions iterates over the subscriptions whose filters come after the filter after, in order.
func (s *Session) Subscriptions(after string) iter.Seq[Subscription] { panic("not yet") }

// Len returns the number of messages that wait.
func (s *Session) Len() int { panic("not yet") }

// InFlight returns the number of messages that were sent but are not acknowledged to the end.
func (s *Session) InFlight() int { panic("not yet") }

// Bytes returns the size of all messages held.
func (s *Session) Bytes() int64 { panic("not yet") }

// Counters returns the counts of dropped messages.
func (s *Session) Counters() Counters { panic("not yet") }
