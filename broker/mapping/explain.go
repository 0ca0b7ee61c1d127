package mapping

import "github.com/umbra-iot/umbra/shadow"

// Match is a rule that a message fits.
type Match struct {
	Mapping  string
	Rule     string // where it is in the file: report[2], link.from[0]
	Line     int
	Ignored  bool
	Captures map[string]string
}

// Explanation is what a message would do to devices that nothing is known of.
type Explanation struct {
	Matches  []Match
	Reports  []Explained
	Failures []Failure
}

// Explained is an update that a message would make of an empty shadow.
type Explained struct {
	Mapping string
	ID      shadow.ID
	Payload []byte
}

// Explain tells what a message would do.
func (s *Set) Explain(m Message, now int64) Explanation {
	var out Explanation
	p := s.Prepare(m)
	if p == nil {
		return out
	}
	for i := range p.hits {
		h := &p.hits[i]
		match := Match{Mapping: s.mappings[h.mapping].name, Captures: map[string]string{}}
		switch {
		case h.source != nil:
			match.Rule, match.Line = h.source.key, h.source.line
		case h.report != nil:
			match.Rule, match.Line, match.Ignored = h.report.key, h.report.line, h.report.ignore
		default:
			match.Rule = "link.parent"
		}
		for _, c := range h.caps {
			match.Captures[c.name] = c.text
		}
		out.Matches = append(out.Matches, match)
	}
	e := New(s, Options{})
	effects := e.Message(p, now)
	out.Failures = effects.Failures
	for _, r := range effects.Reports {
		if payload, changed := r.Patch(nil); changed {
			out.Reports = append(out.Reports, Explained{Mapping: r.Mapping, ID: r.ID, Payload: payload})
		}
	}
	return out
}
