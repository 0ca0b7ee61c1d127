package shadow_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/umbra-iot/umbra/shadow"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	by := shadow.Author{Channel: "mqtt", Principal: "CN=lamp", ClientID: "lamp-1"}
	before := apply(t, nil, `{"desired":{"a":1},"reported":{"o":{"x":1}}}`, 1_700_000_000_123).After
	r, err := shadow.ParseUpdate([]byte(`{"state":{"desired":null,"reported":{"o":{"x":null},"n":2}},"clientToken":"t"}`), shadow.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	change, err := shadow.Apply(before, r, 1_700_000_001_456, shadow.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	entry, err := shadow.DecodeHistory(2, change.AppendHistory(nil, by))
	if err != nil {
		t.Fatal(err)
	}
	want := &shadow.HistoryEntry{
		Version: 2, Time: 1_700_000_001_456, Op: shadow.OpUpdate, Author: by, Token: `"t"`,
		Patch: []byte(`{"desired":null,"reported":{"o":{"x":null},"n":2}}`),
	}
	if diff := cmp.Diff(want, entry, cmpopts.IgnoreUnexported(shadow.HistoryEntry{})); diff != "" {
		t.Errorf("DecodeHistory (-want +got):\n%s", diff)
	}
	undone, err := entry.Undo(change.After)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(undone.AppendRecord(nil)), string(before.AppendRecord(nil)); got != want {
		t.Errorf("Undo = %q, want %q", got, want)
	}
	if undone.Version() != 1 || undone.Deleted() {
		t.Errorf("Undo: version %d, deleted %t, want 1, false", undone.Version(), undone.Deleted())
	}
	if _, err := entry.Undo(before); err == nil {
		t.Error("Undo of another version = nil, want an error")
	}
	if _, err := entry.Undo(nil); err == nil {
		t.Error("Undo of no document = nil, want an error")
	}
}

// TestHistoryOfLife undoes the life of a shadow step by step.
func TestHistoryOfLife(t *testing.T) {
	t.Parallel()
	docs := []*shadow.Document{nil}
	var entries []*shadow.HistoryEntry
	var accepted []string
	add := func(c *shadow.Change) {
		t.Helper()
		e, err := shadow.DecodeHistory(c.After.Version(), c.AppendHistory(nil, shadow.Author{}))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
		accepted = append(accepted, string(c.AppendAccepted(nil)))
		docs = append(docs, c.After)
	}
	last := func() *shadow.Document { return docs[len(docs)-1] }
	add(apply(t, last(), `{"desired":{"a":1,"b":{"c":2}}}`, 1001))
	add(apply(t, last(), `{"desired":{"b":5},"reported":{"x":1}}`, 2002))
	add(apply(t, last(), `null`, 3003))
	add(apply(t, last(), `{"reported":{"y":[1,{"z":2}]}}`, 4004))
	c, err := shadow.Delete(shadow.ID{Thing: "lamp"}, last(), `"t"`, 5005)
	if err != nil {
		t.Fatal(err)
	}
	add(c)
	add(apply(t, last(), `{"reported":{"y":1}}`, 6006))
	for i, e := range slices.Backward(entries) {
		got, err := e.Undo(docs[i+1])
		if err != nil {
			t.Fatalf("Undo to version %d: %v", i, err)
		}
		want := docs[i]
		if got.Version() != want.Version() || got.Deleted() != want.Deleted() || (got == nil) != (want == nil) {
			t.Errorf("Undo to version %d: version %d, deleted %t", i, got.Version(), got.Deleted())
		}
		if got, want := string(got.AppendRecord(nil)), string(want.AppendRecord(nil)); got != want {
			t.Errorf("Undo to version %d = %q, want %q", i, got, want)
		}
		redone, err := e.Redo(docs[i])
		if live := docs[i] != nil && !docs[i].Deleted() && e.Op == shadow.OpUpdate; live != (err == nil) {
			t.Errorf("Redo to version %d: error %v, want one unless a live document was updated", i+1, err)
		}
		if err == nil && (redone.Version() != docs[i+1].Version() || string(redone.AppendRecord(nil)) != string(docs[i+1].AppendRecord(nil))) {
			t.Errorf("Redo to version %d = %d %q, want %q", i+1, redone.Version(), redone.AppendRecord(nil), docs[i+1].AppendRecord(nil))
		}
		again, err := e.Change(docs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(again.AppendAccepted(nil)), accepted[i]; got != want {
			t.Errorf("Change to version %d: accepted = %s, want %s", i+1, got, want)
		}
	}
}

func TestDecodeHistoryDamage(t *testing.T) {
	t.Parallel()
	entry := apply(t, nil, `{"desired":{"a":1}}`, 1000).AppendHistory(nil, shadow.Author{Channel: "rest"})
	for n := range entry {
		if _, err := shadow.DecodeHistory(1, entry[:n]); err == nil {
			t.Errorf("DecodeHistory(%q) = nil, want an error", entry[:n])
		}
	}
	for _, damaged := range []string{"\x02\x02\x00\x00\x00\x00\x00\x00\x00", "\x01\x01\x00\x00\x00\x00\x00\x00\x00", "\x01\x03\x00\x00\x00\x00\x00\x00\x00"} {
		if _, err := shadow.DecodeHistory(1, []byte(damaged)); err == nil {
			t.Errorf("DecodeHistory(%q) = nil, want an error", damaged)
		}
	}
}
