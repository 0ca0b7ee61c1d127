package shadow_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/conformance"
	"github.com/umbra-iot/umbra/shadow"
)

// TestConformance runs the cases of the protocol without transport, storage or clock.
func TestConformance(t *testing.T) {
	t.Parallel()
	cases, err := conformance.Load("../testdata/protocol/cases-public.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			m := machine{docs: map[shadow.ID]*shadow.Document{}, now: 1_700_000_000_999}
			for i, s := range c.Steps {
				m.step(t, i, s)
			}
		})
	}
}

// machine is a shadow service without anything around it.
type machine struct {
	docs  map[shadow.ID]*shadow.Document
	now   int64
	scope conformance.Scope
}

// answer is what one request leads to.
type answer struct {
	accepted, rejected []byte
	delta, documents   []byte
	err                *shadow.Error
}

func (m *machine) step(t *testing.T, n int, s conformance.Step) {
	t.Helper()
	if s.Op == "sleep" {
		m.now += int64(s.MS)
		return
	}
	if s.Op == "list" { // a matter of the service
		return
	}
	payload, err := s.PayloadBytes()
	if err != nil {
		t.Fatal(err)
	}
	m.scope.Thing, m.scope.Shadow = s.Thing, s.ShadowName()
	m.scope.Now = func() time.Time { return time.UnixMilli(m.now) }
	a := m.do(s, payload)
	check := func(what string, want json.RawMessage, got []byte) {
		t.Helper()
		if want == nil {
			return
		}
		if conformance.Quiet(want) {
			if got != nil {
				t.Errorf("step %d: %s = %s, want none", n, what, got)
			}
			return
		}
		if err := m.scope.Match(want, got); err != nil {
			t.Errorf("step %d: %s: %v\n%s", n, what, err, got)
		}
	}
	switch s.Expect.Kind {
	case "accepted":
		check("accepted", s.Expect.Body, a.accepted)
	case "rejected":
		if a.err == nil {
			t.Fatalf("step %d: accepted %s, want rejected", n, a.accepted)
		}
		check("code", s.Expect.Code, []byte(strconv.Itoa(a.err.Code)))
		message, err := json.Marshal(a.err.Message)
		if err != nil {
			t.Fatal(err)
		}
		check("message", s.Expect.Message, message)
		check("rejected", s.Expect.Body, a.rejected)
	}
	check("delta", s.ExpectDelta, a.delta)
	check("documents", s.ExpectDocuments, a.documents)
}

func (m *machine) do(s conformance.Step, payload []byte) answer {
	id := shadow.ID{Thing: s.Thing, Name: s.ShadowName()}
	if err := id.Validate(); err != nil {
		return m.refuse(err)
	}
	doc := m.docs[id]
	token := shadow.ParseToken(payload, shadow.Limits{})
	var change *shadow.Change
	var err error
	switch s.Op {
	case "get":
		if doc == nil || doc.Deleted() {
			return m.refuse(shadow.NotFound(id, token))
		}
		return answer{accepted: doc.AppendGet(nil, m.now, token)}
	case "delete":
		change, err = shadow.Delete(id, doc, token, m.now)
	default:
		var r *shadow.Request
		if r, err = shadow.ParseUpdate(payload, shadow.Limits{}); err == nil {
			change, err = shadow.Apply(doc, r, m.now, shadow.Limits{})
		}
	}
	if err != nil {
		return m.refuse(err)
	}
	m.docs[id] = change.After
	return answer{
		accepted:  change.AppendAccepted(nil),
		delta:     change.AppendDelta(nil),
		documents: change.AppendDocuments(nil),
	}
}

func (m *machine) refuse(err error) answer {
	var e *shadow.Error
	if !errors.As(err, &e) {
		e = &shadow.Error{Code: 500, Message: err.Error()}
	}
	return answer{rejected: e.AppendRejected(nil, m.now), err: e}
}
