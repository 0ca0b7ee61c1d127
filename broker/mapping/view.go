package mapping

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/shadow"
)

// maxViewPayload is how many bytes of a payload a view has.
const maxViewPayload = 4 << 10

// View is an [Explanation] as JSON tells it.
type View struct {
	Rules     []Match       `json:"rules,omitempty"`
	Updates   []UpdateView  `json:"updates,omitempty"`
	Deletes   []ShadowView  `json:"deletes,omitempty"`
	Publishes []PublishView `json:"publishes,omitempty"`
	Errors    []ErrorView   `json:"errors,omitempty"`
	Uncovered [][]string    `json:"uncovered,omitempty"` // paths below desired that no command is about
}

// ShadowView names a shadow.
type ShadowView struct {
	Thing  string `json:"thing"`
	Shadow string `json:"shadow,omitempty"` // "" for the classic one
}

// UpdateView is an update that would be made.
type UpdateView struct {
	Mapping string `json:"mapping"`
	ShadowView
	State json.RawMessage `json:"state"` // the sections that it is about
}

// PublishView is a command or a query that would be sent.
type PublishView struct {
	Mapping string `json:"mapping"`
	Rule    string `json:"rule"`
	Line    int    `json:"line"`
	Thing   string `json:"thing"`
	Topic   string `json:"topic"`
	PayloadView
	QoS    byte   `json:"qos"`
	Retain bool   `json:"retain"`
	Client string `json:"client,omitempty"` // that alone gets it
}

// PayloadView is the beginning of a payload.
type PayloadView struct {
	Text   *string `json:"payload,omitempty"`       // when it is UTF-8
	Binary []byte  `json:"payloadBase64,omitempty"` // when it is not
	Bytes  int     `json:"payloadBytes,omitempty"`  // its length, when that is more than what is here
}

// ErrorView is a failure.
type ErrorView struct {
	Code    Code   `json:"code"`
	Mapping string `json:"mapping"`
	Thing   string `json:"thing,omitempty"`
	Message string `json:"message"`
}

// View returns the explanation as JSON tells it.
func (x *Explanation) View() View {
	v := View{Rules: x.Matches, Uncovered: x.Uncovered}
	for i := range x.Reports {
		u := &x.Reports[i]
		v.Updates = append(v.Updates, UpdateView{Mapping: u.Mapping, ShadowView: viewOf(u.ID), State: u.State()})
	}
	for _, id := range x.Deletes {
		v.Deletes = append(v.Deletes, viewOf(id))
	}
	for i := range x.Publish {
		p := &x.Publish[i]
		v.Publishes = append(v.Publishes, PublishView{
			Mapping: p.Mapping, Rule: p.Rule, Line: p.Line, Thing: p.Thing, Topic: p.Topic, PayloadView: ViewPayload(p.Payload),
			QoS: p.QoS, Retain: p.Retain, Client: p.Client,
		})
	}
	for i := range x.Failures {
		f := &x.Failures[i]
		v.Errors = append(v.Errors, ErrorView{Code: f.Code, Mapping: f.Mapping, Thing: f.Thing, Message: f.Text})
	}
	return v
}

func viewOf(id shadow.ID) ShadowView { return ShadowView{Thing: id.Thing, Shadow: id.Name} }

// ViewPayload returns a payload as JSON tells it.
func ViewPayload(payload []byte) PayloadView {
	var v PayloadView
	if len(payload) > maxViewPayload {
		v.Bytes = len(payload)
		payload = payload[:maxViewPayload]
		for n := 1; n < utf8.UTFMax && !utf8.Valid(payload); n++ { // a character is not cut in two
			payload = payload[:maxViewPayload-n]
		}
	}
	if !utf8.Valid(payload) {
		v.Binary = payload
		return v
	}
	text := string(payload)
	v.Text = &text
	return v
}
