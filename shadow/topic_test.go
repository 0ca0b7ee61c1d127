package shadow_test

import (
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/shadow"
)

func TestParseTopic(t *testing.T) {
	t.Parallel()
	thing := strings.Repeat("t", 128)
	name := strings.Repeat("n", 64)
	tests := []struct {
		topic string
		want  shadow.Topic // zero: no shadow topic
	}{
		{"$aws/things/lamp/shadow/get", shadow.Topic{ID: shadow.ID{Thing: "lamp"}, Op: shadow.OpGet, Kind: shadow.KindRequest}},
		{"$aws/things/lamp/shadow/get/accepted", shadow.Topic{ID: shadow.ID{Thing: "lamp"}, Op: shadow.OpGet, Kind: shadow.KindAccepted}},
		{"$aws/things/lamp/shadow/update", shadow.Topic{ID: shadow.ID{Thing: "lamp"}, Op: shadow.OpUpdate, Kind: shadow.KindRequest}},
		{"$aws/things/lamp/shadow/update/rejected", shadow.Topic{ID: shadow.ID{Thing: "lamp"}, Op: shadow.OpUpdate, Kind: shadow.KindRejected}},
		{"$aws/things/lamp/shadow/update/delta", shadow.Topic{ID: shadow.ID{Thing: "lamp"}, Op: shadow.OpUpdate, Kind: shadow.KindDelta}},
		{"$aws/things/lamp/shadow/update/documents", shadow.Topic{ID: shadow.ID{Thing: "lamp"}, Op: shadow.OpUpdate, Kind: shadow.KindDocuments}},
		{"$aws/things/lamp/shadow/delete", shadow.Topic{ID: shadow.ID{Thing: "lamp"}, Op: shadow.OpDelete, Kind: shadow.KindRequest}},
		{"$aws/things/lamp/shadow/name/cfg/delete/accepted", shadow.Topic{ID: shadow.ID{Thing: "lamp", Name: "cfg"}, Op: shadow.OpDelete, Kind: shadow.KindAccepted}},
		{"$aws/things/a:b_C-9/shadow/name/$a$b/get", shadow.Topic{ID: shadow.ID{Thing: "a:b_C-9", Name: "$a$b"}, Op: shadow.OpGet, Kind: shadow.KindRequest}},
		{"$aws/things/shadow/shadow/name/name/get", shadow.Topic{ID: shadow.ID{Thing: "shadow", Name: "name"}, Op: shadow.OpGet, Kind: shadow.KindRequest}},
		{"$aws/things/name/shadow/name/get/get", shadow.Topic{ID: shadow.ID{Thing: "name", Name: "get"}, Op: shadow.OpGet, Kind: shadow.KindRequest}},
		{"$aws/things/" + thing + "/shadow/name/" + name + "/get", shadow.Topic{ID: shadow.ID{Thing: thing, Name: name}, Op: shadow.OpGet, Kind: shadow.KindRequest}},

		{topic: ""},
		{topic: "lamp/shadow/get"},
		{topic: "$aws/things/"},
		{topic: "$aws/things/lamp"},
		{topic: "$aws/things/lamp/shadow"},
		{topic: "$aws/things/lamp/shadow/"},
		{topic: "$aws/things/lamp/shadow/foo"},
		{topic: "$aws/things/lamp/shadow/get/"},
		{topic: "$aws/things/lamp/shadow/get/delta"},
		{topic: "$aws/things/lamp/shadow/delete/documents"},
		{topic: "$aws/things/lamp/shadow/update/accepted/x"},
		{topic: "$aws/things/lamp/shadow/+"},
		{topic: "$aws/things/lamp/shadow/get/#"},
		{topic: "$aws/things/+/shadow/get"},
		{topic: "$aws/things//shadow/get"},
		{topic: "$aws/things/la.mp/shadow/get"},
		{topic: "$aws/things/$lamp/shadow/get"},
		{topic: "$aws/things/lämp/shadow/get"},
		{topic: "$aws/things/a/b/shadow/get"},
		{topic: "$aws/things/" + thing + "t/shadow/get"},
		{topic: "$aws/things/lamp/shadow/name/cfg"},
		{topic: "$aws/things/lamp/shadow/name//get"},
		{topic: "$aws/things/lamp/shadow/name/c.g/get"},
		{topic: "$aws/things/lamp/shadow/name/" + name + "n/get"},
		{topic: "$aws/things/lamp/shadow/name/get"},
		{topic: "$AWS/things/lamp/shadow/get"},
		{topic: "$aws/things/lamp/Shadow/get"},
	}
	for _, tt := range tests {
		got, ok := shadow.ParseTopic(tt.topic)
		if want := tt.want != (shadow.Topic{}); got != tt.want || ok != want {
			t.Errorf("ParseTopic(%q) = %v, %t, want %v, %t", tt.topic, got, ok, tt.want, want)
		}
		if ok && got.String() != tt.topic {
			t.Errorf("ParseTopic(%q).String() = %q", tt.topic, got.String())
		}
	}
}

// TestParseTopicAllocates is not parallel: AllocsPerRun counts for all goroutines.
func TestParseTopicAllocates(t *testing.T) {
	for _, topic := range []string{"$aws/things/lamp/shadow/name/cfg/update", "$aws/things/la.mp/shadow/get", "plain/topic"} {
		if n := testing.AllocsPerRun(100, func() { shadow.ParseTopic(topic) }); n != 0 {
			t.Errorf("ParseTopic(%q) allocates %v times, want 0", topic, n)
		}
	}
}

func TestTopicsOf(t *testing.T) {
	t.Parallel()
	for _, id := range []shadow.ID{{Thing: "lamp"}, {Thing: "lamp", Name: "cfg"}} {
		topics := shadow.TopicsOf(id)
		for _, tt := range []struct {
			got  string
			op   shadow.Op
			kind shadow.Kind
		}{
			{topics.Get, shadow.OpGet, shadow.KindRequest},
			{topics.GetAccepted, shadow.OpGet, shadow.KindAccepted},
			{topics.GetRejected, shadow.OpGet, shadow.KindRejected},
			{topics.Update, shadow.OpUpdate, shadow.KindRequest},
			{topics.UpdateAccepted, shadow.OpUpdate, shadow.KindAccepted},
			{topics.UpdateRejected, shadow.OpUpdate, shadow.KindRejected},
			{topics.UpdateDelta, shadow.OpUpdate, shadow.KindDelta},
			{topics.UpdateDocuments, shadow.OpUpdate, shadow.KindDocuments},
			{topics.Delete, shadow.OpDelete, shadow.KindRequest},
			{topics.DeleteAccepted, shadow.OpDelete, shadow.KindAccepted},
			{topics.DeleteRejected, shadow.OpDelete, shadow.KindRejected},
		} {
			if want := (shadow.Topic{ID: id, Op: tt.op, Kind: tt.kind}).String(); tt.got != want {
				t.Errorf("TopicsOf(%v): %q, want %q", id, tt.got, want)
			}
		}
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		id   shadow.ID
		ok   bool
		text string
	}{
		{shadow.ID{Thing: "lamp"}, true, "lamp"},
		{shadow.ID{Thing: "lamp", Name: "$cfg"}, true, "lamp~$cfg"},
		{shadow.ID{}, false, ""},
		{shadow.ID{Thing: "$lamp"}, false, "$lamp"},
		{shadow.ID{Thing: "lamp", Name: "a b"}, false, "lamp~a b"},
		{shadow.ID{Thing: strings.Repeat("x", 129)}, false, strings.Repeat("x", 129)},
	}
	for _, tt := range tests {
		err := tt.id.Validate()
		if (err == nil) != tt.ok || err != nil && refusal(t, err).Code != 400 {
			t.Errorf("%v.Validate() = %v, want ok = %t", tt.id, err, tt.ok)
		}
		if got := tt.id.String(); got != tt.text {
			t.Errorf("%v.String() = %q, want %q", tt.id, got, tt.text)
		}
	}
}
