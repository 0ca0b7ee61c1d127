package shadow

import (
	"cmp"
	"slices"
)

// patch is a state to be merged into another one.
type patch struct {
	*tree
	nulls bool // there may be nulls in it
	own   bool // leaves bring their own times; else all get the time of the merge
}

// merger merges a patch into a state by the rules of the protocol: objects are merged member by
// member, anything else replaces, null removes.
type merger struct {
	cur   *tree
	patch patch
	time  int64 // ms, of the leaves that the patch sets
	out   tree
}

// pair is a member of a patch with the member of the current object that it replaces, or none.
type pair struct{ cur, patch uint32 }

const none = ^uint32(0)

// merge returns a new state; it keeps no part of cur or p.
func merge(cur *tree, p patch, time int64) tree {
	if p.tape[0].kind == kindNull {
		return emptyState()
	}
	m := merger{cur: cur, patch: p, time: time}
	m.out.text = make([]byte, 0, len(cur.text)+len(p.text))
	m.out.tape = make([]entry, 0, len(cur.tape)+len(p.tape))
	root := m.out.open(0, 0)
	for _, name := range [...]string{desired, reported} {
		m.section(cur.member(name), p.member(name))
	}
	m.out.close(root)
	return m.out
}

// section merges one section; c or p is 0 when there is none. An empty result is left out.
func (m *merger) section(c, p uint32) {
	text, tape := len(m.out.text), uint32(len(m.out.tape))
	switch {
	case p == 0 && c == 0:
		return
	case p == 0:
		m.out.appendMembers(m.cur, c, m.cur.tape[c].next, m.cur.tape[c].end)
	case m.patch.tape[p].kind == kindNull:
		return
	case c == 0:
		m.insert(p)
	default:
		var buf [32]pair
		m.merge(c, p, buf[:0])
	}
	if m.out.empty(tape) {
		m.out.text, m.out.tape = m.out.text[:text], m.out.tape[:tape]
	}
}

// merge merges object p of the patch into object c and writes the result as a member. It uses the
// capacity of scratch, which has no elements.
func (m *merger) merge(c, p uint32, scratch []pair) {
	pairs := m.match(scratch, c, p)
	i := m.out.openMember(m.cur, c)
	rest := c + 1 // the first member of c that is not dealt with
	for len(pairs) > 0 && pairs[0].cur != none {
		x := pairs[0]
		pairs = pairs[1:]
		m.keep(rest, x.cur)
		if m.cur.tape[x.cur].kind == kindObject && m.patch.tape[x.patch].kind == kindObject {
			m.merge(x.cur, x.patch, pairs[len(pairs):])
		} else {
			m.insert(x.patch)
		}
		rest = m.cur.tape[x.cur].next
	}
	m.out.appendMembers(m.cur, rest, m.cur.tape[c].next, m.cur.tape[c].end-1)
	for _, x := range pairs {
		m.insert(x.patch)
	}
	m.out.close(i)
}

// match pairs the members of object p with those of object c, in the order of c; those without a
// match come last.
func (m *merger) match(pairs []pair, c, p uint32) []pair {
	sorted := true
	last := uint32(0)
	f := newFinder(m.cur, c)
	for i := p + 1; i < m.patch.tape[p].next; i = m.patch.tape[i].next {
		x := pair{cur: f.find(m.patch.tree, i), patch: i}
		if x.cur == 0 {
			x.cur = none
		}
		sorted = sorted && last <= x.cur
		last = x.cur
		pairs = append(pairs, x)
	}
	if !sorted {
		slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.cur, b.cur) })
	}
	return pairs
}

// keep copies the members of the current object from i up to the member end.
func (m *merger) keep(i, end uint32) {
	if i < end {
		m.out.appendMembers(m.cur, i, end, m.cur.tape[end].key-2) // without the comma and the quote
	}
}

// insert writes member p of the patch, without the nulls in it; nothing when it is null.
func (m *merger) insert(p uint32) {
	e := &m.patch.tape[p]
	switch {
	case e.kind == kindNull:
	case e.kind == kindObject && m.patch.nulls:
		i := m.out.openMember(m.patch.tree, p)
		for j := p + 1; j < e.next; j = m.patch.tape[j].next {
			m.insert(j)
		}
		m.out.close(i)
	default:
		n := len(m.out.tape)
		m.out.appendMembers(m.patch.tree, p, e.next, e.end)
		m.touch(n)
	}
}

// touch gives the leaves from entry n on the time of the merge.
func (m *merger) touch(n int) {
	if m.patch.own {
		return
	}
	for i := n; i < len(m.out.tape); i++ {
		if m.out.tape[i].leaf() {
			m.out.tape[i].time = m.time
		}
	}
}
