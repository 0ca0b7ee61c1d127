package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// ErrTopic is the error of publishing to a topic that is no valid name, or that is not open to clients.
var ErrTopic = errors.New("broker: topic not allowed")

// publish handles a PUBLISH packet. An outcome other than acceptance shows in
// the acknowledgement; MQTT 3.1.1 has no way to say it, and gets a positive one
// [MQTT-3.3.5-2 of 3.1.1], except when a request was not stored.
func (c *conn) publish(pk *packets.Packet) bool {
	c.b.count.messagesIn.Add(1)
	if code := c.resolve(pk); code != packets.CodeSuccess {
		return c.reject(code)
	}
	m := c.message(pk)
	t, isRequest := requestTopic(m.Topic)
	if isRequest && !mayPublish(c.rights, m) {
		isRequest = false // refusal says why
	}
	switch {
	case pk.FixedHeader.Qos == 2:
		return c.publishOnce(m, pk.PacketID, t, isRequest)
	case isRequest:
		return c.ask(m, pk, t)
	case pk.FixedHeader.Qos == 0:
		c.b.mapped(c.source(m), c.b.take(c.publisher(), m), func(outcome, bool) {})
		return true
	}
	place, ok := c.acks.take(ackPuback, pk.PacketID)
	if ok {
		c.b.mapped(c.source(m), c.b.take(c.publisher(), m), func(o outcome, later bool) { c.confirm(place, ackPuback, o, !later) })
	}
	return ok
}

// resolve checks the packet and puts the topic in place of its alias [MQTT-3.3.2-7] to [MQTT-3.3.2-12].
func (c *conn) resolve(pk *packets.Packet) packets.Code {
	if pk.Properties.TopicAliasFlag && pk.Properties.TopicAlias == 0 { // before the topic may be missed
		return packets.ErrTopicAliasInvalid
	}
	if code := pk.PublishValidate(c.limits.TopicAliasMaximum); code != packets.CodeSuccess {
		return code
	}
	if c.b.profile.refusesQoS(pk.FixedHeader.Qos) {
		return packets.ErrQosNotSupported
	}
	if strings.ContainsAny(pk.Properties.ResponseTopic, "+#") { // [MQTT-3.3.2-14]
		return packets.ErrProtocolViolationSurplusWildcard
	}
	alias := pk.Properties.TopicAlias
	switch {
	case alias == 0:
	case pk.TopicName == "":
		name, ok := c.aliases[alias]
		if !ok {
			return packets.ErrProtocolViolationNoTopic
		}
		pk.TopicName = name
	default:
		if c.aliases == nil {
			c.aliases = map[uint16]string{}
		}
		c.aliases[alias] = strings.Clone(pk.TopicName)
	}
	return packets.CodeSuccess
}

// message makes the application message of a PUBLISH. Its strings and payload
// stay in the buffer of the packet, which next has made for it alone.
func (c *conn) message(pk *packets.Packet) *wire.Message {
	m := wire.Message{
		Topic: pk.TopicName, Payload: pk.Payload, QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain, Publisher: c.clientID,
	}
	if c.version >= wire.V5 {
		m.Properties = properties(&pk.Properties, c.shown.packet)
		if c.shown.packet.has(packets.PropMessageExpiryInterval) {
			expire(&m, time.Duration(pk.Properties.MessageExpiryInterval)*time.Second, c.b.now())
		}
	}
	return wire.NewMessage(m)
}

// fleetingLife is how long a message whose expiry interval is 0 may take on its way to those who are connected.
const fleetingLife = time.Second

// expire sets the expiry interval of m.
func expire(m *wire.Message, interval time.Duration, now int64) {
	if interval == 0 {
		interval, m.Fleeting = fleetingLife, true
	}
	m.Expires = now + interval.Milliseconds()
}

// travelling are the properties that travel with a message.
const travelling = propertySet(1<<packets.PropPayloadFormat | 1<<packets.PropContentType | 1<<packets.PropResponseTopic |
	1<<packets.PropCorrelationData | 1<<packets.PropUser)

// properties are those that travel with a message, nil for none. shown are those that are there.
func properties(p *packets.Properties, shown propertySet) *wire.Properties {
	if shown&travelling == 0 {
		return nil
	}
	out := &wire.Properties{
		PayloadFormat: p.PayloadFormat, HasPayloadFormat: shown.has(packets.PropPayloadFormat),
		ContentType: p.ContentType, HasContentType: shown.has(packets.PropContentType),
		ResponseTopic: p.ResponseTopic, HasResponseTopic: shown.has(packets.PropResponseTopic),
		Correlation: p.CorrelationData,
	}
	if len(p.User) > 0 {
		out.User = make([]wire.UserProperty, len(p.User))
		for i, u := range p.User {
			out.User[i] = wire.UserProperty{Key: u.Key, Value: u.Val}
		}
	}
	return out
}

// ask submits a request of QoS 0 or 1. Also one of QoS 0 takes a place among
// the acknowledgements: that bounds how many requests are under way.
func (c *conn) ask(m *wire.Message, pk *packets.Packet, t shadow.Topic) bool {
	kind, id := ackNone, pk.PacketID
	if m.QoS > 0 {
		kind = ackPuback
	}
	place, ok := c.acks.take(kind, id)
	if ok {
		c.b.request(c.client, t, m, c.author(), c.rights, func(_ *things.Result, o outcome) { c.confirm(place, kind, o, false) })
	}
	return ok
}

func (c *conn) publisher() publisher { return publisher{c.client, c.owner} }

func (c *conn) author() shadow.Author {
	return shadow.Author{Channel: "mqtt", Principal: known(c.principal), ClientID: c.clientID}
}

// released handles PUBREL [MQTT-4.3.3-11], [MQTT-4.3.3-12].
func (c *conn) released(pk *packets.Packet) bool {
	known := false
	alive := c.client.withSession(c, func() { known = c.client.sess.Release(pk.PacketID) })
	w := wire.Ack{ID: pk.PacketID}
	if !known {
		w.Reason = packets.ErrPacketIdentifierNotFound.Code
	}
	c.whenStored(true, func(reader bool) { // also if it is not known: that it is over may not be durable yet
		if known {
			c.acks.completed()
		}
		c.out.shut(wire.AppendPubcomp(c.out.open(), c.version, w), reader)
	})
	return alive
}

// whenStored calls do at once, or, if the session has changed and is stored, when that is durable. reader says that
// the caller is the reading goroutine. Where nobody knows whether it is durable, the connection ends.
func (c *conn) whenStored(changed bool, do func(reader bool)) {
	if !changed || c.b.journal == nil || !c.client.persistent.Load() {
		do(true)
		return
	}
	c.b.journal.After(func(err error) {
		if err != nil {
			c.hangUp(storeFails())
			return
		}
		do(false)
	})
}

// outcome is what became of a publish; the zero value is success.
type outcome struct {
	code  byte // reason code of MQTT 5
	text  string
	lost  bool // it was not stored: whoever cannot be told so must not take it for done
	waits bool // it is true when what has changed is durable
}

// answer acknowledges a publish with its outcome.
func (c *conn) answer(place uint64, kind ackKind, o outcome, reader bool) {
	switch {
	case c.version >= wire.V5 || kind == ackNone:
		c.acks.done(place, o.code, o.text, reader)
	case !o.lost:
		c.acks.done(place, 0, "", reader)
	default: // without an acknowledgement the client sends it again when it is back
		c.hangUp(cause{code: packets.ErrUnspecifiedError.Code, text: o.text, reason: reasonServer})
	}
}

// hangUp is stop for a caller that holds no lock.
func (c *conn) hangUp(why cause) {
	c.client.withSession(c, func() { c.stop(why) })
}

// take is the door of all messages that are no requests: whether the topic is
// open to clients, then the router.
func (b *Broker) take(from publisher, m *wire.Message) outcome {
	if refusal := b.refusal(from.client, m); refusal.code != 0 {
		b.count.forbidden.Add(1)
		from.client.tellRefused(m.Topic, refusal.text)
		return refusal
	}
	return b.route(m, from)
}

// tellRefused logs a publish that was refused, once for each client: those of MQTT 3.1.1
// cannot be told. It does nothing for nil.
func (c *client) tellRefused(topicName, reason string) {
	if c != nil && !c.refused.Swap(true) {
		c.b.quiet.Log(context.Background(), slog.LevelWarn, c.id, "publish refused; further ones of this client are only counted",
			"client_id", c.id, "topic", topicName, "reason", reason)
	}
}

// denied is the outcome of a publish that is not allowed.
func denied() outcome {
	return outcome{code: packets.ErrNotAuthorized.Code, text: packets.ErrNotAuthorized.Reason}
}

// refusal says why a message may not be published; its code is 0 when it may.
func (b *Broker) refusal(from *client, m *wire.Message) outcome {
	if from != nil && !from.mayPublish(m) {
		return denied()
	}
	if isReserved(m.Topic) {
		text := "400 topic is reserved or not known: " + m.Topic
		if refusal := b.rejectName(m); refusal != nil {
			text = "400 " + refusal.Message
		}
		return outcome{code: packets.ErrTopicNameInvalid.Code, text: text}
	}
	if err := b.checkName(m.Topic); err != nil {
		return outcome{code: packets.ErrTopicNameInvalid.Code, text: err.Error()}
	}
	return outcome{}
}

var errDeepTopic = errors.New("400 topic is too long or has too many levels")

// checkName reports why no message may go to a topic that is not reserved.
func (b *Broker) checkName(name string) error {
	if err := topic.ValidName(name); err != nil {
		return err //nolint:wrapcheck // it says what is wrong
	}
	most := b.limits.TopicLevels
	if len(name) >= most && topic.Levels(name) > most || b.profile.refusesTopic(name) {
		return errDeepTopic
	}
	return nil
}

func put[K comparable, V any](m map[K]V, k K, v V) map[K]V {
	if m == nil {
		m = map[K]V{}
	}
	m[k] = v
	return m
}

// Publication is a message to publish.
type Publication struct {
	Topic      string
	Payload    []byte // not changed afterwards by the caller
	QoS        byte
	Retain     bool // kept as retained message; ignored for requests
	Properties Properties
	Author     shadow.Author
	Owner      string      // of the principal, see [auth.Principal.Owner]; "" for nobody in particular
	Rights     auth.Rights // for the response topic of a request; nil: everything is allowed
}

// PublishMessage publishes p as a client would: to a request topic of a shadow it
// is a request, whose outcome goes out on the topics of the shadow. The error
// is ErrTopic for a topic that is not open to clients, and a *shadow.Error with
// code 429 for what there is no room for, 500 for what is perhaps not stored. It returns when what mappings make of it is
// stored, too.
func (b *Broker) PublishMessage(ctx context.Context, p Publication) error {
	m := p.Properties.message(b.now())
	m.Topic, m.Payload, m.QoS, m.Retain, m.Publisher = p.Topic, p.Payload, p.QoS, p.Retain, p.Author.ClientID
	if err := m.Validate(); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.count.messagesIn.Add(1)
	t, isRequest := requestTopic(p.Topic)
	outcomes := make(chan outcome, 1)
	if isRequest {
		b.request(nil, t, wire.NewMessage(m), p.Author, p.Rights, func(_ *things.Result, o outcome) { outcomes <- o })
	} else {
		b.mapped(mapping.Message{
			Topic: m.Topic, Payload: m.Payload, Retain: m.Retain, Client: m.Publisher, Principal: p.Author.Principal,
		}, b.take(publisher{owner: p.Owner}, wire.NewMessage(m)), func(o outcome, _ bool) { outcomes <- o })
	}
	select {
	case o := <-outcomes:
		switch {
		case o.code == packets.ErrTopicNameInvalid.Code && !isRequest:
			return fmt.Errorf("%w: %s", ErrTopic, o.text)
		case o.code == packets.ErrQuotaExceeded.Code && !isRequest: // a queue, or the retained messages, are full
			return &shadow.Error{Code: 429, Message: o.text}
		case o.lost:
			return &shadow.Error{Code: 500, Message: o.text}
		case o.code >= wire.ReasonFailure && !isRequest: // what becomes of a request is told on its topics
			return fmt.Errorf("broker: %s", o.text)
		}
		return b.await(ctx, o)
	case <-ctx.Done():
		return fmt.Errorf("broker: publish under way: %w", context.Cause(ctx))
	}
}

// await waits until what a publish has changed is durable.
func (b *Broker) await(ctx context.Context, o outcome) error {
	if !o.waits {
		return nil
	}
	if err := b.journal.Wait(ctx); err != nil {
		return errors.Join(&shadow.Error{Code: 500, Message: unstored.text}, err)
	}
	return nil
}

// settled handles PUBACK, PUBREC and PUBCOMP.
func (c *conn) settled(pk *packets.Packet) bool {
	var more, received bool
	alive := c.client.withSession(c, func() {
		s, now := c.client.sess, c.b.now()
		switch pk.FixedHeader.Type {
		case packets.Puback:
			s.Acked(pk.PacketID)
		case packets.Pubcomp:
			s.Completed(pk.PacketID)
		case packets.Pubrec:
			received = s.Received(pk.PacketID, pk.ReasonCode)
		}
		c.client.pump(now, true)
		_, _, more = s.Scan()
	})
	if pk.FixedHeader.Type == packets.Pubrec && pk.ReasonCode < wire.ReasonFailure {
		c.pubrel(pk.PacketID, received)
	}
	if more {
		c.client.scanOn(c, true)
	}
	return alive
}

// pubrel answers PUBREC [MQTT-4.3.3-4].
func (c *conn) pubrel(id uint16, known bool) {
	w := wire.Ack{ID: id}
	if !known {
		w.Reason = packets.ErrPacketIdentifierNotFound.Code
	}
	c.whenStored(known, func(reader bool) {
		c.out.shut(wire.AppendPubrel(c.out.open(), c.version, w), reader)
	})
}
