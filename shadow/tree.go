package shadow

import (
	"bytes"
	"hash/maphash"
)

// kind is the type of a JSON value. Those from kindArray on have children.
type kind uint8

const (
	kindNull kind = iota + 1
	kindFalse
	kindTrue
	kindNumber
	kindString
	kindArray
	kindObject
)

// entry describes one value of a tree.
type entry struct {
	time  int64  // ms of the last write, of leaves only
	key   uint32 // offset of the key without its quote; the key ends at start-2. In arrays key == start
	start uint32 // offset of the value's text
	end   uint32
	next  uint32 // index of the entry after this value and all it holds
	hash  uint32 // of the key
	kind  kind
}

func (e *entry) leaf() bool { return e.kind < kindArray }

// tree is a JSON value: its compact text, and an entry for each value in it, in the order of the
// text. Entry 0 is the value itself. The zero tree stands for no value.
type tree struct {
	text []byte
	tape []entry
}

// keyHash hashes a key. The seed is chosen at start, so that nobody can choose keys that collide.
func keyHash(key []byte) uint32 { return uint32(maphash.Bytes(hashSeed, key)) }

var hashSeed = maphash.MakeSeed()

// key returns the text of member i's key, without quotes.
func (t *tree) key(i uint32) []byte {
	e := &t.tape[i]
	return t.text[e.key : e.start-2]
}

// keyColon returns member i's key with its quotes and the colon.
func (t *tree) keyColon(i uint32) []byte {
	e := &t.tape[i]
	return t.text[e.key-1 : e.start]
}

// value returns the text of value i.
func (t *tree) value(i uint32) []byte {
	e := &t.tape[i]
	return t.text[e.start:e.end]
}

// member returns the member of the root named name, 0 when there is none. For small roots.
func (t *tree) member(name string) uint32 {
	if len(t.tape) == 0 || t.tape[0].kind != kindObject {
		return 0
	}
	for i := uint32(1); i < t.tape[0].next; i = t.tape[i].next {
		if string(t.key(i)) == name {
			return i
		}
	}
	return 0
}

// empty reports whether container i has no children.
func (t *tree) empty(i uint32) bool { return t.tape[i].next == i+1 }

// open begins an object; the entry's key must have been written.
func (t *tree) open(key, hash uint32) uint32 {
	i := uint32(len(t.tape))
	t.tape = append(t.tape, entry{key: key, start: uint32(len(t.text)), hash: hash, kind: kindObject})
	t.text = append(t.text, '{')
	return i
}

// openMember begins an object that is a member named like member i of from.
func (t *tree) openMember(from *tree, i uint32) uint32 {
	t.comma()
	key := uint32(len(t.text)) + 1
	t.text = append(t.text, from.keyColon(i)...)
	return t.open(key, from.tape[i].hash)
}

// close ends the object that open began.
func (t *tree) close(i uint32) {
	t.text = append(t.text, '}')
	t.tape[i].end = uint32(len(t.text))
	t.tape[i].next = uint32(len(t.tape))
}

// comma separates a new member from the one before it. Only a just opened object ends in a brace
// that opens.
func (t *tree) comma() {
	if t.text[len(t.text)-1] != '{' {
		t.text = append(t.text, ',')
	}
}

// appendMembers appends the members of from whose entries are [i, end). textEnd is where the text of
// the last of them ends.
func (t *tree) appendMembers(from *tree, i, end, textEnd uint32) {
	if i == end {
		return
	}
	t.comma()
	textStart := from.tape[i].key - 1
	text := uint32(len(t.text)) - textStart
	index := uint32(len(t.tape)) - i
	t.text = append(t.text, from.text[textStart:textEnd]...)
	t.tape = append(t.tape, from.tape[i:end]...)
	shift(t.tape[i+index:], text, index)
}

// shift moves entries by offsets, which may wrap around (that is, be negative).
func shift(tape []entry, text, index uint32) {
	if text == 0 && index == 0 {
		return
	}
	for i := range tape {
		e := &tape[i]
		e.key += text
		e.start += text
		e.end += text
		e.next += index
	}
}

// equal reports whether value i of t and value j of u are the same JSON value: numbers by value,
// objects in any order.
func (t *tree) equal(i uint32, u *tree, j uint32) bool {
	a, b := &t.tape[i], &u.tape[j]
	if a.kind != b.kind {
		return false
	}
	if bytes.Equal(t.value(i), u.value(j)) {
		return true
	}
	switch a.kind {
	case kindNumber:
		return parseDecimal(t.value(i)).equal(parseDecimal(u.value(j)))
	case kindArray:
		return t.equalArrays(i, u, j)
	case kindObject:
		return t.equalObjects(i, u, j)
	}
	return false
}

func (t *tree) equalArrays(i uint32, u *tree, j uint32) bool {
	endA, endB := t.tape[i].next, u.tape[j].next
	i, j = i+1, j+1
	for i < endA && j < endB {
		if !t.equal(i, u, j) {
			return false
		}
		i, j = t.tape[i].next, u.tape[j].next
	}
	return i == endA && j == endB
}

func (t *tree) equalObjects(i uint32, u *tree, j uint32) bool {
	f := newFinder(u, j)
	members := 0
	for m := i + 1; m < t.tape[i].next; m = t.tape[m].next {
		o := f.find(t, m)
		if o == 0 || !t.equal(m, u, o) {
			return false
		}
		members++
	}
	for m := j + 1; m < u.tape[j].next; m = u.tape[m].next {
		members--
	}
	return members == 0
}
