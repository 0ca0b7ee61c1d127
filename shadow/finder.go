package shadow

import (
	"bytes"
	"math/bits"
)

// indexAfter is the number of members that a finder looks at in vain before it builds an index.
const indexAfter = 1024

// finder looks up members of one object. It begins where the last search ended, so that looking up
// keys in the order of the object costs nothing; other orders cost a scan at first, and an index
// once scans have become dear.
type finder struct {
	t      *tree
	object uint32
	at     uint32 // the member to try first
	vain   int
	index  index
}

func newFinder(t *tree, object uint32) finder {
	return finder{t: t, object: object, at: object + 1}
}

// find returns the member with the key of member i of u, 0 when there is none.
func (f *finder) find(u *tree, i uint32) uint32 {
	key, hash := u.key(i), u.tape[i].hash
	if f.index == nil && f.vain > indexAfter {
		f.index, _ = newIndex(f.t, f.object)
	}
	if f.index != nil {
		return f.index[f.index.slot(f.t, key, hash)]
	}
	found := f.scan(f.at, f.t.tape[f.object].next, key, hash)
	if found == 0 {
		found = f.scan(f.object+1, f.at, key, hash)
	}
	if found != 0 {
		f.at = f.t.tape[found].next
	}
	return found
}

func (f *finder) scan(i, end uint32, key []byte, hash uint32) uint32 {
	for i < end {
		e := &f.t.tape[i]
		if e.hash == hash && bytes.Equal(f.t.key(i), key) {
			return i
		}
		f.vain++
		i = e.next
	}
	return 0
}

// index is a hash table (open addressing) of the members of one object; 0 is a free slot.
type index []uint32

// newIndex makes the index of an object. Of members with one key it keeps the last and reports that
// there are such.
func newIndex(t *tree, object uint32) (x index, duplicates bool) {
	n := 0
	for i := object + 1; i < t.tape[object].next; i = t.tape[i].next {
		n++
	}
	x = make(index, 1<<bits.Len(uint(2*n)))
	for i := object + 1; i < t.tape[object].next; i = t.tape[i].next {
		s := x.slot(t, t.key(i), t.tape[i].hash)
		duplicates = duplicates || x[s] != 0
		x[s] = i
	}
	return x, duplicates
}

// slot returns the slot that holds key, or the free one where it would be.
func (x index) slot(t *tree, key []byte, hash uint32) uint32 {
	mask := uint32(len(x) - 1)
	s := hash & mask
	for x[s] != 0 && (t.tape[x[s]].hash != hash || !bytes.Equal(t.key(x[s]), key)) {
		s = (s + 1) & mask
	}
	return s
}
