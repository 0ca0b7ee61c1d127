package wire_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/umbra-iot/umbra/broker/wire"
)

var recorded = []wire.Message{
	{},
	{Topic: "t", Payload: []byte("p"), QoS: 2, Retain: true, Publisher: "c", Expires: 1_700_000_000_000},
	{Topic: "a/b", Payload: bytes.Repeat([]byte("x"), 1<<17), Properties: &wire.Properties{
		PayloadFormat: 1, HasPayloadFormat: true, ContentType: "text", HasContentType: true, ResponseTopic: "r", HasResponseTopic: true,
		Correlation: []byte{0, 255},
		User:        []wire.UserProperty{{"k", "v"}, {"k", ""}, {"", string(bytes.Repeat([]byte("y"), wire.MaxString))}},
	}},
	{Topic: "t", Properties: &wire.Properties{Correlation: []byte{}}},
	{Topic: "t", Properties: &wire.Properties{HasContentType: true, HasResponseTopic: true}},
	{Topic: "t", Fleeting: true, Expires: 1_700_000_000_000},
}

func TestRecord(t *testing.T) {
	t.Parallel()
	for _, m := range recorded {
		want := wire.NewMessage(m)
		got, err := wire.ParseRecord(wire.AppendRecord(nil, want))
		if err != nil {
			t.Fatalf("ParseRecord(%.20q) = %v", m.Topic, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(wire.Message{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("ParseRecord (-want +got):\n%s", diff)
		}
		if a, b := wire.AppendPublish(nil, wire.V5, want, wire.Publish{}), wire.AppendPublish(nil, wire.V5, got, wire.Publish{}); !bytes.Equal(a, b) {
			t.Errorf("a message is written as % x after it was stored, want % x", b, a)
		}
		if got.Size() != want.Size() {
			t.Errorf("Size() = %d, want %d", got.Size(), want.Size())
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, m := range recorded[:2] {
		f.Add(wire.AppendRecord(nil, wire.NewMessage(m)))
	}
	f.Add([]byte{1, 0, 0, 0, 0, 4, 38, 0, 9, 1})
	f.Fuzz(func(t *testing.T, record []byte) {
		m, err := wire.ParseRecord(record)
		if err != nil {
			return
		}
		again, err := wire.ParseRecord(wire.AppendRecord(nil, m))
		if err != nil || !cmp.Equal(m, again, cmpopts.IgnoreUnexported(wire.Message{}), cmpopts.EquateEmpty()) {
			t.Errorf("ParseRecord(AppendRecord(%+v)) = %+v, %v", m, again, err)
		}
	})
}
