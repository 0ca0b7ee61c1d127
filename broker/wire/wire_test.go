package wire_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/wire"
)

const now = 1_700_000_000_000

var versions = []wire.Version{wire.V311, wire.V5}

// decode reads the one packet that b must be, with the codec of another implementation.
func decode(tb testing.TB, v wire.Version, b []byte) packets.Packet {
	tb.Helper()
	r := bytes.NewBuffer(b)
	first, err := r.ReadByte()
	if err != nil {
		tb.Fatal(err)
	}
	pk := packets.Packet{ProtocolVersion: byte(v)}
	if err := pk.FixedHeader.Decode(first); err != nil {
		tb.Fatalf("fixed header %#x: %v", first, err)
	}
	remaining, _, err := packets.DecodeLength(r)
	if err != nil || remaining != r.Len() {
		tb.Fatalf("remaining length %d (%v), %d bytes follow", remaining, err, r.Len())
	}
	pk.FixedHeader.Remaining = remaining
	body := map[byte]func([]byte) error{
		packets.Publish:    pk.PublishDecode,
		packets.Puback:     pk.PubackDecode,
		packets.Pubrec:     pk.PubrecDecode,
		packets.Pubrel:     pk.PubrelDecode,
		packets.Pubcomp:    pk.PubcompDecode,
		packets.Suback:     pk.SubackDecode,
		packets.Unsuback:   pk.UnsubackDecode,
		packets.Disconnect: pk.DisconnectDecode,
		packets.Pingresp:   pk.PingrespDecode,
	}[pk.FixedHeader.Type]
	if err := body(r.Bytes()); err != nil {
		tb.Fatalf("packet type %d: %v", pk.FixedHeader.Type, err)
	}
	return pk
}

func fullMessage() *wire.Message {
	return wire.NewMessage(wire.Message{
		Topic:   "a/Ä",
		Payload: []byte("payload"),
		Properties: &wire.Properties{
			PayloadFormat: 1, HasPayloadFormat: true,
			ContentType:   "application/json",
			ResponseTopic: "answers/7",
			Correlation:   []byte{0, 1, 2},
			User:          []wire.UserProperty{{Key: "k", Value: "1"}, {Key: "", Value: ""}, {Key: "k", Value: "2"}},
		},
		Expires: now + 60_000,
	})
}

func TestPublish(t *testing.T) {
	t.Parallel()
	plain := wire.NewMessage(wire.Message{Topic: "t"})
	long := wire.NewMessage(wire.Message{Topic: strings.Repeat("t", 300), Payload: make([]byte, 3_000_000)})
	for _, m := range []*wire.Message{plain, fullMessage(), long} {
		for _, p := range []wire.Publish{
			{},
			{QoS: 0, Retain: true, Now: now + 30_001},
			{QoS: 1, ID: 1, Now: now + 30_000},
			{QoS: 1, ID: 65535, Dup: true, Identifiers: []uint32{1, 127, 128, wire.MaxIdentifier}, Now: now + 59_999},
			{QoS: 2, ID: 256, Dup: true, Retain: true, Identifiers: []uint32{300}, Now: now + 60_001},
		} {
			for _, v := range versions {
				checkPublish(t, v, m, p)
			}
		}
	}
}

// checkPublish decodes what AppendPublish writes and compares everything.
func checkPublish(tb testing.TB, v wire.Version, m *wire.Message, p wire.Publish) {
	tb.Helper()
	prefix := []byte("before")
	b := wire.AppendPublish(prefix, v, m, p)
	if !bytes.HasPrefix(b, prefix) {
		tb.Fatalf("AppendPublish changed what was there: %.20q", b)
	}
	b = b[len(prefix):]
	if got := wire.PublishSize(v, m, p.QoS, p.Identifiers); got != len(b) {
		tb.Errorf("PublishSize(%d, %+v) = %d, AppendPublish wrote %d bytes", v, p, got, len(b))
	}
	pk := decode(tb, v, b)
	got := fmt.Sprintf("%q %t %d %t %d", pk.TopicName, pk.FixedHeader.Dup, pk.FixedHeader.Qos, pk.FixedHeader.Retain, pk.PacketID)
	if want := fmt.Sprintf("%q %t %d %t %d", m.Topic, p.Dup, p.QoS, p.Retain, p.ID); got != want {
		tb.Errorf("packet is %s, want %s", got, want)
	}
	if !bytes.Equal(pk.Payload, m.Payload) {
		tb.Errorf("payload is %.100q, want %.100q", pk.Payload, m.Payload)
	}
	if v < wire.V5 {
		return
	}
	var want packets.Properties
	for _, id := range p.Identifiers {
		want.SubscriptionIdentifier = append(want.SubscriptionIdentifier, int(id))
	}
	if m.Expires != 0 {
		want.MessageExpiryInterval = uint32(max(0, (m.Expires-p.Now+999)/1000))
	}
	if q := m.Properties; q != nil {
		want.PayloadFormat, want.PayloadFormatFlag = q.PayloadFormat, q.HasPayloadFormat
		want.ContentType, want.ResponseTopic, want.CorrelationData = q.ContentType, q.ResponseTopic, q.Correlation
		for _, u := range q.User {
			want.User = append(want.User, packets.UserProperty{Key: u.Key, Val: u.Value})
		}
	}
	if diff := cmp.Diff(want, pk.Properties); diff != "" {
		tb.Errorf("properties of %+v (-want +got):\n%s", p, diff)
	}
}

func TestPublishWithAlias(t *testing.T) {
	t.Parallel()
	m := fullMessage()
	for _, omit := range []bool{false, true} {
		p := wire.Publish{QoS: 1, ID: 7, Now: now, Alias: 300, OmitTopic: omit}
		pk := decode(t, wire.V5, wire.AppendPublish(nil, wire.V5, m, p))
		want := m.Topic
		if omit {
			want = ""
		}
		if pk.TopicName != want || pk.Properties.TopicAlias != 300 || !bytes.Equal(pk.Payload, m.Payload) {
			t.Errorf("AppendPublish(%+v) = topic %q, alias %d, payload %q", p, pk.TopicName, pk.Properties.TopicAlias, pk.Payload)
		}
	}
}

func TestRemainingExpiry(t *testing.T) {
	t.Parallel()
	m := wire.NewMessage(wire.Message{Topic: "t", Expires: now + 10_000})
	for waited, want := range map[int64]uint32{0: 10, 1: 10, 999: 10, 1000: 9, 9999: 1, 10_000: 0, 99_999: 0} {
		b := wire.AppendPublish(nil, wire.V5, m, wire.Publish{Now: now + waited})
		if got := decode(t, wire.V5, b).Properties.MessageExpiryInterval; got != want {
			t.Errorf("after %d ms: expiry interval %d, want %d", waited, got, want)
		}
	}
	if m.Expired(now+9999) || !m.Expired(now+10_000) {
		t.Error("Expired is wrong around the end")
	}
}

func TestAcks(t *testing.T) {
	t.Parallel()
	kinds := []struct {
		kind   byte
		append func([]byte, wire.Version, wire.Ack) []byte
		reason byte
	}{
		{packets.Puback, wire.AppendPuback, 0x97},
		{packets.Pubrec, wire.AppendPubrec, 0x80},
		{packets.Pubrel, wire.AppendPubrel, 0x92},
		{packets.Pubcomp, wire.AppendPubcomp, 0x92},
	}
	for _, k := range kinds {
		for _, a := range []wire.Ack{
			{ID: 1},
			{ID: 0x1234, Reason: k.reason},
			{ID: 65535, Reason: k.reason, ReasonString: "why"},
			{ID: 2, ReasonString: strings.Repeat("x", 200)},
			{ID: 3, Reason: k.reason, ReasonString: strings.Repeat("x", wire.MaxString)},
		} {
			for _, v := range versions {
				b := k.append(nil, v, a)
				want := a
				if v < wire.V5 {
					want = wire.Ack{ID: a.ID}
				}
				if (want == wire.Ack{ID: a.ID}) && len(b) != 4 {
					t.Errorf("packet %d without a reason has %d bytes, want 4", k.kind, len(b))
				}
				pk := decode(t, v, b)
				got := wire.Ack{ID: pk.PacketID, Reason: pk.ReasonCode, ReasonString: pk.Properties.ReasonString}
				if pk.FixedHeader.Type != k.kind || got != want {
					t.Errorf("packet %d: %+v of type %d, want %+v", k.kind, got, pk.FixedHeader.Type, want)
				}
			}
		}
	}
}

func TestSubAcks(t *testing.T) {
	t.Parallel()
	many := bytes.Repeat([]byte{0, 1, 2, 0x87}, 100)
	for _, a := range []wire.SubAck{
		{ID: 1, Reasons: []byte{2}},
		{ID: 65535, Reasons: []byte{0, 1, 2, 0x80, 0x8F, 0x97}},
		{ID: 7, Reasons: many, ReasonString: "why"},
	} {
		for _, v := range versions {
			pk := decode(t, v, wire.AppendSuback(nil, v, a))
			want := bytes.Clone(a.Reasons)
			if v < wire.V5 {
				for i := range want {
					want[i] = min(want[i], 0x80)
				}
			}
			if pk.FixedHeader.Type != packets.Suback || pk.PacketID != a.ID || !bytes.Equal(pk.ReasonCodes, want) {
				t.Errorf("version %d: SUBACK %d % x, want %d % x", v, pk.PacketID, pk.ReasonCodes, a.ID, want)
			}
			if got := pk.Properties.ReasonString; v >= wire.V5 && got != a.ReasonString {
				t.Errorf("SUBACK reason string %q, want %q", got, a.ReasonString)
			}
			b := wire.AppendUnsuback(nil, v, a)
			if v < wire.V5 {
				if want := []byte{0xB0, 2, byte(a.ID >> 8), byte(a.ID)}; !bytes.Equal(b, want) {
					t.Errorf("UNSUBACK % x, want % x", b, want)
				}
				continue
			}
			pk = decode(t, v, b)
			if pk.PacketID != a.ID || !bytes.Equal(pk.ReasonCodes, a.Reasons) || pk.Properties.ReasonString != a.ReasonString {
				t.Errorf("UNSUBACK %d % x %q, want %+v", pk.PacketID, pk.ReasonCodes, pk.Properties.ReasonString, a)
			}
		}
	}
}

func TestDisconnectAndPingresp(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"", "taken over"} {
		pk := decode(t, wire.V5, wire.AppendDisconnect(nil, 0x8E, reason))
		if pk.ReasonCode != 0x8E || pk.Properties.ReasonString != reason {
			t.Errorf("DISCONNECT %#x %q, want 0x8e %q", pk.ReasonCode, pk.Properties.ReasonString, reason)
		}
	}
	if got := wire.AppendPingresp(nil); !bytes.Equal(got, []byte{0xD0, 0}) {
		t.Errorf("PINGRESP % x", got)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", wire.MaxString+1)
	if err := fullMessage().Validate(); err != nil {
		t.Errorf("Validate() = %v, want nil", err)
	}
	for _, bad := range []wire.Message{
		{QoS: 3},
		{Topic: long},
		{Topic: "a\x00"},
		{Properties: &wire.Properties{PayloadFormat: 2}},
		{Properties: &wire.Properties{ContentType: "\xff"}},
		{Properties: &wire.Properties{ResponseTopic: long}},
		{Properties: &wire.Properties{Correlation: []byte(long)}},
		{Properties: &wire.Properties{User: []wire.UserProperty{{Key: long}}}},
		{Properties: &wire.Properties{User: []wire.UserProperty{{Value: "\xed\xa0\x80"}}}},
	} {
		if bad.Validate() == nil {
			t.Errorf("Validate(%.60v) = nil, want an error", bad)
		}
	}
}

func FuzzPublish(f *testing.F) {
	f.Add("t", []byte("payload"), "application/json", "answer", []byte{1}, "k", "v", uint32(5), uint16(7), byte(1), int64(3000))
	f.Add("", []byte(nil), "", "", []byte(nil), "", "", uint32(0), uint16(0), byte(0), int64(0))
	f.Fuzz(func(t *testing.T, topic string, payload []byte, contentType, response string, correlation []byte,
		key, value string, identifier uint32, id uint16, flags byte, expires int64,
	) {
		msg := wire.Message{Topic: topic, Payload: payload, Properties: &wire.Properties{
			PayloadFormat: flags >> 6 & 1, HasPayloadFormat: flags>>6&1 == 1,
			ContentType: contentType, ResponseTopic: response,
			User: []wire.UserProperty{{Key: key, Value: value}, {Key: value, Value: key}},
		}}
		if len(correlation) > 0 { // the decoder of the test tells empty and missing data apart in its own way
			msg.Properties.Correlation = correlation
		}
		if expires > 0 && expires < 1<<40 {
			msg.Expires = now + expires
		}
		m := wire.NewMessage(msg)
		p := wire.Publish{QoS: flags & 3, Dup: flags&7 > 4, Retain: flags&8 != 0, Now: now}
		if m.Validate() != nil || p.QoS > 2 || strings.ContainsAny(topic+response, "+#") {
			return
		}
		if p.QoS > 0 {
			p.ID = id
		}
		if identifier > 0 && identifier <= wire.MaxIdentifier {
			p.Identifiers = []uint32{identifier, 1}
		}
		for _, v := range versions {
			checkPublish(t, v, m, p)
		}
	})
}

func BenchmarkAppendPublish(b *testing.B) {
	for _, bb := range []struct {
		name string
		m    *wire.Message
		v    wire.Version
	}{
		{"v3", wire.NewMessage(wire.Message{Topic: "$aws/things/lamp/shadow/update/delta", Payload: make([]byte, 200)}), wire.V311},
		{"v5", wire.NewMessage(wire.Message{Topic: "$aws/things/lamp/shadow/update/delta", Payload: make([]byte, 200)}), wire.V5},
		{"v5-all-properties", fullMessage(), wire.V5},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 4096)
			for b.Loop() {
				buf = wire.AppendPublish(buf[:0], bb.v, bb.m, wire.Publish{QoS: 1, ID: 7, Now: now})
			}
		})
	}
}
