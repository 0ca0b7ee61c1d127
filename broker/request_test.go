package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/shadow"
)

func TestRequestOverEveryQoSAndVersion(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("v%d/qos%d", version, qos), func(t *testing.T) {
				t.Parallel()
				s := start(t, broker.Options{})
				app := s.connect(t, connectOptions{id: "app", version: version})
				app.subscribe(1, lamp+"#")
				dev := s.connect(t, connectOptions{id: "dev", version: version})

				dev.send(message(update, `{"state":{"desired":{"on":true}},"clientToken":"x"}`, qos, 7))
				finish(dev, qos, 7)
				app.wantMessage(update)
				if got := field[string](t, app.wantMessage(accepted).Payload, "clientToken"); got != "x" {
					t.Errorf("clientToken = %q, want x", got)
				}
				if got := field[int](t, app.wantMessage(delta).Payload, "version"); got != 1 {
					t.Errorf("version = %d, want 1", got)
				}
				app.wantMessage(update + "/documents")

				dev.send(message(update, `{"state":5}`, qos, 8))
				if code := finish(dev, qos, 8); version == 5 && qos > 0 && code != 0x99 {
					t.Errorf("reason code = %#x, want 0x99", code)
				}
				app.wantMessage(update)
				if got := field[int](t, app.wantMessage(rejected).Payload, "code"); got != 400 {
					t.Errorf("code = %d, want 400", got)
				}

				dev.send(message(lamp+"get", ``, qos, 9))
				finish(dev, qos, 9)
				app.wantMessage(lamp + "get")
				app.wantMessage(lamp + "get/accepted")
				dev.send(message(lamp+"delete", ``, qos, 10))
				finish(dev, qos, 10)
				app.wantMessage(lamp + "delete")
				app.wantMessage(lamp + "delete/accepted")
			})
		}
	}
}

// finish reads the acknowledgement of a publish and ends the exchange.
func finish(c *raw, qos byte, id uint16) (code byte) {
	c.t.Helper()
	switch qos {
	case 1:
		ack := c.want(packets.Puback)
		if ack.PacketID != id {
			c.t.Fatalf("PUBACK of %d, want %d", ack.PacketID, id)
		}
		return ack.ReasonCode
	case 2:
		ack := c.want(packets.Pubrec)
		if ack.PacketID != id {
			c.t.Fatalf("PUBREC of %d, want %d", ack.PacketID, id)
		}
		if ack.ReasonCode < 0x80 {
			c.send(ackOf(packets.Pubrel, id))
			c.want(packets.Pubcomp)
		}
		return ack.ReasonCode
	}
	return 0
}

func TestPubackOnlyAfterTheCommitAndTheMessages(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "dev"})
	c.subscribe(0, accepted)
	release := s.store.Hold()
	defer release()
	c.send(message(update, `{"state":{"reported":{"a":1}}}`, 1, 1))
	eventually(t, "commit under way", func() bool { return s.store.Held() == 1 })
	c.wantQuiet()
	release()
	c.wantMessage(accepted)
	finish(c, 1, 1)
}

func TestAcknowledgementsKeepTheOrderOfThePublishes(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "dev"})
	release := s.store.Hold()
	defer release()
	c.send(
		message(update, `{"state":{"reported":{"a":1}}}`, 1, 1),
		message("plain", `1`, 1, 2),
		message(update, `{"state":{"reported":{"a":2}}}`, 2, 3),
		message("plain", `2`, 1, 4),
		message(update, `{`, 1, 5),
	)
	eventually(t, "commit under way", func() bool { return s.store.Held() == 1 })
	c.wantQuiet()
	release()
	finish(c, 1, 1)
	finish(c, 1, 2)
	if pk := c.want(packets.Pubrec); pk.PacketID != 3 {
		t.Errorf("PUBREC of %d, want 3", pk.PacketID)
	}
	finish(c, 1, 4)
	if code := finish(c, 1, 5); code != 0x99 {
		t.Errorf("reason code = %#x, want 0x99", code)
	}
}

func TestRefusalShowsInTheAcknowledgement(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "dev"})
	s.do(t, `{"state":{"reported":{"a":1}}}`)
	for i, tt := range []struct {
		topic, payload string
		code           byte
		reason         string
	}{
		{update, `{`, 0x99, "400 Invalid JSON"},
		{update, "{\"state\":{\"reported\":{\"a\":\"\xff\"}}}", 0x99, "415 "},
		{update, `{"state":{},"version":9}`, 0x83, "409 Version conflict"},
		{"$aws/things/nobody/shadow/get", ``, 0x83, "404 No shadow exists"},
		{update, `{"state":{"reported":{"a":"` + strings.Repeat("x", 8200) + `"}}}`, 0x97, "413 "},
	} {
		c.send(message(tt.topic, tt.payload, 1, uint16(i+1)))
		ack := c.want(packets.Puback)
		if ack.ReasonCode != tt.code || !strings.HasPrefix(ack.Properties.ReasonString, tt.reason) {
			t.Errorf("%.40s: PUBACK %#x %q, want %#x %q", tt.payload, ack.ReasonCode, ack.Properties.ReasonString, tt.code, tt.reason)
		}
	}
}

func TestNoReasonStringForWhoWantsNone(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "dev", edit: func(pk *packets.Packet) { pk.Properties.RequestProblemInfoFlag = true }})
	c.send(message(update, `{`, 1, 1))
	if ack := c.want(packets.Puback); ack.ReasonCode != 0x99 || ack.Properties.ReasonString != "" {
		t.Errorf("PUBACK %#x %q, want 0x99 without a reason string", ack.ReasonCode, ack.Properties.ReasonString)
	}
}

func TestStoreFailure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		version, qos byte
	}{{4, 0}, {4, 1}, {4, 2}, {5, 0}, {5, 1}, {5, 2}} {
		t.Run(fmt.Sprintf("v%d/qos%d", tt.version, tt.qos), func(t *testing.T) {
			t.Parallel()
			s := start(t, broker.Options{})
			app := s.connect(t, connectOptions{id: "app"})
			app.subscribe(0, rejected, accepted)
			c := s.connect(t, connectOptions{id: "dev", version: tt.version, keep: true, expiry: 100})
			s.store.FailBefore(1, errors.New("disk on fire"))
			body := `{"state":{"reported":{"a":1}}}`
			c.send(message(update, body, tt.qos, 1))
			if got := field[int](t, app.wantMessage(rejected).Payload, "code"); got != 500 {
				t.Errorf("code = %d, want 500", got)
			}
			switch {
			case tt.qos == 0:
				c.ping()
			case tt.version == 4 || tt.qos == 2:
				c.wantEnd(0x80)
				eventually(t, "store works again", func() bool {
					var ack packets.Packet
					c, ack = s.tryConnect(t, connectOptions{id: "dev", version: tt.version, keep: true, expiry: 100})
					return ack.ReasonCode == 0
				})
			default:
				if code := finish(c, tt.qos, 1); code != 0x80 {
					t.Errorf("reason code = %#x, want 0x80", code)
				}
			}
			again := message(update, body, tt.qos, 1)
			again.FixedHeader.Dup = tt.qos > 0
			c.send(again)
			if code := finish(c, tt.qos, 1); code != 0 {
				t.Errorf("reason code of the second attempt = %#x, want 0", code)
			}
			app.wantMessage(accepted)
		})
	}
}

func TestQoS2RepetitionIsProcessedOnceAndAcknowledgedAfterTheCommit(t *testing.T) {
	t.Parallel()
	s := startVolatile(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "dev", keep: true, expiry: 100})
	release := s.store.Hold()
	defer release()
	pk := message(update, `{"state":{"reported":{"a":1}}}`, 2, 5)
	c.send(pk)
	eventually(t, "commit under way", func() bool { return s.store.Held() == 1 })
	c = s.connect(t, connectOptions{id: "dev", keep: true, expiry: 100})
	pk.FixedHeader.Dup = true
	c.send(pk)
	c.wantQuiet()
	release()
	if code := finish(c, 2, 5); code != 0 {
		t.Errorf("PUBREC = %#x, want 0", code)
	}
	doc, err := s.things.Document(t.Context(), shadow.ID{Thing: "lamp"})
	if err != nil || doc.Version() != 1 {
		t.Errorf("version = %d, %v, want 1", doc.Version(), err)
	}
}

func TestRetainedRequestIsARequestAndNotRetained(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "dev"})
	c.subscribe(0, accepted)
	pk := message(update, `{"state":{"reported":{"a":1}}}`, 0, 0)
	pk.FixedHeader.Retain = true
	c.send(pk)
	c.wantMessage(accepted)
	if got := s.Stats().Retained; got != 0 {
		t.Errorf("retained messages = %d, want 0", got)
	}
	late := s.connect(t, connectOptions{id: "late"})
	late.subscribe(0, update)
	late.wantQuiet()
}

func TestResponseTopicGetsTheOutcome(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "dev"})
	c.subscribe(0, "answers", accepted)
	pk := message(update, `{"state":{"reported":{"a":1}}}`, 1, 1)
	pk.Properties.ResponseTopic, pk.Properties.CorrelationData = "answers", []byte("c1")
	c.send(pk)
	first := c.wantMessage(accepted)
	answer := c.wantMessage("answers")
	if string(answer.Payload) != string(first.Payload) || string(answer.Properties.CorrelationData) != "c1" {
		t.Errorf("answer = %s with correlation %q, want %s with c1", answer.Payload, answer.Properties.CorrelationData, first.Payload)
	}
	finish(c, 1, 1)

	pk = message(update, `{`, 1, 2)
	pk.Properties.ResponseTopic = "answers"
	c.send(pk)
	if got := field[int](t, c.wantMessage("answers").Payload, "code"); got != 400 {
		t.Errorf("code = %d, want 400", got)
	}
	finish(c, 1, 2)

	pk = message(update, `{"state":{}}`, 1, 3)
	pk.Properties.ResponseTopic = "$aws/things/other/shadow/update/accepted"
	c.subscribe(0, "$aws/things/other/shadow/#")
	c.send(pk)
	c.wantMessage(accepted)
	finish(c, 1, 3)
	c.wantQuiet()

	pk.Properties.ResponseTopic = "answers/x"
	c.write(bytes.Replace(c.encode(pk), []byte("answers/x"), []byte("answers/+"), 1)) // the encoder would leave it out
	c.wantEnd(0x82)
}

func TestForbiddenTopics(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	all := s.connect(t, connectOptions{id: "all"})
	all.subscribe(0, "$aws/#", "$SYS/#")
	all.wantMessageLike("$aws/events/subscriptions/")
	for _, name := range []string{
		accepted, rejected, delta, update + "/documents", lamp + "foo", "$aws/things/lamp", "$aws/things/lamp/shadow/name/x/y/update",
		"$aws/events/presence/connected/x", "$aws/rules/r/t", "$SYS/broker/uptime", "$share/g/x",
	} {
		v5 := s.connect(t, connectOptions{})
		all.wantMessageLike("$aws/events/presence/connected/")
		v5.send(message(name, `{"state":{}}`, 1, 1))
		if ack := v5.want(packets.Puback); ack.ReasonCode != 0x90 || ack.Properties.ReasonString == "" {
			t.Errorf("%s: PUBACK = %#x %q, want 0x90 with a reason", name, ack.ReasonCode, ack.Properties.ReasonString)
		}
		v5.send(message(name, `{"state":{}}`, 2, 1))
		if ack := v5.want(packets.Pubrec); ack.ReasonCode != 0x90 {
			t.Errorf("%s: PUBREC = %#x, want 0x90", name, ack.ReasonCode)
		}
		v5.send(message(name, `{"state":{}}`, 0, 0))
		v5.ping()
		v3 := s.connect(t, connectOptions{version: 4, id: "v3"})
		all.wantMessageLike("$aws/events/presence/connected/")
		for qos := range byte(3) {
			v3.send(message(name, `{"state":{}}`, qos, uint16(qos)))
			finish(v3, qos, uint16(qos))
		}
		v3.ping()
		v5.leave()
		all.wantMessageLike("$aws/events/presence/disconnected/")
		v3.leave()
		all.wantMessageLike("$aws/events/presence/disconnected/")
	}
	all.wantQuiet()
}

// wantMessageLike reads a QoS 0 PUBLISH whose topic has a prefix.
func (c *raw) wantMessageLike(prefix string) packets.Packet {
	c.t.Helper()
	pk := c.want(packets.Publish)
	if !strings.HasPrefix(pk.TopicName, prefix) {
		c.t.Fatalf("message on %q (%s), want %s...", pk.TopicName, pk.Payload, prefix)
	}
	return pk
}

func TestIllegalNameIsToldOnTheRejectedTopic(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for _, name := range []string{"$aws/things/a b/shadow/update", "$aws/things/lamp/shadow/name/no~good/get"} {
		for _, version := range []byte{4, 5} {
			c := s.connect(t, connectOptions{version: version, id: "c"})
			c.subscribe(0, strings.Replace(name, "a b", "+", 1)+"/#")
			c.send(message(name, `{"clientToken":"t"}`, 1, 1))
			pk := c.wantMessage(name + "/rejected")
			if code, token := field[int](t, pk.Payload, "code"), field[string](t, pk.Payload, "clientToken"); code != 400 || token != "t" {
				t.Errorf("%s: rejected %d %q, want 400 t", name, code, token)
			}
			if code := finish(c, 1, 1); version == 5 && code != 0x90 {
				t.Errorf("%s: PUBACK = %#x, want 0x90", name, code)
			}
		}
	}
}

func TestPublishMessage(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, connectOptions{id: "c"})
	c.subscribe(1, "a", accepted)
	p := broker.Publication{Topic: "a", Payload: []byte("x"), QoS: 1, Retain: true}
	p.Properties = broker.Properties{ContentType: "text/plain", User: []broker.UserProperty{{Name: "k", Value: "v"}}, PayloadUTF8: true}
	if err := s.PublishMessage(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	pk := c.wantMessage("a")
	if pk.Properties.ContentType != "text/plain" || len(pk.Properties.User) != 1 || pk.Properties.PayloadFormat != 1 {
		t.Errorf("properties = %+v", pk.Properties)
	}
	if m, ok := s.RetainedMessage("a"); !ok || string(m.Payload) != "x" || len(m.User) != 1 || m.Modified == 0 {
		t.Errorf("RetainedMessage = %+v, %v", m, ok)
	}
	if list := s.RetainedMessages("", 10); len(list) != 1 || list[0].Topic != "a" {
		t.Errorf("RetainedMessages = %+v", list)
	}
	if err := s.PublishMessage(t.Context(), broker.Publication{Topic: update, Payload: []byte(`{"state":{}}`)}); err != nil {
		t.Fatal(err)
	}
	c.wantMessage(accepted)
	for _, name := range []string{accepted, "a/+", ""} {
		if err := s.PublishMessage(t.Context(), broker.Publication{Topic: name}); !errors.Is(err, broker.ErrTopic) {
			t.Errorf("PublishMessage(%q) = %v, want ErrTopic", name, err)
		}
	}
	s.store.FailBefore(1, errors.New("no"))
	err := s.PublishMessage(t.Context(), broker.Publication{Topic: update, Payload: []byte(`{"state":{}}`)})
	if refusal, ok := errors.AsType[*shadow.Error](err); !ok || refusal.Code != 500 {
		t.Errorf("PublishMessage with a failing store = %v, want code 500", err)
	}
}
