package policy

import (
	"bytes"
	"slices"
	"sort"
	"strings"
)

// indexed is how many patterns of resources a list of statements has before it gets an index: fewer are quicker to try.
const indexed = 8

// colons is how many of them an ARN has before its resource.
const colons = 5

// list is statements about one action with one effect.
type list struct {
	all   []candidate
	index *index // nil for few
}

// index finds, for a resource, the patterns that can match it: those whose literal beginning is one of the resource.
//
// Beginnings are those of the resource part of an ARN, since the parts before it are often "*". As "*" may stand for
// colons too, they can be relied upon only where there is none to spare: in ARNs of exactly five. All others are
// looked for in the whole list.
type index struct {
	beginnings []string // sorted, without repetition
	parents    []int    // the longest other beginning that each one begins with; -1 for none
	entries    [][]entry
}

// entry is a pattern of a resource of a statement.
type entry struct {
	candidate
	pattern *pattern // nil: the statement as a whole
}

func newList(all []candidate) list {
	byBeginning, n := map[string][]entry{}, 0
	for _, c := range all {
		if c.notResource || c.unintelligible {
			byBeginning[""] = append(byBeginning[""], entry{candidate: c})
			n++
			continue
		}
		for i := range c.resources {
			p := &c.resources[i]
			begins := p.beginning()
			byBeginning[begins] = append(byBeginning[begins], entry{c, p})
			n++
		}
	}
	if n <= indexed {
		return list{all: all}
	}
	x := &index{}
	for begins := range byBeginning {
		x.beginnings = append(x.beginnings, begins)
	}
	slices.Sort(x.beginnings)
	for i, begins := range x.beginnings {
		// What comes right before begins has all beginnings of it that are in the list, or is one.
		parent := i - 1
		for parent >= 0 && !strings.HasPrefix(begins, x.beginnings[parent]) {
			parent = x.parents[parent]
		}
		x.parents, x.entries = append(x.parents, parent), append(x.entries, byBeginning[begins])
	}
	return list{all, x}
}

// beginning returns the literal text with which the resource part of every ARN of five colons begins that the pattern
// matches. Such an ARN has no more colons than the text of the pattern, so wildcards and variables stand for none.
func (p *pattern) beginning() string {
	seen := 0
	for i := range p.parts {
		pt := &p.parts[i]
		if pt.kind != partText {
			continue
		}
		for at := range len(pt.text) {
			if pt.text[at] != ':' {
				continue
			}
			if seen++; seen == colons {
				return pt.text[at+1:]
			}
		}
	}
	return ""
}

// resourcePart returns what comes after the fifth colon of an ARN; false when there are more or fewer colons.
func resourcePart(arn []byte) ([]byte, bool) {
	rest := arn
	for range colons {
		i := bytes.IndexByte(rest, ':')
		if i < 0 {
			return nil, false
		}
		rest = rest[i+1:]
	}
	return rest, bytes.IndexByte(rest, ':') < 0
}

// any reports whether one of the statements counts for a resource.
func (l *list) any(r *Rights, resource []byte) bool {
	if l.index != nil {
		if rest, ok := resourcePart(resource); ok {
			return l.index.any(r, resource, rest)
		}
	}
	for i := range l.all {
		c := &l.all[i]
		if b := &r.bound[c.policy]; b.met[c.place] && c.names(resource, b.values) {
			return true
		}
	}
	return false
}

// any is list.any for a resource whose resource part is rest. All beginnings of rest are beginnings of the last one in
// the list that does not come after rest, or are it.
func (x *index) any(r *Rights, resource, rest []byte) bool {
	at := sort.Search(len(x.beginnings), func(i int) bool { return x.beginnings[i] > string(rest) }) - 1
	for ; at >= 0; at = x.parents[at] {
		if !hasPrefix(rest, x.beginnings[at]) {
			continue
		}
		for i := range x.entries[at] {
			if x.entries[at][i].counts(r, resource) {
				return true
			}
		}
	}
	return false
}

// counts reports whether the statement counts for a resource by this pattern.
func (e *entry) counts(r *Rights, resource []byte) bool {
	b := &r.bound[e.policy]
	if !b.met[e.place] {
		return false
	}
	if e.pattern == nil {
		return e.names(resource, b.values)
	}
	return e.pattern.match(resource, b.values)
}
