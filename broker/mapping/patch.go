package mapping

import (
	"math"
	"slices"

	"github.com/umbra-iot/umbra/shadow"
)

// op is one thing that a message does to reported.
type op struct {
	path     []string
	value    shadow.Value // the zero Value removes what is at path
	drop     []string     // members of value that are not taken
	replace  bool         // members that value lacks are removed, in depth
	deadband float64
	pattern  []level    // below path: removes what matches; for a rule whose payload was cleared
	keep     [][]string // with the zero Value: what stays
	existing bool       // only where there is a value
}

// node is what a message does to one value of reported and what is below it.
type node struct {
	value    shadow.Value
	drop     []string
	set      bool // value is to be written (no value: removed)
	replace  bool
	keep     bool
	existing bool
	deadband float64
	keys     []string
	kids     map[string]*node
	patterns [][]level
}

func (n *node) kid(key string) *node {
	k := n.kids[key]
	if k == nil {
		if n.kids == nil {
			n.kids = map[string]*node{}
		}
		k = &node{}
		n.kids[key] = k
		n.keys = append(n.keys, key)
	}
	return k
}

// spread turns an object that is to be written into members, so that others can be put among them.
func (n *node) spread() {
	if !n.set || !n.value.IsObject() {
		return
	}
	for key, v := range n.value.Members() {
		if !slices.Contains(n.drop, key) {
			k := n.kid(key)
			*k = node{value: v, set: true, replace: n.replace, deadband: n.deadband}
		}
	}
	n.value, n.set, n.drop = shadow.Value{}, false, nil
}

func (n *node) add(o *op) {
	at := n
	for _, key := range o.path {
		at.spread()
		if at.set { // a scalar gives way to members
			at.value, at.set = shadow.Value{}, false
		}
		at = at.kid(key)
	}
	switch {
	case o.pattern != nil:
		at.spread()
		at.patterns = append(at.patterns, o.pattern)
	case o.keep != nil:
		at.spread()
		at.replace = true
		for _, path := range o.keep {
			at.protect(path)
		}
	case o.value.IsObject() && at.kids != nil:
		for key, v := range o.value.Members() {
			if !slices.Contains(o.drop, key) {
				at.add(&op{path: []string{key}, value: v, replace: o.replace, deadband: o.deadband})
			}
		}
		at.replace = at.replace || o.replace
	default:
		*at = node{value: o.value, set: true, drop: o.drop, replace: o.replace, deadband: o.deadband, keep: at.keep, existing: o.existing}
	}
}

// protect keeps what is at a path although the object around it is replaced.
func (n *node) protect(path []string) {
	for _, key := range path {
		n = n.kid(key)
	}
	n.keep = !n.set
}

// differ writes the patches that make values what nodes want.
type differ struct{ out []byte }

// effect is what a patch does to one value.
type effect uint8

const (
	same   effect = iota // nothing was written
	wrote                // a patch was written
	absent               // the value goes, or would be empty: the caller writes null where there was one
)

// updateOf returns the payload of the update that a list of ops is for a section of a document; changed is false when
// it changes nothing.
func updateOf(section string, ops []op, current shadow.Value) (payload []byte, changed bool) {
	payload = make([]byte, 0, 256) // enough for most
	payload = append(payload, `{"state":{"`...)
	payload = append(payload, section...)
	payload, changed = appendPatch(append(payload, `":`...), ops, current)
	if !changed {
		return nil, false
	}
	return append(payload, "}}"...), true
}

// appendPatch appends the patch that a list of ops is for a value; ok is false when there is none.
func appendPatch(dst []byte, ops []op, current shadow.Value) (out []byte, ok bool) {
	var root node
	for i := range ops {
		root.add(&ops[i])
	}
	if root.set && !root.value.IsObject() {
		root = node{replace: true}
	}
	d := differ{out: dst}
	switch d.node(&root, current) {
	case wrote:
		return d.out, true
	case absent:
		return append(d.out, "null"...), current.Exists()
	case same:
	}
	return d.out, false
}

func (d *differ) node(n *node, cur shadow.Value) effect {
	switch {
	case n.keep && n.kids == nil && !n.set, n.existing && !cur.Exists():
		return same
	case n.set:
		return d.value(n, n.value, n.drop, cur)
	case n.kids == nil && n.patterns == nil && !n.replace:
		return same
	}
	obj := d.open(cur)
	for _, key := range n.keys {
		k := n.kids[key]
		obj.member(key, cur.Member(key), func(c shadow.Value) effect { return d.node(k, c) })
	}
	for key, c := range cur.Members() {
		if n.kids[key] != nil {
			continue
		}
		if n.replace {
			obj.member(key, c, func(shadow.Value) effect { return absent })
			continue
		}
		for _, p := range n.patterns {
			if _, ok := p[0].matchText(key, nil); ok {
				obj.member(key, c, func(c shadow.Value) effect { return d.remove(p[1:], c) })
				break
			}
		}
	}
	return obj.close()
}

// remove removes what of cur the keys lead to.
func (d *differ) remove(keys []level, cur shadow.Value) effect {
	if len(keys) == 0 {
		return absent
	}
	return d.node(&node{patterns: [][]level{keys}}, cur)
}

// value writes v in the place of cur.
func (d *differ) value(n *node, v shadow.Value, drop []string, cur shadow.Value) effect {
	if !v.Exists() || v.IsNull() {
		return absent
	}
	if !v.IsObject() {
		if cur.Exists() && (v.Equal(cur) || within(v, cur, n.deadband)) {
			return same
		}
		d.out = appendWithoutNulls(d.out, v)
		return wrote
	}
	return d.object(n, v, drop, cur)
}

// object writes the members of v in the place of cur.
func (d *differ) object(n *node, v shadow.Value, drop []string, cur shadow.Value) effect {
	obj := d.open(cur)
	seen := 0
	for key, m := range v.Members() {
		if slices.Contains(drop, key) {
			continue
		}
		seen++
		obj.member(key, cur.Member(key), func(c shadow.Value) effect { return d.value(n, m, nil, c) })
	}
	if n.replace {
		for key, c := range cur.Members() {
			if !v.Member(key).Exists() || slices.Contains(drop, key) {
				obj.member(key, c, func(shadow.Value) effect { return absent })
			}
		}
	}
	if seen == 0 && !cur.IsObject() {
		return absent
	}
	return obj.close()
}

// within reports whether two numbers differ by less than the deadband.
func within(v, cur shadow.Value, deadband float64) bool {
	if deadband == 0 {
		return false
	}
	a, ok := v.Float()
	b, also := cur.Float()
	return ok && also && math.Abs(a-b) < deadband
}

// appendWithoutNulls writes an array; nulls, which a document's arrays cannot have, are left out.
func appendWithoutNulls(dst []byte, v shadow.Value) []byte {
	switch {
	case v.IsArray():
		dst = append(dst, '[')
		first := true
		for e := range v.Elements() {
			if e.IsNull() {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = appendWithoutNulls(dst, e)
		}
		return append(dst, ']')
	case v.IsObject():
		dst = append(dst, '{')
		first := true
		for key, m := range v.Members() {
			if m.IsNull() {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(shadow.AppendString(dst, key), ':')
			dst = appendWithoutNulls(dst, m)
		}
		return append(dst, '}')
	}
	return append(dst, v.Raw()...)
}

// objectPatch is the patch of one object under way.
type objectPatch struct {
	d     *differ
	start int
	left  int // members that there will be
	any   bool
}

func (d *differ) open(cur shadow.Value) objectPatch {
	o := objectPatch{d: d, start: len(d.out), left: cur.Len()}
	d.out = append(d.out, '{')
	return o
}

// member does fn to a member and takes account of what comes out.
func (o *objectPatch) member(key string, cur shadow.Value, fn func(shadow.Value) effect) {
	d := o.d
	before := len(d.out)
	if o.any {
		d.out = append(d.out, ',')
	}
	d.out = append(shadow.AppendString(d.out, key), ':')
	switch fn(cur) {
	case wrote:
		o.any = true
		if !cur.Exists() {
			o.left++
		}
		return
	case absent:
		if cur.Exists() {
			d.out = append(d.out, "null"...)
			o.any = true
			o.left--
			return
		}
	case same:
	}
	d.out = d.out[:before]
}

// close ends the object. One that nothing is left of is absent.
func (o *objectPatch) close() effect {
	if o.left <= 0 {
		o.d.out = o.d.out[:o.start]
		return absent
	}
	if !o.any {
		o.d.out = o.d.out[:o.start]
		return same
	}
	o.d.out = append(o.d.out, '}')
	return wrote
}
