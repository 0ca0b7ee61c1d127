package topic

import (
	"slices"
	"sync/atomic"
)

// Entry is one delivery that [Index.Append] found and that [Merge] may have joined with others.
type Entry[T comparable] struct {
	Subscriber        T
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	Shared            bool     // by a shared subscription, of which Subscriber is the chosen member
	Identifiers       []uint32 // subscription identifiers, nil for none; not to be changed

	from *members[T]
}

// Share returns the filter of the shared subscription that the entry is of, "" for an ordinary one.
func (e *Entry[T]) Share() string {
	if !e.Shared {
		return ""
	}
	return e.from.share
}

// subscribers are the subscriptions to one filter: the ordinary ones, and a group for each shared one.
type subscribers[T comparable] struct {
	ordinary members[T]
	groups   []*members[T]
}

// members are subscriptions of which all get a message, or one when they are a group.
type members[T comparable] struct {
	share   string        // filter of the shared subscription that they are the group of; "" for ordinary ones
	turn    atomic.Uint32 // of the member of a group that is next; counts on for ever
	entries []Entry[T]
	index   map[T]int // position in entries; nil while there are few
}

// few is the number of members up to which a scan beats a map.
const few = 16

// empty reports whether nobody is left.
func (s *subscribers[T]) empty() bool {
	return len(s.ordinary.entries) == 0 && len(s.groups) == 0
}

// group returns the members of the shared subscription to share, which begins to exist; "" are the ordinary ones.
func (s *subscribers[T]) group(share string) *members[T] {
	if share == "" {
		return &s.ordinary
	}
	if i := s.groupAt(share); i >= 0 {
		return s.groups[i]
	}
	g := &members[T]{share: share}
	s.groups = append(s.groups, g)
	return g
}

func (s *subscribers[T]) groupAt(share string) int {
	return slices.IndexFunc(s.groups, func(g *members[T]) bool { return g.share == share })
}

// remove takes subscriber out of the shared subscription to share and reports whether it was in it.
func (s *subscribers[T]) remove(share string, subscriber T) bool {
	if share == "" {
		return s.ordinary.remove(subscriber)
	}
	i := s.groupAt(share)
	if i < 0 || !s.groups[i].remove(subscriber) {
		return false
	}
	if len(s.groups[i].entries) == 0 {
		s.groups = slices.Delete(s.groups, i, i+1)
	}
	return true
}

// appendTo appends all ordinary subscriptions and the next member of each group. s may be nil.
func (s *subscribers[T]) appendTo(dst []Entry[T]) []Entry[T] {
	if s == nil {
		return dst
	}
	dst = append(dst, s.ordinary.entries...)
	for _, g := range s.groups {
		dst = append(dst, g.entries[g.turn.Add(1)%uint32(len(g.entries))])
	}
	return dst
}

// at returns the position of subscriber, -1 when it is missing.
func (m *members[T]) at(subscriber T) int {
	if m.index != nil {
		if i, ok := m.index[subscriber]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(m.entries, func(e Entry[T]) bool { return e.Subscriber == subscriber })
}

// set adds or replaces the entry of e.Subscriber and reports whether it replaced one.
func (m *members[T]) set(e Entry[T]) (existed bool) {
	e.from = m
	if i := m.at(e.Subscriber); i >= 0 {
		m.entries[i] = e
		return true
	}
	m.entries = append(m.entries, e)
	switch {
	case m.index != nil:
		m.index[e.Subscriber] = len(m.entries) - 1
	case len(m.entries) > few:
		m.index = make(map[T]int, 2*len(m.entries))
		for i := range m.entries {
			m.index[m.entries[i].Subscriber] = i
		}
	}
	return false
}

// remove deletes the entry of subscriber, whose place the last one takes, and reports whether there was one.
func (m *members[T]) remove(subscriber T) bool {
	i := m.at(subscriber)
	if i < 0 {
		return false
	}
	last := len(m.entries) - 1
	m.entries[i] = m.entries[last]
	m.entries[last] = Entry[T]{}
	m.entries = m.entries[:last]
	if m.index != nil {
		if i < last {
			m.index[m.entries[i].Subscriber] = i
		}
		delete(m.index, subscriber)
	}
	return true
}

// Merge makes one entry of those of the same subscriber, with the highest QoS [MQTT-3.3.4-2], all identifiers
// [MQTT-3.3.4-4], and retain as published when one of them wants it. Shared ones stay apart. Before that it
// takes out what publisher, the zero T when unknown, would get of its own in spite of NoLocal [MQTT-3.8.3-3].
// It works in place and returns the shortened slice.
func Merge[T comparable](entries []Entry[T], publisher T) []Entry[T] {
	var seen map[T]int // position in out, when there are many
	unique := oneSource(entries)
	if !unique && len(entries) > 2*few {
		seen = make(map[T]int, len(entries))
	}
	out := entries[:0]
	for _, e := range entries {
		if e.NoLocal && e.Subscriber == publisher {
			continue
		}
		if unique || e.Shared {
			out = append(out, e)
			continue
		}
		if i := position(out, seen, e.Subscriber); i >= 0 {
			out[i].join(e)
			continue
		}
		if seen != nil {
			seen[e.Subscriber] = len(out)
		}
		out = append(out, e)
	}
	return out
}

// oneSource reports whether all entries are of one filter, so that none can be twice among them.
func oneSource[T comparable](entries []Entry[T]) bool {
	for i := 1; i < len(entries); i++ {
		if entries[i].from != entries[0].from {
			return false
		}
	}
	return true
}

// position returns where the entry that s's other ones are merged into is, -1 for nowhere.
func position[T comparable](entries []Entry[T], seen map[T]int, s T) int {
	if seen != nil {
		if i, ok := seen[s]; ok {
			return i
		}
		return -1
	}
	for i := range entries {
		if entries[i].Subscriber == s && !entries[i].Shared {
			return i
		}
	}
	return -1
}

func (e *Entry[T]) join(o Entry[T]) {
	e.QoS = max(e.QoS, o.QoS)
	e.RetainAsPublished = e.RetainAsPublished || o.RetainAsPublished
	e.NoLocal = e.NoLocal && o.NoLocal
	switch {
	case len(e.Identifiers) == 0:
		e.Identifiers = o.Identifiers
	case len(o.Identifiers) > 0:
		e.Identifiers = slices.Concat(e.Identifiers, o.Identifiers) // the old one belongs to the index
	}
}
