package broker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// requestTopic parses the topic of a shadow request.
func requestTopic(name string) (shadow.Topic, bool) {
	if !strings.HasPrefix(name, shadow.TopicPrefix) {
		return shadow.Topic{}, false
	}
	t, ok := shadow.ParseTopic(name)
	return t, ok && t.Kind == shadow.KindRequest
}

// isReserved reports whether a topic, which is not that of a request, belongs to the server.
func isReserved(name string) bool {
	return name != "" && name[0] == '$' &&
		(strings.HasPrefix(name, "$aws/") || strings.HasPrefix(name, "$SYS") || strings.HasPrefix(name, "$share/"))
}

// request submits a shadow request; done is called once, after the commit and
// after the messages that tell of the outcome. Other clients that subscribe to
// the request topic get the request too, but never as a retained message. from
// is the publishing client, nil for none; may is what whoever asks may do.
func (b *Broker) request(from *client, t shadow.Topic, m *wire.Message, by shadow.Author, may auth.Rights, done func(*things.Result, outcome)) {
	b.count.requests.Add(1)
	waits := b.deliver(m, from).waits
	b.things.Submit(things.Request{ID: t.ID, Op: t.Op, Payload: m.Payload, Author: by}, func(r *things.Result) {
		o := outcomeOf(r)
		o.waits = b.respond(m, r, may).waits || waits
		if b.journal != nil && (r.Err != nil || t.Op == shadow.OpGet) {
			o.waits = true // the service does not repeat these messages after a crash
		}
		done(r, o)
	})
}

// respond sends the outcome of a request to the response topic that the request
// names (MQTT 5, 4.10), besides the topics of the shadow.
func (b *Broker) respond(request *wire.Message, r *things.Result, may auth.Rights) outcome {
	p := request.Properties
	if p == nil || p.ResponseTopic == "" {
		return outcome{}
	}
	if isReserved(p.ResponseTopic) || b.checkName(p.ResponseTopic) != nil ||
		!auth.Allowed(may, auth.Publish, p.ResponseTopic) {
		b.count.forbidden.Add(1)
		return outcome{}
	}
	answer := wire.Message{Topic: p.ResponseTopic, Payload: r.Body(), QoS: 1}
	if p.Correlation != nil {
		answer.Properties = &wire.Properties{Correlation: p.Correlation}
	}
	return b.route(wire.NewMessage(answer), publisher{})
}

// outcomeOf translates the outcome of a request into a reason code.
func outcomeOf(r *things.Result) outcome {
	if r.Err == nil {
		return outcome{}
	}
	o := outcome{text: fmt.Sprintf("%d %s", r.Err.Code, r.Err.Message), lost: r.Err.Code >= 500}
	switch r.Err.Code {
	case 400, 415:
		o.code = packets.ErrPayloadFormatInvalid.Code
	case 401, 403:
		o.code = packets.ErrNotAuthorized.Code
	case 413, 429:
		o.code = packets.ErrQuotaExceeded.Code
	case 500:
		o.code = packets.ErrUnspecifiedError.Code
	default:
		o.code = packets.ErrImplementationSpecificError.Code
	}
	return o
}

// rejectName tells of a request for a thing or shadow whose name is illegal, and
// returns why: its topic is no request topic, but its rejected topic is where the
// client listens. It returns nil for other topics.
func (b *Broker) rejectName(m *wire.Message) *shadow.Error {
	id, ok := misnamed(m.Topic)
	if !ok {
		return nil
	}
	refusal, ok := errors.AsType[*shadow.Error](id.Validate())
	if !ok {
		return nil
	}
	b.reject(m, *refusal)
	return refusal
}

// reject tells of a request that the service does not get.
func (b *Broker) reject(m *wire.Message, why shadow.Error) {
	why.Token = shadow.ParseToken(m.Payload, shadow.DefaultLimits())
	b.route(wire.NewMessage(wire.Message{
		Topic: m.Topic + "/rejected", Payload: why.AppendRejected(nil, b.now()), QoS: 1,
	}), publisher{})
}

// misnamed finds the names in a topic that has the form of a request topic.
func misnamed(name string) (id shadow.ID, ok bool) {
	rest, ok := strings.CutPrefix(name, shadow.TopicPrefix)
	if !ok {
		return id, false
	}
	parts := strings.Split(rest, "/")
	var op string
	switch {
	case len(parts) == 3 && parts[1] == "shadow":
		id, op = shadow.ID{Thing: parts[0]}, parts[2]
	case len(parts) == 5 && parts[1] == "shadow" && parts[2] == "name":
		id, op = shadow.ID{Thing: parts[0], Name: parts[3]}, parts[4]
	}
	return id, op == "get" || op == "update" || op == "delete"
}
