package session_test

import (
	"slices"
	"testing"

	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/wire"
)

const shareFilter = "$share/g/t"

// enqueueNamed queues a message whose payload is name.
func enqueueNamed(t *testing.T, s *session.Session, name string, qos byte, share string) {
	t.Helper()
	m := wire.NewMessage(wire.Message{Topic: "t", Payload: []byte(name), QoS: qos})
	if o := s.Enqueue(session.Delivery{Message: m, QoS: qos, Share: share}, start); o != session.Queued {
		t.Fatalf("Enqueue(%s) = %v, want queued", name, o)
	}
}

func names(ds []session.Delivery) (all []string) {
	for _, d := range ds {
		all = append(all, string(d.Message.Payload)+" by "+d.Share)
	}
	return all
}

// TestBequeath ends a session with shared and other messages in every stage.
func TestBequeath(t *testing.T) {
	t.Parallel()
	s := session.New(session.Config{})
	s.Connect(session.ConnectParams{Version: wire.V5, CleanStart: true, ReceiveMaximum: 4}, start)
	enqueueNamed(t, s, "own", 1, "")
	enqueueNamed(t, s, "acknowledged", 1, shareFilter)
	enqueueNamed(t, s, "sent", 1, shareFilter)
	enqueueNamed(t, s, "begun", 2, shareFilter)
	enqueueNamed(t, s, "received", 2, shareFilter)
	enqueueNamed(t, s, "queued", 1, shareFilter)
	enqueueNamed(t, s, "own queued", 2, "")
	enqueueNamed(t, s, "queued too", 2, shareFilter)
	ids := map[string]uint16{}
	for p, ok := s.Next(start); ok; p, ok = s.Next(start) {
		ids[string(p.Message.Payload)] = p.Publish.ID
	}
	s.Acked(ids["acknowledged"])
	p, _ := s.Next(start)
	s.Received(p.Publish.ID, 0)
	s.Disconnect(start)
	got := names(s.Bequeath())
	if want := []string{"sent by " + shareFilter, "queued by " + shareFilter, "queued too by " + shareFilter}; !slices.Equal(got, want) {
		t.Errorf("Bequeath() = %q, want %q", got, want)
	}
	if s.InFlight() != 3 || s.Len() != 1 {
		t.Errorf("%d messages are left in flight and %d wait, want 3 and 1", s.InFlight(), s.Len())
	}
	if again := s.Bequeath(); len(again) > 0 {
		t.Errorf("Bequeath() again = %q, want nothing", names(again))
	}
}

// TestBequeathAfterRestore has messages in the store, and in the store alone.
func TestBequeathAfterRestore(t *testing.T) {
	t.Parallel()
	s := session.New(session.Config{Durable: true})
	s.Connect(session.ConnectParams{Version: wire.V5, CleanStart: true, ReceiveMaximum: 2, Expiry: 10}, start)
	d := disk{}
	for _, name := range []string{"a", "b", "c", "d"} {
		enqueueNamed(t, s, name, 1+name[0]%2, shareFilter) // "a" and "c" have QoS 2
	}
	d.save(s)
	for range 3 { // one of QoS 2 is sent when its identifier is stored
		_, _ = s.Next(start)
		d.save(s)
	}
	s, _ = d.restore(t, start)
	s.Spill(0)
	if got, want := names(s.Bequeath()), []string{"b by " + shareFilter}; !slices.Equal(got, want) {
		t.Errorf("Bequeath() = %q, want %q: a may be at the client, c and d are not in memory", got, want)
	}
	d.save(s)
	for _, want := range []string{"c", "d"} {
		keys := s.SpilledShared(1, 1<<20)
		if len(keys) != 1 {
			t.Fatalf("SpilledShared(1) = %q, want a key", keys)
		}
		if err := s.Supply(keys, [][]byte{[]byte(d[string(keys[0])])}); err != nil {
			t.Fatal(err)
		}
		if got, want := names(s.Bequeath()), []string{want + " by " + shareFilter}; !slices.Equal(got, want) {
			t.Errorf("Bequeath() = %q, want %q", got, want)
		}
		d.save(s)
	}
	s, _ = d.restore(t, start)
	if s.Len() != 0 || s.InFlight() != 1 {
		t.Errorf("%d messages wait and %d are in flight in what is stored, want 0 and 1", s.Len(), s.InFlight())
	}
}
