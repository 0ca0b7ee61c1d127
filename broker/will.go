package broker

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// will is the message that is sent when a connection ends other than by a DISCONNECT.
type will struct {
	clientID string
	message  wire.Message
	expiry   time.Duration // message expiry, from when it is sent; 0 for none, unless the message is fleeting
	delay    time.Duration
	number   uint64          // of the request that it is, 0 for other messages
	user     string          // that the client was known as; not stored
	epoch    int64           // version number of the connection; not stored
	rights   auth.Rights     // nil: everything is allowed
	owner    *auth.Principal // whose it is; nil for nobody
	link     *auth.Link      // of its connection

	principal string // of the client, "" for nobody in particular
}

func (w *will) author() shadow.Author {
	return shadow.Author{Channel: "will", Principal: w.principal, ClientID: w.clientID, Request: w.number}
}

// newWill takes the will, with the properties that are shown, out of a CONNECT packet, whose buffer holds the password too.
func newWill(pk *packets.Packet, shown propertySet) *will {
	p := &pk.Connect.WillProperties
	w := &will{
		clientID: strings.Clone(pk.Connect.ClientIdentifier),
		message: wire.Message{
			Topic: strings.Clone(pk.Connect.WillTopic), Payload: append([]byte(nil), pk.Connect.WillPayload...),
			QoS: pk.Connect.WillQos, Retain: pk.Connect.WillRetain,
		},
		expiry: time.Duration(p.MessageExpiryInterval) * time.Second,
		delay:  time.Duration(p.WillDelayInterval) * time.Second,
	}
	w.message.Fleeting = shown.has(packets.PropMessageExpiryInterval) && w.expiry == 0
	if props := properties(p, shown); props != nil {
		props.ContentType, props.ResponseTopic = strings.Clone(props.ContentType), strings.Clone(props.ResponseTopic)
		props.Correlation = bytes.Clone(props.Correlation)
		for i, u := range props.User {
			props.User[i] = wire.UserProperty{Key: strings.Clone(u.Key), Value: strings.Clone(u.Value)}
		}
		w.message.Properties = props
	}
	return w
}

// checkWill refuses at once a will that could not be sent.
func (c *conn) checkWill() packets.Code {
	w := c.will
	w.clientID = c.clientID
	w.message.Publisher = c.clientID
	w.owner, w.principal, w.link, w.rights = c.principal, known(c.principal), c.link, c.rights
	if err := w.message.Validate(); err != nil {
		return packets.ErrTopicNameInvalid
	}
	if c.b.profile.refusesQoS(w.message.QoS) { // [MQTT-3.2.2-12]
		return packets.ErrQosNotSupported
	}
	if !mayPublish(w.rights, &w.message) {
		c.tell(slog.LevelWarn, "connection denied for its will", "principal", c.principal.String(), "topic", w.message.Topic)
		return packets.ErrNotAuthorized
	}
	if _, ok := requestTopic(w.message.Topic); ok {
		w.number = newNumber()
		return packets.CodeSuccess
	}
	if refusal := c.b.refusal(nil, &w.message); refusal.code != 0 {
		c.tell(slog.LevelWarn, "connection refused for its will", "topic", w.message.Topic, "reason", refusal.text)
		return packets.ErrTopicNameInvalid
	}
	return packets.CodeSuccess
}

// sendWill sends a will by the same door as a publish: one on a request topic is
// a request. No client mutex is held.
func (b *Broker) sendWill(c *client, w *will) {
	m := w.message
	if w.expiry > 0 || m.Fleeting {
		expire(&m, w.expiry, b.now())
	}
	message := wire.NewMessage(m)
	withdrawn := w.owner.Withdrawn()
	if withdrawn || !mayPublish(w.rights, message) {
		w.tell(b, "will denied", "principal", w.owner.String(), "withdrawn", withdrawn)
		if withdrawn { // else the guard knows
			b.denied(w.owner, *w.link, auth.Publish, m.Topic, "the credential was taken back")
		}
		b.count.forbidden.Add(1)
		c.left(w)
		return
	}
	if t, ok := requestTopic(m.Topic); ok {
		b.ask(c, w, t, message)
		return
	}
	if b.refusal(nil, message).code != 0 {
		b.count.forbidden.Add(1)
		return
	}
	b.routeWill(message, w.owner.Owner())
	b.mapped(mapping.Message{
		Topic: m.Topic, Payload: m.Payload, Retain: m.Retain, Will: true, Client: w.clientID, User: w.user, Epoch: uint64(w.epoch),
		Principal: w.principal,
	}, outcome{}, func(outcome, bool) {})
}

// tell logs what has become of a will, as far as the log is not flooded by its client.
func (w *will) tell(b *Broker, text string, attrs ...any) {
	attrs = append([]any{"client_id", w.clientID, "topic", w.message.Topic}, attrs...)
	b.quiet.Log(context.Background(), slog.LevelWarn, w.clientID, text, attrs...)
}

// routeWill is route for a will, of which nobody can be told that it has to come again: it is taken while the store
// fails too. Until the store has what it brings about it has the will.
func (b *Broker) routeWill(m *wire.Message, owner string) {
	if m.Retain {
		if err := b.retain(m, owner); err != nil {
			b.notRetained(m, err)
		}
	}
	entries := b.match(m.Topic, nil)
	b.fanOut(m, *entries, occasion{})
	b.unmatch(entries)
}

// willPause is the pause between two attempts of a will that is a request.
const willPause = time.Second

// ask makes the request that a will is, again and again while the store fails.
func (b *Broker) ask(c *client, w *will, t shadow.Topic, m *wire.Message) {
	b.tasks.Add(1)
	b.request(nil, t, m, w.author(), w.rights, func(r *things.Result, o outcome) {
		defer b.tasks.Done()
		if o.lost && b.journal != nil {
			b.askLater(c, w)
			return
		}
		c.left(w)
		if r.Err != nil {
			w.tell(b, "will refused", "code", r.Err.Code, "reason", r.Err.Message)
		}
	})
}

func (b *Broker) askLater(c *client, w *will) {
	time.AfterFunc(willPause, func() {
		if b.begin() { // at the end of the server the will stays in the store, for the next one
			defer b.tasks.Done()
			b.askAgain(c, w)
		}
	})
}

// askAgain sends a will again, unless it was done after all, or its client is back: what that reports is newer.
func (b *Broker) askAgain(c *client, w *will) {
	c.mu.Lock()
	waits, back := c.leaving == w, c.conn != nil
	c.mu.Unlock()
	if !waits {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), doubtTimeout)
	defer cancel()
	switch done, err := b.done(ctx, session.Request{Number: w.number, Topic: w.message.Topic}); {
	case err == nil && done:
		c.left(w)
	case back:
		b.log.Warn("will is not sent: the store failed until its client was back", "topic", w.message.Topic, "client_id", w.clientID)
		c.left(w)
	case err != nil:
		b.askLater(c, w)
	default:
		b.sendWill(c, w)
	}
}
