package mapping

import (
	"cmp"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// Set is several mappings that were checked against each other, with the index that finds the rules
// for a topic. It is immutable.
type Set struct {
	mappings []*Mapping
	root     *indexNode
}

// ref is one rule in the index.
type ref struct {
	mapping int
	source  int // of the link, -1 for none
	report  int
}

// order is that of the rules of a mapping: what tells of the link comes before reports.
func (r ref) order() int {
	if r.source >= 0 {
		return r.source - 1<<30
	}
	return r.report
}

// indexNode is a level of the index: rules are found by the levels of the topic that are literal in
// their patterns.
type indexNode struct {
	literal map[string]*indexNode
	any     *indexNode
	end     []ref // patterns that end here
	open    []ref // patterns that go on with any number of levels
}

// NewSet makes a set of mappings. The diagnostics are warnings when err is nil.
func NewSet(mappings []*Mapping) (*Set, []*Diagnostic, error) {
	found := checkSet(mappings)
	if _, warnings, err := finish(mappings, found); err != nil {
		return nil, warnings, err
	}
	s := &Set{mappings: mappings, root: &indexNode{}}
	for i, m := range mappings {
		for k, r := range m.reports {
			s.root.add(r.topic, ref{i, -1, k})
		}
		if m.link == nil {
			continue
		}
		for k, src := range m.link.sources {
			s.root.add(src.topic, ref{i, k, -1})
		}
		if p := m.link.parent; p != nil && p.topic != nil {
			s.root.add(p.topic, ref{i, -1, -1})
		}
	}
	return s, found, nil
}

// Mappings returns the mappings in their order.
func (s *Set) Mappings() []*Mapping { return s.mappings }

func (n *indexNode) add(p *pattern, r ref) {
	for i := range p.levels {
		switch l := &p.levels[i]; l.kind {
		case levelLiteral:
			if n.literal == nil {
				n.literal = map[string]*indexNode{}
			}
			next := n.literal[l.text]
			if next == nil {
				next = &indexNode{}
				n.literal[l.text] = next
			}
			n = next
		case levelMulti, levelRest:
			n.open = append(n.open, r)
			return
		case levelAny, levelRegexp:
			if n.any == nil {
				n.any = &indexNode{}
			}
			n = n.any
		}
	}
	n.end = append(n.end, r)
}

func (n *indexNode) find(topic []string, out []ref) []ref {
	if n == nil {
		return out
	}
	out = append(out, n.open...)
	if len(topic) == 0 {
		return append(out, n.end...)
	}
	out = n.literal[topic[0]].find(topic[1:], out)
	return n.any.find(topic[1:], out)
}

// Message is a message as the engine gets it: published by a client, as its will, or kept as retained
// message since before the start.
type Message struct {
	Topic     string
	Payload   []byte
	Retain    bool   // the flag of the PUBLISH, or of the will
	Replayed  bool   // from the store of retained messages
	Will      bool   // sent by the server because a session or connection ended
	Client    string // who published it, "" for the server itself
	User      string // that the client is known as, "" for none
	Principal string // ID of who has proved to be that client, "" for nobody in particular
	Epoch     uint64 // of the client's connection
}

// Prepared is a message together with what of it depends on no state: rules and decoded payload.
type Prepared struct {
	Message
	set     *Set
	hits    []hit
	decoded [asSparkplug + 1]*decoded
}

type decoded struct {
	value shadow.Value
	bad   *refusal
}

// hit is one rule whose pattern fits, with its captures.
type hit struct {
	mapping int
	source  *source
	report  *report
	parent  *parent
	caps    captures
}

// Prepare finds the rules for a message and decodes its payload; nil when no rule is about its topic.
// It may be called at the same time as everything else.
func (s *Set) Prepare(m Message) *Prepared {
	if strings.HasPrefix(m.Topic, shadow.TopicPrefix) || strings.HasPrefix(m.Topic, "$aws/") || strings.HasPrefix(m.Topic, "$SYS") {
		return nil
	}
	var levels [16]string
	topic := appendLevels(levels[:0], m.Topic)
	var refs [16]ref
	found := s.root.find(topic, refs[:0])
	if len(found) == 0 {
		return nil
	}
	slices.SortFunc(found, func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.mapping, b.mapping), cmp.Compare(a.order(), b.order()))
	})
	p := &Prepared{Message: m, set: s}
	decided := -1 // the mapping whose report rule is found
	for _, f := range found {
		if f.report >= 0 && f.mapping == decided {
			continue
		}
		h, ok := s.hit(f, topic)
		if !ok {
			continue
		}
		p.hits = append(p.hits, h)
		if h.report != nil && h.report.when == nil && h.report.whenExpr == nil {
			decided = f.mapping
		}
	}
	if len(p.hits) == 0 {
		return nil
	}
	p.decode()
	return p
}

func appendLevels(dst []string, topic string) []string {
	for {
		i := strings.IndexByte(topic, '/')
		if i < 0 {
			return append(dst, topic)
		}
		dst = append(dst, topic[:i])
		topic = topic[i+1:]
	}
}

func (s *Set) hit(r ref, topic []string) (h hit, ok bool) {
	m := s.mappings[r.mapping]
	h.mapping = r.mapping
	switch {
	case r.source >= 0:
		h.source = m.link.sources[r.source]
		h.caps, ok = h.source.topic.match(topic)
	case r.report >= 0:
		h.report = m.reports[r.report]
		h.caps, ok = h.report.topic.match(topic)
	default:
		h.parent = m.link.parent
		h.caps, ok = h.parent.topic.match(topic)
	}
	return h, ok
}

// decode decodes the payload in each form that the rules may ask for.
func (p *Prepared) decode() {
	for i := range p.hits {
		switch h := &p.hits[i]; {
		case h.source != nil:
			p.as(h.source.as)
		case h.report == nil:
			p.as(asJSON)
		case !h.report.ignore || h.report.when != nil || h.report.whenExpr != nil:
			p.as(h.report.as)
		}
	}
}

// as returns the payload in a form.
func (p *Prepared) as(f form) *decoded {
	if f == asSparkplug {
		return nil
	}
	if p.decoded[f] == nil {
		d := &decoded{}
		if len(p.Payload) > 0 {
			d.value, d.bad = decode(f, p.Payload)
		}
		p.decoded[f] = d
	}
	return p.decoded[f]
}
