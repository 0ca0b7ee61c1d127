package conformance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/umbra-iot/umbra/internal/conformance"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// answer is what came back for a step.
type answer struct {
	kind          string // accepted or rejected
	code, message []byte // JSON, of a rejected
	body          []byte
	hasBody       bool // the body is one that Expect.Body is about
	rest          bool
	status        int
	errorType     string
}

var (
	thingName  = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)
	shadowName = regexp.MustCompile(`^[$a-zA-Z0-9:_-]{1,64}$`)
)

func validNames(s conformance.Step) bool {
	return thingName.MatchString(s.Thing) && (s.ShadowName() == "" || shadowName.MatchString(s.ShadowName()))
}

// topicBase returns the part of the topics of a step's shadow before the operation.
func topicBase(s conformance.Step) string {
	base := "$aws/things/" + s.Thing + "/shadow"
	if n := s.ShadowName(); n != "" {
		base += "/name/" + n
	}
	return base
}

// schemaOf returns the schema of what is published on a topic, by its last two levels.
func schemaOf(suffix string) string {
	switch suffix {
	case "/get/accepted":
		return "shadow-document"
	case "/update/accepted":
		return "update-accepted"
	case "/delete/accepted":
		return "delete-accepted"
	case "/update/delta":
		return "delta"
	case "/update/documents":
		return "documents"
	default:
		return "rejected"
	}
}

// exchange publishes the request of a step and checks what is said about it.
func (r *run) exchange(ctx context.Context, s conformance.Step) error {
	payload, err := s.PayloadBytes()
	if err != nil {
		return err
	}
	base := topicBase(s)
	pubCtx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	ack, err := r.mqtt.Publish(pubCtx, mqtttest.Message{Topic: base + "/" + s.Op, Payload: payload, QoS: 1})
	if err != nil {
		return err
	}
	got, err := r.collect(ctx, s, func(seen heard) bool {
		return len(seen["/"+s.Op+"/accepted"])+len(seen["/"+s.Op+"/rejected"]) > 0
	})
	if err != nil {
		return err
	}
	a, err := got.answer(s.Op)
	if err != nil {
		return err
	}
	if failed := ack.Code >= 0x80; r.tr.version == mqtttest.V5 && failed != (a.kind == "rejected") {
		return fmt.Errorf("PUBACK reason code %#x for a request that was %s", ack.Code, a.kind)
	}
	return errors.Join(r.check(s, a), r.checkTopics(s, got))
}

// heard holds the bodies of what was published about one shadow, by "/operation/outcome".
type heard map[string][][]byte

// collect takes messages until the answer (as done says) and the messages that the step expects
// are there, then those of a quiet window if the case cares for silence.
func (r *run) collect(ctx context.Context, s conformance.Step, done func(heard) bool) (heard, error) {
	got := heard{}
	waitCtx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	for !done(got) || missing(s.ExpectDelta, got["/update/delta"]) || missing(s.ExpectDocuments, got["/update/documents"]) {
		if err := r.receive(waitCtx, s, got); err != nil {
			return nil, fmt.Errorf("%w; heard so far: %v", err, got.topics())
		}
	}
	if !r.quiet {
		return got, nil
	}
	quietCtx, cancelQuiet := context.WithTimeout(ctx, quietWindow)
	defer cancelQuiet()
	for {
		err := r.receive(quietCtx, s, got)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return got, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// missing reports whether a message that has to come is not there yet.
func missing(want json.RawMessage, got [][]byte) bool {
	return want != nil && !conformance.Quiet(want) && len(got) == 0
}

// receive adds the next message to got. A message about another shadow is an error when the case
// cares for silence.
func (r *run) receive(ctx context.Context, s conformance.Step, got heard) error {
	m, err := r.mqtt.Receive(ctx)
	if err != nil {
		return err
	}
	levels := strings.Split(m.Topic, "/")
	suffix := "/" + strings.Join(levels[len(levels)-2:], "/")
	if err := r.schemas.Validate(schemaOf(suffix), m.Payload); err != nil {
		return fmt.Errorf("%s: %.500s: %w", m.Topic, m.Payload, err)
	}
	if m.Retain {
		return fmt.Errorf("%s: came as a retained message", m.Topic)
	}
	if own, ok := strings.CutSuffix(m.Topic, suffix); ok && own == topicBase(s) {
		got[suffix] = append(got[suffix], m.Payload)
		return nil
	}
	if r.quiet {
		return fmt.Errorf("message on %s, which the step is not about: %.300s", m.Topic, m.Payload)
	}
	return nil
}

func (h heard) topics() []string {
	var names []string
	for suffix, bodies := range h {
		for range bodies {
			names = append(names, suffix)
		}
	}
	return names
}

// answer picks the one answer of an operation.
func (h heard) answer(op string) (answer, error) {
	accepted, rejected := h["/"+op+"/accepted"], h["/"+op+"/rejected"]
	if n := len(accepted) + len(rejected); n != 1 {
		return answer{}, fmt.Errorf("%d answers: %s %s", n, accepted, rejected)
	}
	if len(accepted) == 1 {
		return answer{kind: "accepted", body: accepted[0], hasBody: true}, nil
	}
	var e struct {
		Code    json.RawMessage `json:"code"`
		Message json.RawMessage `json:"message"`
	}
	if err := json.Unmarshal(rejected[0], &e); err != nil {
		return answer{}, err
	}
	return answer{kind: "rejected", body: rejected[0], hasBody: true, code: e.Code, message: e.Message}, nil
}

// checkTopics checks delta and documents, and that nothing was heard of operations that nobody asked for.
func (r *run) checkTopics(s conformance.Step, got heard) error {
	errs := []error{
		r.checkTopic("update/delta", s.ExpectDelta, got["/update/delta"]),
		r.checkTopic("update/documents", s.ExpectDocuments, got["/update/documents"]),
	}
	for _, op := range []string{"get", "update", "delete"} {
		if n := len(got["/"+op+"/accepted"]) + len(got["/"+op+"/rejected"]); op != s.Op && n > 0 && r.quiet {
			errs = append(errs, fmt.Errorf("%d messages about a %s that nobody asked for", n, op))
		}
	}
	return errors.Join(errs...)
}

func (r *run) checkTopic(topic string, want json.RawMessage, got [][]byte) error {
	switch {
	case want == nil:
		return nil
	case conformance.Quiet(want):
		if len(got) > 0 {
			return fmt.Errorf("%s: %s, want nothing", topic, got)
		}
		return nil
	case len(got) != 1:
		return fmt.Errorf("%s: %d messages, want 1: %s", topic, len(got), got)
	}
	return wrap(topic, r.scope.Match(want, got[0]))
}
