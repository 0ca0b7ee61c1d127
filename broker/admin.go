package broker

import (
	"time"

	"github.com/umbra-iot/umbra/broker/retained"
	"github.com/umbra-iot/umbra/broker/wire"
)

// UserProperty is a name with a value. Names may repeat, and their order counts.
type UserProperty struct {
	Name, Value string
}

// Properties are the MQTT 5 properties that travel with a message.
type Properties struct {
	PayloadUTF8     bool // payload format indicator 1
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte        // nil for none
	MessageExpiry   time.Duration // in whole seconds; 0 for none
	User            []UserProperty
}

// message makes a message of them; now is in ms since the epoch.
func (p *Properties) message(now int64) wire.Message {
	var m wire.Message
	if p.MessageExpiry > 0 {
		m.Expires = now + p.MessageExpiry.Milliseconds()
	}
	if !p.PayloadUTF8 && p.ContentType == "" && p.ResponseTopic == "" && p.CorrelationData == nil && len(p.User) == 0 {
		return m
	}
	m.Properties = &wire.Properties{
		ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, Correlation: p.CorrelationData, HasPayloadFormat: p.PayloadUTF8,
	}
	if p.PayloadUTF8 {
		m.Properties.PayloadFormat = 1
	}
	for _, u := range p.User {
		m.Properties.User = append(m.Properties.User, wire.UserProperty{Key: u.Name, Value: u.Value})
	}
	return m
}

// RetainedMessage is a stored retained message.
type RetainedMessage struct {
	Topic    string
	Payload  []byte // not to be changed
	QoS      byte
	Modified int64 // ms since the epoch
	User     []UserProperty
}

func retainedMessage(m retained.Message) RetainedMessage {
	r := RetainedMessage{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Modified: m.Modified}
	if m.Properties != nil {
		for _, u := range m.Properties.User {
			r.User = append(r.User, UserProperty{Name: u.Key, Value: u.Value})
		}
	}
	return r
}

// RetainedMessage returns the retained message of a topic.
func (b *Broker) RetainedMessage(topic string) (RetainedMessage, bool) {
	m, ok := b.retained.Get(topic, b.now())
	if !ok {
		return RetainedMessage{}, false
	}
	return retainedMessage(m), true
}

// RetainedMessages returns up to limit retained messages whose topics come after
// the topic after, in the order of topics.
func (b *Broker) RetainedMessages(after string, limit int) []RetainedMessage {
	list := make([]RetainedMessage, 0, min(limit, 256))
	for len(list) < limit {
		page := b.retained.List(after, limit-len(list), b.now())
		for _, m := range page.Messages {
			list = append(list, retainedMessage(m))
		}
		if page.Done {
			break
		}
		after = page.Next
	}
	return list
}

// Connection describes a client id that is connected or has a session.
type Connection struct {
	ClientID          string
	Connected         bool
	CleanSession      bool
	ConnectedSince    int64  // ms since the epoch, 0 when not connected
	DisconnectedSince int64  // ms since the epoch, 0 when connected
	DisconnectReason  string // as in the disconnected event
	KeepAlive         time.Duration
	SessionExpiry     time.Duration
	Source, Target    string // host:port of both ends
}

// Connection returns what is known of a client id; false when it is neither
// connected nor has a session.
func (b *Broker) Connection(clientID string) (Connection, bool) {
	c := b.clients.get(clientID)
	if c == nil {
		return Connection{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, !c.gone
}

// Subscription is one subscription of a session.
type Subscription struct {
	Filter string
	QoS    byte
}

// Subscriptions returns up to limit subscriptions of a session whose filters come
// after the filter after, in the order of filters; false when there is no session.
func (b *Broker) Subscriptions(clientID, after string, limit int) ([]Subscription, bool) {
	c := b.clients.get(clientID)
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Subscription
	for s := range c.sess.Subscriptions(after) {
		if len(list) == limit {
			break
		}
		list = append(list, Subscription{Filter: s.Filter, QoS: s.QoS})
	}
	return list, !c.gone
}

// DisconnectOptions say how to end a connection.
type DisconnectOptions struct {
	CleanSession bool // drop the session too
	PreventWill  bool // do not send the will
}

// Disconnect ends the connection of a client id; false when it is neither
// connected nor has a session.
func (b *Broker) Disconnect(clientID string, o DisconnectOptions) bool {
	c := b.clients.get(clientID)
	if c == nil {
		return false
	}
	ok := false
	b.together(func(a *aftermath) { ok = c.remove(o, a) })
	return ok
}

// remove ends the connection, and the session if told so; false when there is neither.
func (c *client) remove(o DisconnectOptions, a *aftermath) bool {
	c.mu.Lock()
	defer c.unlock()
	if c.gone {
		return false
	}
	now := c.b.now()
	if o.CleanSession {
		c.sess.SetExpiry(0)
		c.persistent.Store(false)
	}
	if o.PreventWill {
		c.setWill(nil)
	}
	if k := c.conn; k != nil {
		end := cause{code: 0x98, text: "administrative action", reason: reasonAPI}
		k.stop(end)
		c.release(&end, now, a)
	}
	c.settle(now, a)
	return true
}
