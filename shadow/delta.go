package shadow

import (
	"bytes"
	"slices"
)

// delta lists what of desired is missing from or different in reported, as indices of entries in
// rising order ("Device Shadow service documents", delta state). The first is always the section. An
// index marked partial is an object of which only what the list goes on with differs; all other
// values are in the delta as a whole. nil: no difference.
type delta []uint32

const partial = 1 << 31

// diff compares the sections of a state.
func diff(t *tree) delta {
	d, r := t.member(desired), t.member(reported)
	if d == 0 {
		return nil
	}
	if r == 0 {
		return delta{d}
	}
	var buf [64]uint32
	x := differ{tree: t, list: buf[:0]}
	x.objects(d, r)
	if len(x.list) == 0 {
		return nil
	}
	return slices.Clone(x.list)
}

type differ struct {
	*tree
	list []uint32
}

// objects compares two objects.
func (x *differ) objects(d, r uint32) {
	if bytes.Equal(x.value(d), x.value(r)) {
		return
	}
	start := len(x.list)
	x.list = append(x.list, d|partial)
	f := newFinder(x.tree, r)
	for m := d + 1; m < x.tape[d].next; m = x.tape[m].next {
		o := f.find(x.tree, m)
		switch {
		case o == 0:
			x.list = append(x.list, m)
		case x.tape[m].kind == kindObject && x.tape[o].kind == kindObject:
			x.objects(m, o)
		case !x.equal(m, x.tree, o):
			x.list = append(x.list, m)
		}
	}
	if len(x.list) == start+1 {
		x.list = x.list[:start]
	}
}

// appendDelta appends the delta's state or, with meta, its metadata.
func (d *Document) appendDelta(dst []byte, meta *metaWriter) []byte {
	dst, _ = d.appendDifference(dst, 0, meta)
	return dst
}

// appendDifference appends entry n of the delta and what belongs to it, and returns the number of the
// entry after that.
func (d *Document) appendDifference(dst []byte, n int, meta *metaWriter) ([]byte, int) {
	i := d.delta[n] &^ partial
	if whole := i == d.delta[n]; whole {
		if meta != nil {
			return meta.append(dst, i), n + 1
		}
		return append(dst, d.value(i)...), n + 1
	}
	end := d.tape[i].next
	dst = append(dst, '{')
	first := true
	for n++; n < len(d.delta) && d.delta[n]&^partial < end; {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, d.keyColon(d.delta[n]&^partial)...)
		dst, n = d.appendDifference(dst, n, meta)
	}
	return append(dst, '}'), n
}
