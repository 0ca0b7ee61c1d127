package broker

import (
	"sync/atomic"

	"github.com/umbra-iot/umbra/broker/session"
)

// Stats are counts since the start, and gauges of now.
type Stats struct {
	Connections   int64 // now
	Sessions      int64 // now, connected or not
	Subscriptions int64 // now
	Retained      int64 // messages now
	RetainedBytes int64 // now
	QueuedBytes   int64 // of messages that wait in memory now
	HeldBytes     int64 // the same, with those that wait in the store alone

	Connected        int64 // CONNECT packets accepted
	ConnectsRefused  int64
	MessagesIn       int64 // PUBLISH packets, and messages of [Broker.PublishMessage]
	MessagesOut      int64 // PUBLISH packets
	BytesIn          int64
	BytesOut         int64
	Requests         int64 // shadow requests
	DroppedSlow      int64 // QoS 0 for a client that reads too slowly
	DroppedQueueFull int64 // QoS 1 and 2 for a client whose queue is full
	DroppedExpired   int64
	DroppedTooBig    int64 // above the Maximum Packet Size of a client
	Refused          int64 // messages that a client may not publish or receive, or refused because a queue is full
	NotRetained      int64 // messages that were to be retained, and were not for want of room
	Panics           int64 // connections that a defect has ended
}

type counters struct {
	connections, accepted, refused                          atomic.Int64
	messagesIn, messagesOut, bytesIn, bytesOut, requests    atomic.Int64
	droppedSlow, droppedFull, droppedExpired, droppedTooBig atomic.Int64
	forbidden, notRetained                                  atomic.Int64
}

// Stats returns a snapshot.
func (b *Broker) Stats() Stats {
	n := &b.count
	return Stats{
		Connections:      n.connections.Load(),
		Sessions:         int64(b.clients.len()),
		Subscriptions:    int64(b.index.Len()),
		Retained:         int64(b.retained.Len()),
		RetainedBytes:    b.retained.Bytes(),
		QueuedBytes:      b.held.Load() - b.spilled.Load(),
		HeldBytes:        b.held.Load(),
		Connected:        n.accepted.Load(),
		ConnectsRefused:  n.refused.Load(),
		MessagesIn:       n.messagesIn.Load(),
		MessagesOut:      n.messagesOut.Load(),
		BytesIn:          n.bytesIn.Load(),
		BytesOut:         n.bytesOut.Load(),
		Requests:         n.requests.Load(),
		DroppedSlow:      n.droppedSlow.Load(),
		DroppedQueueFull: n.droppedFull.Load(),
		DroppedExpired:   n.droppedExpired.Load(),
		DroppedTooBig:    n.droppedTooBig.Load(),
		Refused:          n.forbidden.Load(),
		NotRetained:      n.notRetained.Load(),
		Panics:           b.listener.Panics(),
	}
}

// dropped adds what a session dropped since the last look.
func (n *counters) dropped(now, before session.Counters) {
	n.droppedFull.Add(int64(now.Full - before.Full))
	n.droppedExpired.Add(int64(now.Expired - before.Expired))
	n.droppedTooBig.Add(int64(now.TooLarge - before.TooLarge))
	n.forbidden.Add(int64(now.Refused - before.Refused))
}
