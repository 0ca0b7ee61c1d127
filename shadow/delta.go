package shadow

import (
	"bytes"
	"slices"
)

// delta lists what of desired is missing from or different in reported, as indices of entries in
// rising order ("Device Shadow service documents", delta state). The first is always the section. An
// index marked partial is an object of which only what the list goes on with differs; all other
// values are in the delta as a whole. An empty list means no difference.
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
	return slices.Clone(appendDiff(buf[:0], t, d, r))
}

// appendDiff appends what object r lacks of object d, nothing when nothing does.
func appendDiff(list delta, t *tree, d, r uint32) delta {
	if bytes.Equal(t.value(d), t.value(r)) {
		return list
	}
	start := len(list)
	list = append(list, d|partial)
	f := newFinder(t, r)
	for m := d + 1; m < t.tape[d].next; m = t.tape[m].next {
		o := f.find(t, m)
		switch {
		case o == 0:
			list = append(list, m)
		case t.tape[m].kind == kindObject && t.tape[o].kind == kindObject:
			list = appendDiff(list, t, m, o)
		case !t.equal(m, t, o):
			list = append(list, m)
		}
	}
	if len(list) == start+1 {
		list = list[:start]
	}
	return list
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
