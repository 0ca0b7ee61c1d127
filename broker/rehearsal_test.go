package broker_test

import (
	"errors"
	"testing"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/mapping"
)

// A rehearsal that nobody looks at misses things, and holds nobody up.
func TestRehearsalsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Mappings: mappings(t, lampMapping)})
	r, err := s.Rehearse(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const more = 10
	for range cap(r.C) + more {
		if err := s.PublishMessage(t.Context(), broker.Publication{Topic: "other"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.Dropped(); got != more {
		t.Errorf("Dropped() = %d, want %d", got, more)
	}
}

// Rehearsals end, and there are as many as may be at a time.
func TestRehearsalsAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Mappings: mappings(t, lampMapping)})
	var open []*broker.Rehearsal
	for {
		r, err := s.Rehearse(t.Context(), nil)
		if errors.Is(err, broker.ErrRehearsals) {
			break
		}
		if err != nil || len(open) > 100 {
			t.Fatalf("rehearsal %d: %v", len(open), err)
		}
		open = append(open, r)
	}
	open[0].Close()
	r, err := s.Rehearse(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range append(open[1:], r) {
		r.Close()
	}
	s.say(t, "l/a/on", "true", false)
	if len(r.C) > 0 {
		t.Error("a rehearsal that is closed is told of messages")
	}
	if _, err := start(t, broker.Options{}).Rehearse(t.Context(), nil); !errors.Is(err, broker.ErrRehearsals) {
		t.Errorf("without mappings Rehearse = %v", err)
	}
}

// A device that comes for the first time is asked for its state once.
func TestQueriesAreSentOnce(t *testing.T) {
	t.Parallel()
	text, _ := mapping.Preset("tasmota")
	list, _, err := mapping.Load("tasmota", text)
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := mapping.NewSet(list)
	if err != nil {
		t.Fatal(err)
	}
	x := set.Explain(mapping.Message{Topic: "tele/plug/LWT", Payload: []byte("Online")}, 1)
	if len(x.Publish) != 1 || x.Publish[0].Topic != "cmnd/plug/STATE" {
		t.Errorf("a new device is sent %+v, want one cmnd/plug/STATE", x.Publish)
	}
}
