package topic

import (
	"strings"
	"sync"
)

// Options are the options of a subscription (MQTT 5, 3.8.3.1).
type Options struct {
	QoS               byte // the highest that the subscriber wants
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte   // 0 send retained messages, 1 only for a new subscription, 2 never
	Identifier        uint32 // subscription identifier, 0 for none
}

// Index finds the subscriptions that match a topic name. Its methods may be called concurrently.
//
// Filters without a wildcard, nearly all of them where devices subscribe to topics of their own, are in one map.
// The others are in a tree of levels, whose edges are all in a second map: a node costs no map of its own. Looking
// for a name takes a step for each level, and for each "+" on the way a second path.
type Index[T comparable] struct {
	// NoParent makes a filter such as "a/#" not match "a", other than [Match]. It does not change after the first use.
	NoParent bool

	maxLevels int

	mu    sync.RWMutex // guards what follows, also what it points to
	exact map[string]*subscribers[T]
	root  *node[T]
	edges map[edge[T]]*node[T]
	count int
}

// edge leads from a node to the one below it for a level that is no wildcard.
type edge[T comparable] struct {
	from  *node[T]
	level string
}

// node stands for the levels of a filter up to some point.
type node[T comparable] struct {
	parent *node[T]        // nil: the root
	level  string          // that leads here from parent
	below  int             // edges that leave
	plus   *node[T]        // below, for "+"
	ends   *subscribers[T] // of the filter that ends here
	all    *subscribers[T] // of the filter that goes on with "#"
}

// NewIndex returns an empty index that takes filters of at most maxLevels levels, 0 for any number.
func NewIndex[T comparable](maxLevels int) *Index[T] {
	return &Index[T]{
		maxLevels: maxLevels,
		exact:     make(map[string]*subscribers[T]),
		root:      new(node[T]),
		edges:     make(map[edge[T]]*node[T]),
	}
}

// Set adds the subscription of subscriber to filter, or replaces its options. The filter may be a shared one
// ("$share/group/filter"). The error is one of [ValidFilter]'s, or [ErrTooManyLevels]. The index keeps the
// string, so it should not be part of a larger buffer.
func (ix *Index[T]) Set(filter string, subscriber T, o Options) (existed bool, err error) {
	if err := ValidFilter(filter); err != nil {
		return false, err
	}
	share, rest, err := splitShare(filter)
	if err != nil {
		return false, err
	}
	if ix.maxLevels > 0 && Levels(rest) > ix.maxLevels {
		return false, ErrTooManyLevels
	}
	e := Entry[T]{
		Subscriber:        subscriber,
		QoS:               o.QoS,
		NoLocal:           o.NoLocal,
		RetainAsPublished: o.RetainAsPublished,
		Shared:            share != "",
	}
	if o.Identifier != 0 {
		e.Identifiers = []uint32{o.Identifier}
	}

	ix.mu.Lock()
	defer ix.mu.Unlock()
	existed = ix.place(rest).group(share).set(e)
	if !existed {
		ix.count++
	}
	return existed, nil
}

// Remove deletes the subscription of subscriber to filter and reports whether there was one.
func (ix *Index[T]) Remove(filter string, subscriber T) bool {
	share, rest, err := splitShare(filter)
	if err != nil {
		return false
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	n, s := ix.find(rest)
	if s == nil || !s.remove(share, subscriber) {
		return false
	}
	ix.count--
	if s.empty() {
		ix.drop(rest, n)
	}
	return true
}

// splitShare returns the filter behind "$share/group/", and, as share, the whole filter if it has such a prefix.
func splitShare(filter string) (share, rest string, err error) {
	_, rest, shared, err := ParseShare(filter)
	if shared {
		share = filter
	}
	return share, rest, err
}

// Len returns the number of subscriptions.
func (ix *Index[T]) Len() int {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.count
}

// Wish says whether a member of a shared subscription is one to have a message.
type Wish[T comparable] func(*Entry[T]) bool

// Append appends an entry for each subscription that matches name, and one for each shared subscription that
// does: its members take turns. The first of wishes that some members fulfil is for those only; when nobody
// fulfils any, or there are none, everybody has a turn. A subscriber appears as often as it has matching
// subscriptions: see [Merge]. No lock is held while wishes run.
func (ix *Index[T]) Append(dst []Entry[T], name string, wishes ...Wish[T]) []Entry[T] {
	start := len(dst)
	dst = ix.collect(dst, name)
	if len(wishes) == 0 {
		return dst
	}
	for i := start; i < len(dst); i++ {
		if dst[i].Shared {
			ix.choose(&dst[i], wishes)
		}
	}
	return dst
}

// Member returns the entry of the next member of a shared subscription that fulfils the first of wishes that some
// member fulfils; ok is false when nobody fulfils any. No lock is held while wishes run.
func (ix *Index[T]) Member(share string, wishes ...Wish[T]) (e Entry[T], ok bool) {
	_, rest, err := splitShare(share)
	if err != nil {
		return e, false
	}
	ix.mu.RLock()
	if _, s := ix.find(rest); s != nil {
		if i := s.groupAt(share); i >= 0 {
			e.from = s.groups[i]
		}
	}
	ix.mu.RUnlock()
	if e.from == nil {
		return e, false
	}
	for _, wish := range wishes {
		if ix.substitute(&e, wish) {
			return e, true
		}
	}
	return e, false
}

// choose makes e the next member of its group that fulfils the first wish that can be fulfilled.
func (ix *Index[T]) choose(e *Entry[T], wishes []Wish[T]) {
	for _, wish := range wishes {
		if wish(e) || ix.substitute(e, wish) {
			return
		}
	}
}

// frame is a node still to be visited, for the part of the name from rest on.
type frame[T comparable] struct {
	node *node[T]
	rest int // above the length of the name when nothing is left, not even an empty level
}

// collect is Append without regard to who is ready. The paths that are still to be walked are on a stack of
// its own, as filters may be deep; there are never more of them than levels.
func (ix *Index[T]) collect(dst []Entry[T], name string) []Entry[T] {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	dst = ix.exact[name].appendTo(dst)
	reserved := strings.HasPrefix(name, "$")
	var space [16]frame[T]
	stack := append(space[:0], frame[T]{node: ix.root})
	for len(stack) > 0 {
		f := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		wild := !reserved || f.node != ix.root // [MQTT-4.7.2-1]
		if wild && (!ix.NoParent || f.rest <= len(name)) {
			dst = f.node.all.appendTo(dst)
		}
		if f.rest > len(name) {
			dst = f.node.ends.appendTo(dst)
			continue
		}
		end := len(name)
		if i := strings.IndexByte(name[f.rest:], '/'); i >= 0 {
			end = f.rest + i
		}
		if f.node.plus != nil && wild {
			stack = append(stack, frame[T]{f.node.plus, end + 1})
		}
		if f.node.below == 0 {
			continue
		}
		if n := ix.edges[edge[T]{f.node, name[f.rest:end]}]; n != nil {
			stack = append(stack, frame[T]{n, end + 1})
		}
	}
	return dst
}

// substitute makes e the next member of its group that fulfils wish, and reports whether there is one.
func (ix *Index[T]) substitute(e *Entry[T], wish Wish[T]) bool {
	turn := e.from.turn.Load()
	for i := uint32(1); ; i++ {
		other, ok := ix.member(e.from, turn, i)
		if !ok {
			return false
		}
		if wish(&other) {
			e.from.turn.Add(i)
			*e = other
			return true
		}
	}
}

// member returns the i-th member of m after the one whose turn it was; ok is false when that is all of them.
func (ix *Index[T]) member(m *members[T], turn, i uint32) (e Entry[T], ok bool) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	n := uint32(len(m.entries))
	if i > n {
		return e, false
	}
	return m.entries[(turn+i)%n], true
}

// isWild reports whether filter has a wildcard. It is valid, so these characters are nothing else.
func isWild(filter string) bool {
	return strings.ContainsAny(filter, "+#")
}

// place returns the subscribers of filter, making room for them when there are none.
func (ix *Index[T]) place(filter string) *subscribers[T] {
	if !isWild(filter) {
		s := ix.exact[filter]
		if s == nil {
			s = new(subscribers[T])
			ix.exact[filter] = s
		}
		return s
	}
	n := ix.root
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		if level == "#" {
			return orNew(&n.all)
		}
		n = ix.child(n, level)
	}
	return orNew(&n.ends)
}

// child returns the node below n for level, which is made when it is missing.
func (ix *Index[T]) child(n *node[T], level string) *node[T] {
	if level == "+" {
		if n.plus == nil {
			n.plus = &node[T]{parent: n, level: level}
		}
		return n.plus
	}
	e := edge[T]{n, level}
	c := ix.edges[e]
	if c == nil {
		c = &node[T]{parent: n, level: level}
		ix.edges[e] = c
		n.below++
	}
	return c
}

// find returns the subscribers of filter, nil when there are none, and the node that holds them (nil for a
// filter without wildcards).
func (ix *Index[T]) find(filter string) (*node[T], *subscribers[T]) {
	if !isWild(filter) {
		return nil, ix.exact[filter]
	}
	n := ix.root
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		switch level {
		case "#":
			return n, n.all
		case "+":
			n = n.plus
		default:
			n = ix.edges[edge[T]{n, level}]
		}
		if n == nil {
			return nil, nil
		}
	}
	return n, n.ends
}

// drop forgets the subscribers of filter, held by n, and the nodes that nothing needs any more.
func (ix *Index[T]) drop(filter string, n *node[T]) {
	switch {
	case n == nil:
		delete(ix.exact, filter)
		return
	case strings.HasSuffix(filter, "#"):
		n.all = nil
	default:
		n.ends = nil
	}
	for n.parent != nil && n.below == 0 && n.plus == nil && n.ends == nil && n.all == nil {
		if n.level == "+" {
			n.parent.plus = nil
		} else {
			delete(ix.edges, edge[T]{n.parent, n.level})
			n.parent.below--
		}
		n = n.parent
	}
}

func orNew[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}
