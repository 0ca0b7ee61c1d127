package shadow

import (
	"slices"
	"unsafe"
)

// The sections of a document.
const (
	desired  = "desired"
	reported = "reported"
)

// Document is one version of a shadow: state, per-leaf times, version. It is immutable.
// A nil *Document is a shadow that does not exist (version 0).
type Document struct {
	tree    // an object of sections, none of them empty
	version uint64
	deleted bool
	delta   delta
}

// newDocument makes a document of a state.
func newDocument(version uint64, state tree) *Document {
	d := &Document{tree: state.clip(), version: version}
	d.delta = diff(&d.tree)
	return d
}

// newTombstone makes the document of a shadow that was deleted.
func newTombstone(version uint64) *Document {
	return &Document{tree: emptyState(), version: version, deleted: true}
}

func emptyState() tree {
	return tree{text: []byte("{}"), tape: []entry{{end: 2, next: 1, kind: kindObject}}}
}

// clip gives back memory that the tree has too much of, so that what is cached is what is used.
func (t tree) clip() tree {
	if cap(t.text)-len(t.text) > 64+len(t.text)/4 {
		t.text = slices.Clone(t.text)
	}
	if cap(t.tape)-len(t.tape) > 8+len(t.tape)/4 {
		t.tape = slices.Clone(t.tape)
	}
	return t
}

// Version returns the version, 0 for nil.
func (d *Document) Version() uint64 {
	if d == nil {
		return 0
	}
	return d.version
}

// Deleted reports a tombstone: the shadow does not exist, but its version goes on.
func (d *Document) Deleted() bool { return d != nil && d.deleted }

// exists reports whether there is a shadow: neither nil nor a tombstone.
func (d *Document) exists() bool { return d != nil && !d.deleted }

// HasDelta reports whether desired differs from reported.
func (d *Document) HasDelta() bool { return d != nil && len(d.delta) > 0 }

// State returns the state as compact JSON, an object with the sections that there are (no delta).
// Do not change it.
func (d *Document) State() []byte {
	if d == nil {
		return []byte("{}")
	}
	return d.text
}

// Size returns the bytes of memory that the document holds, for the cache budget.
func (d *Document) Size() int {
	if d == nil {
		return 0
	}
	return int(unsafe.Sizeof(*d)) + cap(d.text) + cap(d.tape)*int(unsafe.Sizeof(entry{})) + cap(d.delta)*4
}

// stateBytes returns the bytes of both sections, for the limit.
func (t *tree) stateBytes() int {
	n := 0
	for _, name := range [...]string{desired, reported} {
		if i := t.member(name); i != 0 {
			n += len(t.value(i))
		}
	}
	return n
}
