package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/shadow"
)

func withWill(topic, payload string, edit func(*packets.Packet)) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillQos = true, topic, []byte(payload), 1
		if edit != nil {
			edit(pk)
		}
	}
}

func TestWillIsSentWhenTheConnectionIsLost(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	sub := s.connect(t, connectOptions{id: "sub"})
	sub.subscribe(1, "will")
	for _, version := range []byte{4, 5} {
		c := s.connect(t, connectOptions{id: "c", version: version, edit: withWill("will", "", func(pk *packets.Packet) {
			pk.Connect.WillPayload = []byte("gone")
			pk.Connect.WillProperties.User = []packets.UserProperty{{Key: "k", Val: "v"}}
			pk.Connect.WillProperties.ContentType = "t"
		})})
		_ = c.conn.Close()
		pk := sub.wantMessage("will")
		if version == 5 && (len(pk.Properties.User) != 1 || pk.Properties.ContentType != "t") {
			t.Errorf("properties = %+v", pk.Properties)
		}

		c = s.connect(t, connectOptions{id: "c", version: version, edit: withWill("will", "no", nil)})
		c.leave()
		sub.wantQuiet()

		s.connect(t, connectOptions{id: "c", version: version, edit: withWill("will", "taken over", nil)})
		s.connect(t, connectOptions{id: "c", version: version})
		sub.wantMessage("will")
	}
	c := s.connect(t, connectOptions{id: "d", edit: withWill("will", "asked for", nil)})
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: 4})
	sub.wantMessage("will")
	c = s.connect(t, connectOptions{id: "d", edit: withWill("will", "", nil)}) // an empty will is legal
	c.write([]byte{0xF0, 2, 0x18, 0})
	c.wantEnd(0x82)
	sub.wantMessage("will")
}

// The shortest form of a DISCONNECT with a reason has no properties, not even their length.
func TestDisconnectWithWillInTheShortestForm(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	other := s.connect(t, connectOptions{id: "other"})
	other.subscribe(0, "will")
	c := s.connect(t, connectOptions{id: "c", edit: withWill("will", "x", nil)})
	c.write([]byte{packets.Disconnect << 4, 1, packets.CodeDisconnectWillMessage.Code})
	other.wantMessage("will")
	c = s.connect(t, connectOptions{id: "c", edit: withWill("will", "x", nil)})
	c.write([]byte{packets.Disconnect << 4, 1, 0})
	c.wantEnd(0)
	other.wantQuiet()
}

func TestWillDelay(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	sub := s.connect(t, connectOptions{id: "sub"})
	sub.subscribe(1, "will/#")
	delayed := func(topic string) func(*packets.Packet) {
		return withWill(topic, "x", func(pk *packets.Packet) { pk.Connect.WillProperties.WillDelayInterval = 1 })
	}
	c := s.connect(t, connectOptions{id: "back", keep: true, expiry: 100, edit: delayed("will/back")})
	_ = c.conn.Close()
	eventually(t, "disconnect", func() bool { n, _ := s.Connection("back"); return !n.Connected })
	s.connect(t, connectOptions{id: "back", keep: true, expiry: 100})
	c = s.connect(t, connectOptions{id: "late", keep: true, expiry: 100, edit: delayed("will/late")})
	_ = c.conn.Close()
	begin := time.Now()
	sub.wantMessage("will/late")
	if d := time.Since(begin); d < 900*time.Millisecond {
		t.Errorf("will sent after %v, want 1 s", d)
	}
	c = s.connect(t, connectOptions{id: "over", edit: delayed("will/over")}) // the session ends with the connection
	_ = c.conn.Close()
	sub.wantMessage("will/over")
	c = s.connect(t, connectOptions{id: "clean", keep: true, expiry: 100, edit: delayed("will/clean")})
	_ = c.conn.Close()
	eventually(t, "disconnect", func() bool { n, _ := s.Connection("clean"); return !n.Connected })
	s.connect(t, connectOptions{id: "clean"})
	sub.wantMessage("will/clean")
	sub.wantQuiet()
}

func TestWillOnARequestTopicIsARequest(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	app := s.connect(t, connectOptions{id: "app"})
	app.subscribe(1, accepted, rejected)
	c := s.connect(t, connectOptions{id: "lamp", edit: withWill(update, `{"state":{"reported":{"connected":false}}}`, func(pk *packets.Packet) {
		pk.Connect.WillRetain = true
	})})
	c.send(message(update, `{"state":{"reported":{"connected":true}}}`, 1, 1))
	app.wantMessage(accepted)
	finish(c, 1, 1)
	_ = c.conn.Close()
	app.wantMessage(accepted)
	changes, err := s.things.Changes(t.Context(), shadow.ID{Thing: "lamp"}, 0, 10)
	if err != nil || len(changes) != 2 {
		t.Fatalf("Changes = %d entries, %v, want 2", len(changes), err)
	}
	if by := changes[1].Author; by.Channel != "will" || by.ClientID != "lamp" {
		t.Errorf("author = %+v, want the will of lamp", by)
	}
	if n := s.Stats().Retained; n != 0 {
		t.Errorf("retained messages = %d, want 0", n)
	}
}

// The will of a connection that is taken over comes before what the new one reports.
func TestWillOfATakeoverComesFirst(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	o := connectOptions{id: "lamp", edit: withWill(update, `{"state":{"reported":{"connected":false}}}`, nil)}
	s.connect(t, o)
	for i := range 20 {
		c := s.connect(t, o)
		c.send(message(update, `{"state":{"reported":{"connected":true}}}`, 1, 1))
		finish(c, 1, 1)
		doc, err := s.things.Document(t.Context(), shadow.ID{Thing: "lamp"})
		if err != nil {
			t.Fatal(err)
		}
		state := field[map[string]map[string]bool](t, doc.AppendGet(nil, 0, ""), "state")
		if !state["reported"]["connected"] {
			t.Fatalf("takeover %d: the will undid the report", i)
		}
	}
}

func TestForbiddenWillIsRefusedAtConnect(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for _, topic := range []string{accepted, "$SYS/x", "$aws/events/presence/connected/c", "a/+", "$aws/things/a b/shadow/update"} {
		if _, ack := s.tryConnect(t, connectOptions{id: "c", edit: withWill(topic, "x", nil)}); ack.ReasonCode != 0x90 {
			t.Errorf("will on %s: CONNACK = %#x, want 0x90", topic, ack.ReasonCode)
		}
		if _, ack := s.tryConnect(t, connectOptions{id: "c", version: 4, edit: withWill(topic, "x", nil)}); ack.ReasonCode != 5 {
			t.Errorf("will on %s: return code = %#x, want 5", topic, ack.ReasonCode)
		}
	}
	if n := s.Stats(); n.Connections != 0 || n.ConnectsRefused != 10 {
		t.Errorf("connections = %d, refused = %d, want 0 and 10", n.Connections, n.ConnectsRefused)
	}
}

func TestShutdownSendsWillsAndSaysSo(t *testing.T) {
	t.Parallel()
	s := startVolatile(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "lamp", edit: withWill(update, `{"state":{"reported":{"connected":false}}}`, nil)})
	old := s.connect(t, connectOptions{id: "old", version: 4})
	mute := s.dial(t, 5)
	away := s.connect(t, connectOptions{id: "away", keep: true, expiry: 100, edit: withWill("$aws/things/away/shadow/update", `{"state":{}}`, func(pk *packets.Packet) {
		pk.Connect.WillProperties.WillDelayInterval = 50
	})})
	_ = away.conn.Close()
	eventually(t, "disconnect", func() bool { n, _ := s.Connection("away"); return !n.Connected })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	c.wantEnd(0x8B)
	old.wantEnd(0)
	mute.wantEnd(0)
	for _, thing := range []string{"lamp", "away"} {
		if doc, err := s.things.Document(t.Context(), shadow.ID{Thing: thing}); err != nil || doc.Version() != 1 {
			t.Errorf("version of %s = %d, %v, want 1", thing, doc.Version(), err)
		}
	}
}
