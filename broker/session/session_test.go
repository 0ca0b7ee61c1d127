package session_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
)

const start = 1_700_000_000_000

// open returns a session with a connection that outlives it by an hour.
func open(receiveMaximum uint16) *session.Session {
	s := session.New(session.Config{})
	s.Connect(params(receiveMaximum), start)
	return s
}

func params(receiveMaximum uint16) session.ConnectParams {
	return session.ConnectParams{Version: wire.V5, ReceiveMaximum: receiveMaximum, Expiry: 3600}
}

func put(s *session.Session, qos byte, payloads ...string) {
	for _, p := range payloads {
		m := wire.NewMessage(wire.Message{Topic: "t", Payload: []byte(p)})
		s.Enqueue(session.Delivery{Message: m, QoS: qos}, start)
	}
}

// write returns what the session writes until it has nothing more, such as "a:1" for payload a with identifier 1,
// "a:1 dup", "pubrel 1".
func write(s *session.Session) []string {
	var out []string
	for p, ok := s.Next(start); ok; p, ok = s.Next(start) {
		switch {
		case p.Message == nil:
			out = append(out, fmt.Sprintf("pubrel %d", p.Publish.ID))
		case p.Publish.Dup:
			out = append(out, fmt.Sprintf("%s:%d dup", p.Message.Payload, p.Publish.ID))
		default:
			out = append(out, fmt.Sprintf("%s:%d", p.Message.Payload, p.Publish.ID))
		}
	}
	return out
}

func expect(t *testing.T, s *session.Session, want ...string) {
	t.Helper()
	if got := write(s); !slices.Equal(got, want) {
		t.Fatalf("session writes %q, want %q", got, want)
	}
}

func TestUnacknowledgedComeAgainInOrder(t *testing.T) {
	t.Parallel()
	s := open(0)
	put(s, 1, "a", "b")
	put(s, 2, "c", "d", "e")
	expect(t, s, "a:1", "b:2", "c:3", "d:4", "e:5")
	expect(t, s)
	s.Acked(2)
	s.Received(3, 0)
	s.Received(4, 0)
	s.Completed(3)
	s.Disconnect(start)
	put(s, 1, "f")
	expect(t, s) // no connection
	if !s.Connect(params(0), start) {
		t.Error("Connect() = false, want the session to be present")
	}
	expect(t, s, "a:1 dup", "pubrel 4", "e:5 dup", "f:6")
	s.Connect(params(0), start) // takeover
	expect(t, s, "a:1 dup", "pubrel 4", "e:5 dup", "f:6 dup")
}

func TestAckBeforeTheResend(t *testing.T) {
	t.Parallel()
	s := open(0)
	put(s, 1, "a", "b")
	put(s, 2, "c", "d")
	write(s)
	s.Connect(params(0), start)
	// The client acknowledges what the earlier connection brought before it reads anything.
	for _, id := range []uint16{1, 2} {
		if !s.Acked(id) {
			t.Errorf("Acked(%d) = false", id)
		}
	}
	if !s.Received(3, 0) {
		t.Error("Received(3) = false")
	}
	expect(t, s, "d:4 dup") // the PUBREL of c was the answer to its PUBREC
	if !s.Completed(3) {
		t.Error("Completed(3) = false")
	}
}

func TestReceiveMaximum(t *testing.T) {
	t.Parallel()
	s := open(2)
	put(s, 1, "a", "b", "c", "d")
	put(s, 2, "e")
	expect(t, s, "a:1", "b:2")
	s.Acked(2)
	expect(t, s, "c:3")
	s.Acked(9) // unknown: makes no room
	expect(t, s)
	s.Acked(3)
	s.Acked(1)
	expect(t, s, "d:4", "e:5")
	s.Acked(4)
	put(s, 1, "f", "g", "h")
	expect(t, s, "f:6")
	s.Received(5, 0) // the client still has it in hand
	expect(t, s)
	s.Completed(5)
	expect(t, s, "g:7")
	s.Connect(params(1), start)
	expect(t, s, "f:6 dup")
	s.Acked(6)
	expect(t, s, "g:7 dup")
	s.Acked(7)
	expect(t, s, "h:8")
}

func TestRefusedQoS2Ends(t *testing.T) {
	t.Parallel()
	s := open(1)
	put(s, 2, "a", "b")
	expect(t, s, "a:1")
	if !s.Received(1, 0x97) {
		t.Error("Received(1, 0x97) = false")
	}
	if s.Completed(1) {
		t.Error("Completed(1) = true after a refusal")
	}
	expect(t, s, "b:2")
}

func TestIdentifiersGoRoundAndPassThoseInUse(t *testing.T) {
	t.Parallel()
	s := open(0)
	put(s, 1, "stuck", "stuck")
	expect(t, s, "stuck:1", "stuck:2")
	for i := range 200_000 {
		put(s, 1, "x")
		p, ok := s.Next(start)
		if !ok || p.Publish.ID < 3 {
			t.Fatalf("message %d: Next() = %+v, %v", i, p, ok)
		}
		if !s.Acked(p.Publish.ID) {
			t.Fatalf("Acked(%d) = false", p.Publish.ID)
		}
	}
	s.Connect(params(0), start)
	expect(t, s, "stuck:1 dup", "stuck:2 dup")
}

func TestAllIdentifiersInUse(t *testing.T) {
	t.Parallel()
	s := open(65535)
	m := wire.NewMessage(wire.Message{Topic: "t"})
	for range 65535 + 1 {
		s.Enqueue(session.Delivery{Message: m, QoS: 1}, start)
	}
	seen := make(map[uint16]bool)
	for p, ok := s.Next(start); ok; p, ok = s.Next(start) {
		seen[p.Publish.ID] = true
	}
	if len(seen) != 65535 || seen[0] || s.Len() != 1 {
		t.Fatalf("%d identifiers in use, 0 among them: %v, waiting %d; want all but 0, and one waiting",
			len(seen), seen[0], s.Len())
	}
	s.Acked(4711)
	if p, ok := s.Next(start); !ok || p.Publish.ID != 4711 {
		t.Errorf("Next() = %+v, %v, want the only free identifier 4711", p, ok)
	}
	for id := range seen {
		if !s.Acked(id) {
			t.Fatalf("Acked(%d) = false", id)
		}
	}
	if s.InFlight() != 0 || s.Bytes() != 0 {
		t.Errorf("InFlight() = %d, Bytes() = %d, want 0", s.InFlight(), s.Bytes())
	}
}

func TestMessageExpiry(t *testing.T) {
	t.Parallel()
	s := open(1)
	for i, expires := range []int64{0, start + 1000, start + 2000} {
		m := wire.NewMessage(wire.Message{Topic: "t", Payload: []byte{byte('a' + i)}, Expires: expires})
		s.Enqueue(session.Delivery{Message: m, QoS: 1}, start)
	}
	expect(t, s, "a:1")
	s.Acked(1)
	p, ok := s.Next(start + 1000)
	if !ok || string(p.Message.Payload) != "c" || p.Publish.Now != start+1000 {
		t.Fatalf("Next() = %+v, %v, want c, as b has expired", p, ok)
	}
	// What was begun goes on.
	s.Connect(params(1), start+9000)
	if p, ok := s.Next(start + 9000); !ok || !p.Publish.Dup {
		t.Errorf("Next() = %+v, %v, want c again", p, ok)
	}
	late := wire.NewMessage(wire.Message{Topic: "t", Expires: start})
	if got := s.Enqueue(session.Delivery{Message: late, QoS: 1}, start); got != session.Expired {
		t.Errorf("Enqueue of an expired message = %v", got)
	}
	if got, want := s.Counters(), (session.Counters{Expired: 2}); got != want {
		t.Errorf("Counters() = %+v, want %+v", got, want)
	}
}

func TestExpiredMessagesMakeRoom(t *testing.T) {
	t.Parallel()
	s := session.New(session.Config{MaxMessages: 3})
	s.Connect(params(0), start)
	s.Disconnect(start)
	put(s, 1, "a")
	for _, ms := range []int64{5000, 500} {
		m := wire.NewMessage(wire.Message{Topic: "t", Payload: []byte("x"), Expires: start + ms})
		s.Enqueue(session.Delivery{Message: m, QoS: 1}, start)
	}
	m := wire.NewMessage(wire.Message{Topic: "t", Payload: []byte("b")})
	if s.Fits(m, start+499) {
		t.Error("Fits() = true in a full session")
	}
	if got := s.Enqueue(session.Delivery{Message: m, QoS: 1}, start+500); got != session.Queued {
		t.Errorf("Enqueue() = %v, want queued in place of an expired one", got)
	}
	if s.Fits(m, start+4999) {
		t.Error("Fits() = true in a session that is full again")
	}
	if got := s.Enqueue(session.Delivery{Message: m, QoS: 1}, start+5000); got != session.Queued {
		t.Errorf("Enqueue() = %v, want queued in place of the other one", got)
	}
	s.Connect(params(0), start)
	expect(t, s, "a:1", "b:2", "b:3")
}

func TestFull(t *testing.T) {
	t.Parallel()
	message := func(payload string) session.Delivery {
		return session.Delivery{Message: wire.NewMessage(wire.Message{Topic: "t", Payload: []byte(payload)}), QoS: 1}
	}
	big := strings.Repeat("x", 100)
	tests := []struct {
		name     string
		config   session.Config
		last     string
		admitted bool
		want     session.Outcome
		writes   []string
		drops    uint64
	}{
		{"messages", session.Config{MaxMessages: 3}, "d", false, session.Replaced, []string{"a:1 dup", "c:2", "d:3"}, 1},
		{"bytes", session.Config{MaxBytes: 6}, "dd", false, session.Replaced, []string{"a:1 dup", "dd:2"}, 2},
		{"nothing is dropped for what fits never", session.Config{MaxBytes: 6}, big, false, session.Full, []string{"a:1 dup", "b:2", "c:3"}, 1},
		{"in flight stays", session.Config{MaxMessages: 1}, "d", false, session.Full, []string{"a:1 dup"}, 3},
		{"what was admitted is queued", session.Config{MaxMessages: 3}, "d", true, session.Queued, []string{"a:1 dup", "b:2", "c:3", "d:4"}, 0},
	}
	for _, tt := range tests {
		s := session.New(tt.config)
		s.Connect(params(0), start)
		put(s, 1, "a")
		write(s)
		s.Disconnect(start)
		put(s, 1, "b", "c")
		last := message(tt.last)
		last.Admitted = tt.admitted
		fits := s.Fits(last.Message, start)
		if got := s.Enqueue(last, start); got != tt.want || fits {
			t.Errorf("%s: Fits() = %v, Enqueue() = %v, want false, %v", tt.name, fits, got, tt.want)
		}
		s.Connect(params(0), start)
		if got := write(s); !slices.Equal(got, tt.writes) {
			t.Errorf("%s: session writes %q, want %q", tt.name, got, tt.writes)
		}
		if got := s.Counters().Full; got != tt.drops {
			t.Errorf("%s: Counters().Full = %d, want %d", tt.name, got, tt.drops)
		}
	}
}

func TestTooLargeIsSkipped(t *testing.T) {
	t.Parallel()
	s := open(0)
	put(s, 1, "a", strings.Repeat("x", 100), "b")
	write(s)
	p := params(0)
	p.MaximumPacketSize = 50
	s.Connect(p, start)
	expect(t, s, "a:1 dup", "b:3 dup")
	put(s, 2, strings.Repeat("x", 100), "c")
	expect(t, s, "c:4")
	if got, want := s.Counters(), (session.Counters{TooLarge: 2}); got != want {
		t.Errorf("Counters() = %+v, want %+v", got, want)
	}
	// Of a QoS 2 message that the client may have already, it must forget the identifier.
	p.MaximumPacketSize = 0
	s.Connect(p, start)
	put(s, 2, strings.Repeat("y", 100))
	write(s)
	p.MaximumPacketSize = 50
	s.Connect(p, start)
	expect(t, s, "a:1 dup", "b:3 dup", "c:4 dup", "pubrel 5")
	if !s.Completed(5) {
		t.Error("Completed(5) = false")
	}
	// The limit is the size of the whole packet, to the byte.
	m := wire.NewMessage(wire.Message{Topic: "t", Payload: make([]byte, 20)})
	d := session.Delivery{Message: m, QoS: 1, Identifiers: []uint32{200}}
	size := len(wire.AppendPublish(nil, wire.V5, m, wire.Publish{QoS: 1, ID: 1, Identifiers: d.Identifiers}))
	for _, off := range []int{-1, 0} {
		s = session.New(session.Config{})
		s.Connect(session.ConnectParams{Version: wire.V5, MaximumPacketSize: uint32(size + off)}, start)
		s.Enqueue(d, start)
		if _, ok := s.Next(start); ok != (off == 0) {
			t.Errorf("packet of %d bytes, maximum %d: sent = %v", size, size+off, ok)
		}
	}
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	never := params(0)
	never.Expiry = session.NeverExpires
	clean := params(0)
	clean.CleanStart = true
	tests := []struct {
		name     string
		first    session.ConnectParams
		leave    bool
		again    session.ConnectParams
		after    int64 // ms
		present  bool
		expireAt int64 // 0: no time
	}{
		{"in time", params(0), true, params(0), 3_599_999, true, 3_600_000},
		{"expired", params(0), true, params(0), 3_600_000, false, 3_600_000},
		{"never expires", never, true, params(0), 1 << 40, true, 0},
		{"clean start", never, true, clean, 0, false, 0},
		{"no expiry interval", session.ConnectParams{}, true, params(0), 0, false, 0},
		{"takeover", params(0), false, params(0), 0, true, 0},
		{"takeover, clean start", params(0), false, clean, 0, false, 0},
		{"takeover, no expiry interval", session.ConnectParams{}, false, params(0), 0, false, 0},
	}
	for _, tt := range tests {
		s := session.New(session.Config{})
		if s.Connect(tt.first, start) {
			t.Errorf("%s: first Connect() = true", tt.name)
		}
		put(s, 1, "a")
		s.Subscribe("t", topic.Options{})
		s.InboundQoS2(5)
		if tt.leave {
			s.Disconnect(start)
			at, ok := s.ExpiresAt()
			if want := tt.first.Expiry != session.NeverExpires; ok != want || ok && at != start+int64(tt.first.Expiry)*1000 {
				t.Errorf("%s: ExpiresAt() = %d, %v", tt.name, at, ok)
			}
		}
		if got := s.Connect(tt.again, start+tt.after); got != tt.present {
			t.Errorf("%s: Connect() = %v, want %v", tt.name, got, tt.present)
		}
		want := 0
		if tt.present {
			want = 1
		}
		if s.Len() != want || s.SubscriptionCount() != want || s.InboundLen() != want {
			t.Errorf("%s: kept %d messages, %d subscriptions, %d inbound identifiers, want %d of each",
				tt.name, s.Len(), s.SubscriptionCount(), s.InboundLen(), want)
		}
	}
}

func TestSetExpiry(t *testing.T) {
	t.Parallel()
	s := open(0)
	s.SetExpiry(0)
	s.Disconnect(start)
	if !s.Over(start) || s.Expiry() != 0 {
		t.Errorf("Over() = %v, Expiry() = %d after SetExpiry(0)", s.Over(start), s.Expiry())
	}
}

func TestInbound(t *testing.T) {
	t.Parallel()
	s := open(0)
	put(s, 2, "a")
	expect(t, s, "a:1")
	if s.InboundQoS2(1) { // the same number as one outbound is nothing to it
		t.Error("InboundQoS2(1) = duplicate at first")
	}
	if !s.InboundQoS2(1) {
		t.Error("InboundQoS2(1) = no duplicate before the PUBREL")
	}
	s.Connect(params(0), start)
	if !s.InboundQoS2(1) {
		t.Error("InboundQoS2(1) = no duplicate on the next connection")
	}
	if !s.Release(1) || s.Release(1) {
		t.Error("Release(1) wants to be true once")
	}
	if s.InboundQoS2(1) {
		t.Error("InboundQoS2(1) = duplicate after the PUBREL")
	}
	expect(t, s, "a:1 dup")
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	s := open(0)
	for i, f := range []string{"c", "a", "b", "a"} {
		if got, want := s.Subscribe(f, topic.Options{QoS: byte(i % 3)}), i == 3; got != want {
			t.Errorf("Subscribe(%q) = %v, want %v", f, got, want)
		}
	}
	list := func(after string) string {
		var b strings.Builder
		for sub := range s.Subscriptions(after) {
			fmt.Fprintf(&b, "%s%d ", sub.Filter, sub.QoS)
		}
		return b.String()
	}
	for after, want := range map[string]string{"": "a0 b2 c0 ", "a": "b2 c0 ", "aa": "b2 c0 ", "c": ""} {
		if got := list(after); got != want {
			t.Errorf("Subscriptions(%q) = %q, want %q", after, got, want)
		}
	}
	if o, ok := s.Subscription("b"); !ok || o.QoS != 2 {
		t.Errorf("Subscription(b) = %+v, %v", o, ok)
	}
	if !s.Unsubscribe("a") || s.Unsubscribe("a") || list("") != "b2 c0 " {
		t.Errorf("after Unsubscribe(a): %q", list(""))
	}
}

func TestPending(t *testing.T) {
	t.Parallel()
	s := open(3)
	put(s, 1, "a")
	put(s, 2, "b", "c")
	put(s, 1, "d", "e")
	write(s)
	s.Received(2, 0) // the client has b
	list := func(limit int) (got string) {
		for m := range s.Pending() {
			if got += string(m.Payload); len(got) == limit {
				break
			}
		}
		return got
	}
	for limit, want := range map[int]string{0: "acde", 1: "a", 3: "acd"} {
		if got := list(limit); got != want {
			t.Errorf("Pending() up to %d (0: all) = %q, want %q", limit, got, want)
		}
	}
}

func TestPacketAppend(t *testing.T) {
	t.Parallel()
	s := open(0)
	put(s, 2, "a")
	p, _ := s.Next(start)
	want := wire.AppendPublish(nil, wire.V311, p.Message, wire.Publish{ID: 1, QoS: 2})
	if got := p.Append(nil, wire.V311); !slices.Equal(got, want) {
		t.Errorf("Append() = % x, want % x", got, want)
	}
	s.Received(1, 0)
	s.Connect(params(0), start)
	p, _ = s.Next(start)
	if got, want := p.Append(nil, wire.V5), []byte{0x62, 2, 0, 1}; !slices.Equal(got, want) {
		t.Errorf("Append() = % x, want % x", got, want)
	}
}

func BenchmarkEnqueueNextAck(b *testing.B) {
	m := wire.NewMessage(wire.Message{Topic: "t", Payload: make([]byte, 200)})
	for _, qos := range []byte{1, 2} {
		for _, window := range []int{1, 20, 1000} {
			b.Run(fmt.Sprintf("qos=%d/window=%d", qos, window), func(b *testing.B) {
				s := open(0)
				ids := make([]uint16, 0, window)
				b.ReportAllocs()
				for b.Loop() {
					s.Enqueue(session.Delivery{Message: m, QoS: qos}, start)
					p, _ := s.Next(start)
					if ids = append(ids, p.Publish.ID); len(ids) < window {
						continue
					}
					for _, id := range ids {
						if qos == 1 {
							s.Acked(id)
							continue
						}
						s.Received(id, 0)
						s.Completed(id)
					}
					ids = ids[:0]
				}
			})
		}
	}
}
