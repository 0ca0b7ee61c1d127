package mapping

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// Match is a rule that a message fits.
type Match struct {
	Mapping  string            `json:"mapping"`
	Rule     string            `json:"rule"` // where it is in the file: report[2], link.from[0]
	Line     int               `json:"line,omitempty"`
	Ignored  bool              `json:"ignored,omitempty"`
	Captures map[string]string `json:"captures,omitempty"`
}

// Explanation is what mappings would do.
type Explanation struct {
	Matches   []Match     // of a message
	Reports   []Explained // updates
	Deletes   []shadow.ID
	Publish   []Publish
	Failures  []Failure
	Uncovered [][]string // what is outstanding in desired and no command is about
}

// Explained is an update that would be made.
type Explained struct {
	Mapping string
	ID      shadow.ID
	Payload []byte // of the update; of a report that says something, all that it says
}

// State returns the state in the update, an object with the sections that it is about.
func (x *Explained) State() []byte {
	return bytes.TrimSuffix(bytes.TrimPrefix(x.Payload, []byte(`{"state":`)), []byte("}"))
}

// Empty reports that nothing would be done, and no rule is about it.
func (x *Explanation) Empty() bool {
	return len(x.Matches)+len(x.Reports)+len(x.Deletes)+len(x.Publish)+len(x.Failures) == 0
}

// Explain tells what a message would do to devices that nothing is known of.
func (s *Set) Explain(m Message, now int64) Explanation {
	r := NewRehearsal(s, RehearsalOptions{Document: emptyDocument}) // that there is a thing is no question here
	r.Begin(now)
	return r.Message(m, now)
}

func emptyDocument(shadow.ID) *shadow.Document {
	req, err := shadow.ParseUpdate([]byte(`{"state":{}}`), shadow.Limits{})
	if err != nil {
		return nil
	}
	c, err := shadow.Apply(nil, req, 0, shadow.Limits{})
	if err != nil {
		return nil
	}
	return c.After
}

// matches tells which rules a message fits.
func (p *Prepared) matches() []Match {
	var out []Match
	for i := range p.hits {
		h := &p.hits[i]
		m := Match{Mapping: p.set.mappings[h.mapping].name, Rule: "link.parent", Captures: map[string]string{}}
		switch {
		case h.source != nil:
			m.Rule, m.Line = h.source.key, h.source.line
		case h.report != nil:
			m.Rule, m.Line, m.Ignored = h.report.key, h.report.line, h.report.ignore
		}
		for _, c := range h.caps {
			m.Captures[c.name] = c.text
		}
		out = append(out, m)
	}
	return out
}

// nativeName stands for a mapping where native topics are told of.
const nativeName = "native"

// ExplainNative tells what a message on a native topic does; false for every other topic.
func ExplainNative(m Message) (Explanation, bool) {
	var out Explanation
	n, ok, err := ParseNative(&m)
	if !ok {
		return out, false
	}
	section := "reported"
	if n != nil && n.Desired {
		section = "desired"
	}
	out.Matches = []Match{{Mapping: nativeName, Rule: section}}
	if err != nil {
		out.Failures = []Failure{{Code: CodeDecode, Mapping: nativeName, Topic: m.Topic, Text: err.Error()}}
		return out, true
	}
	if payload, changed := n.Patch(nil); changed {
		out.Reports = []Explained{{Mapping: nativeName, ID: n.ID, Payload: payload}}
	}
	return out, true
}

// ExplainDesired tells which commands a device that is there would be sent if something was desired of its thing. The
// device is the one whose thing has that name; known is false when no mapping names things so. desired is a JSON
// object. A refusal of it is a *[shadow.Error].
func (s *Set) ExplainDesired(thing string, desired []byte, now int64) (out Explanation, known bool, err error) {
	payload := append([]byte(`{"state":{"desired":`), desired...)
	req, err := shadow.ParseUpdate(append(payload, "}}"...), shadow.Limits{})
	if err != nil {
		return out, false, err //nolint:wrapcheck // a shadow.Error, as documented
	}
	c, err := shadow.Apply(nil, req, now, shadow.Limits{})
	if err != nil {
		return out, false, err //nolint:wrapcheck // a shadow.Error, as documented
	}
	e := New(s, Options{})
	e.Started(now)
	for _, state := range e.states {
		b := state.named(thing)
		if b == nil {
			continue
		}
		effects := e.step()
		e.addBinding(b)
		b.link, b.loaded = linkUp, true
		e.document(b, c.After, change{patch: c.State()}, now)
		out.Publish = append(out.Publish, effects.Publish...)
		out.Failures = append(out.Failures, effects.Failures...)
		if !known {
			out.Uncovered = slices.Clone(b.uncovered)
		}
		known = true
		out.Uncovered = slices.DeleteFunc(out.Uncovered, func(path []string) bool { // another mapping covers it
			return !slices.ContainsFunc(b.uncovered, func(p []string) bool { return slices.Equal(p, path) })
		})
	}
	return out, known, nil
}

// named returns the device whose thing would have a name; nil when no device of the mapping can have it. Of what
// filters have altered, the altered text is taken for the text.
func (s *mappingState) named(thing string) *binding {
	var expr strings.Builder
	var order []*term
	for i := range s.m.thing.parts {
		p := &s.m.thing.parts[i]
		if p.term == nil {
			expr.WriteString(regexp.QuoteMeta(p.text))
			continue
		}
		order = append(order, p.term)
		expr.WriteString("(" + s.m.looks(p.term) + ")")
	}
	re, err := anchored(expr.String(), len(order))
	if err != nil {
		return nil
	}
	groups := re.FindStringSubmatch(thing)
	if groups == nil {
		return nil
	}
	identity := make([]string, len(s.m.identity))
	for i, t := range order {
		identity[s.m.term(t.key())] = groups[i+1]
	}
	b := &binding{state: s, identity: identity, commands: map[string]*commandState{}, id: shadow.ID{Thing: thing}}
	env := b.environment(nil)
	b.id.Name, _, _ = s.m.shadow.render(&env.environment)
	if b.id.Validate() != nil || !b.named() {
		return nil
	}
	return b
}

// looks returns what the text of a term of the identity looks like.
func (m *Mapping) looks(t *term) string {
	exprs := map[string]string{}
	for _, r := range m.reports {
		collectExprs(exprs, r.topic.text, r.topic.captured())
	}
	expr := exprs[t.name]
	if expr == "" {
		expr = m.vars[t.name]
	}
	if expr == "" || len(t.filters) > 0 || t.payload != nil {
		return ".+"
	}
	return expr
}
