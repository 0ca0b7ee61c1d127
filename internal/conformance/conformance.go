// Package conformance reads the conformance cases of the device shadow
// protocol and compares answers with what the cases expect.
//
// A case is a list of steps that any transport can carry out: update, get,
// delete, list, sleep. What a step expects is written as a JSON value in which
// some values are matchers, such as "$ts" or {"$oneOf":[…]}; see [Scope.Match].
// The package knows nothing of MQTT or HTTP: runners bring the transport.
package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Case is one conformance case.
type Case struct {
	ID         string   `json:"id"`
	Title      string   `json:"title"`
	Area       string   `json:"area"`
	Source     []string `json:"source"`
	Confidence string   `json:"confidence"` // "inferred" cases are to be reported apart
	Transport  string   `json:"transport"`  // "any", "mqtt" or "rest"
	Note       string   `json:"note"`
	Steps      []Step   `json:"steps"`
}

// Step is one operation of a case and what it has to lead to.
type Step struct {
	Op          string          `json:"op"` // "update", "get", "delete", "list" or "sleep"
	Thing       string          `json:"thing"`
	Shadow      *string         `json:"shadow"` // nil is the classic shadow; "" is an empty name= over REST
	MS          int             `json:"ms"`     // of sleep
	Payload     json.RawMessage `json:"payload"`
	Query       map[string]any  `json:"query"`       // of list
	FollowPages bool            `json:"followPages"` // of list: go on until nextToken is absent
	Expect      Expect          `json:"expect"`
	Note        string          `json:"note"`

	// ExpectDelta and ExpectDocuments are nil when the topic is not looked at, the JSON null when
	// nothing may appear on it, else the matcher of the one message that must appear.
	ExpectDelta     json.RawMessage `json:"expectDelta"`
	ExpectDocuments json.RawMessage `json:"expectDocuments"`
}

// Expect says what the answer of a step has to be. Its raw members are matchers, nil when absent.
type Expect struct {
	Kind      string          `json:"kind"` // "accepted", "rejected", "any"; "" for a sleep
	Code      json.RawMessage `json:"code"`
	Message   json.RawMessage `json:"message"`
	ErrorType string          `json:"errorType"` // REST header x-amzn-ErrorType up to the first colon
	Body      json.RawMessage `json:"body"`
	Status    json.RawMessage `json:"status"` // of kind "any": the HTTP status
	Pages     *Pages          `json:"pages"`  // with Step.FollowPages
}

// Pages is what a list followed over all its pages has to give.
type Pages struct {
	MaxPageLen   int      `json:"maxPageLen"`
	Union        []string `json:"union"`
	NoDuplicates bool     `json:"noDuplicates"`
}

// Load reads a file of cases. A member that the package does not know is an error, so that no
// expectation is dropped unnoticed.
func Load(file string) ([]Case, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var cases []Case
	if err := d.Decode(&cases); err != nil {
		return nil, fmt.Errorf("conformance: %s: %w", file, err)
	}
	return cases, nil
}

// maxThing is the length from which on a thing name is about its length.
const maxThing = 128

// Fresh returns the case with thing names that nobody used before, given a suffix of [a-z0-9] that
// is new. Long names keep their length: the suffix replaces their tail.
func (c Case) Fresh(suffix string) Case {
	steps := make([]Step, len(c.Steps))
	for i, s := range c.Steps {
		switch {
		case s.Thing == "":
		case len(s.Thing) >= maxThing:
			s.Thing = s.Thing[:len(s.Thing)-len(suffix)] + suffix
		default:
			s.Thing += "-" + suffix
		}
		steps[i] = s
	}
	c.Steps = steps
	return c
}

// ShadowName returns the shadow's name, "" for the classic one.
func (s Step) ShadowName() string {
	if s.Shadow == nil {
		return ""
	}
	return *s.Shadow
}

// Quiet reports whether nothing may appear on the topic that m was written for.
func Quiet(m json.RawMessage) bool { return string(m) == "null" }

// PayloadBytes returns the bytes to send, nil when the step has no payload.
func (s Step) PayloadBytes() ([]byte, error) {
	if s.Payload == nil {
		return nil, nil
	}
	op, text := wrapped(s.Payload)
	switch op {
	case "$raw":
		return []byte(text), nil
	case "$tmpl":
		return []byte(Expand(text)), nil
	case "$b64":
		return base64.StdEncoding.DecodeString(text)
	}
	return s.Payload, nil
}

// wrapped returns the member of an object that has exactly one, a string; else empty strings.
func wrapped(payload json.RawMessage) (op, text string) {
	var object map[string]any
	if json.Unmarshal(payload, &object) != nil || len(object) != 1 {
		return "", ""
	}
	for k, v := range object {
		if text, ok := v.(string); ok {
			return k, text
		}
	}
	return "", ""
}

var repeat = regexp.MustCompile(`(?s)\$\{(.)\*(\d+)\}`)

// Expand replaces every ${c*n} of text by the character c, n times.
func Expand(text string) string {
	return repeat.ReplaceAllStringFunc(text, func(m string) string {
		sub := repeat.FindStringSubmatch(m)
		n, err := strconv.Atoi(sub[2])
		if err != nil || n > 1<<20 {
			return m
		}
		return strings.Repeat(sub[1], n)
	})
}
