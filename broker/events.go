package broker

import (
	"encoding/json"
	"strings"

	"github.com/umbra-iot/umbra/broker/wire"
)

// eventPrefix begins the topics of events.
const eventPrefix = "$aws/events/"

// event is the body of an event, as in the AWS document "Lifecycle events".
type event struct {
	ClientID            string   `json:"clientId"`
	Timestamp           int64    `json:"timestamp"` // ms since the epoch
	EventType           string   `json:"eventType"`
	SessionIdentifier   string   `json:"sessionIdentifier"`
	PrincipalIdentifier string   `json:"principalIdentifier"`
	IPAddress           string   `json:"ipAddress,omitempty"`
	ByClient            *bool    `json:"clientInitiatedDisconnect,omitempty"`
	DisconnectReason    string   `json:"disconnectReason,omitempty"`
	VersionNumber       *int64   `json:"versionNumber,omitempty"`
	Topics              []string `json:"topics,omitempty"`
	MessagesQueued      *int     `json:"messagesQueued,omitempty"`
	MessagesDropped     *uint64  `json:"messagesDropped,omitempty"`
}

// nextVersion returns a version number for a connection: it grows, also over a
// restart and from node to node, because it is a time.
func (b *Broker) nextVersion(now int64) int64 {
	for {
		last := b.lifecycle.Load()
		next := max(now, last+1)
		if b.lifecycle.CompareAndSwap(last, next) {
			return next
		}
	}
}

// event is an event about the client. mu is held.
func (c *client) event(kind string, now int64) event {
	return event{ClientID: c.id, Timestamp: now, EventType: kind, SessionIdentifier: c.sessionID, PrincipalIdentifier: known(c.principal)}
}

// subscriptionEvent tells of filters that c has subscribed or unsubscribed.
func (b *Broker) subscriptionEvent(c *conn, kind string, filters []string) {
	if len(filters) == 0 {
		return
	}
	var e event
	c.client.withSession(c, func() { e = c.client.event(kind, b.now()) })
	e.Topics = filters
	b.emit("subscriptions/"+kind, e)
}

// emit publishes an event about a client, if somebody listens.
func (b *Broker) emit(kind string, e event) {
	if strings.ContainsAny(e.ClientID, "+#/") {
		return // it cannot be part of a topic
	}
	name := eventPrefix + kind + "/" + e.ClientID
	entries := b.match(name, nil)
	defer b.unmatch(entries)
	if len(*entries) == 0 {
		return
	}
	body, err := json.Marshal(e)
	if err != nil {
		b.log.Error("cannot encode an event", "error", err)
		return
	}
	b.fanOut(wire.NewMessage(wire.Message{Topic: name, Payload: body, QoS: 1}), *entries, occasion{})
}
