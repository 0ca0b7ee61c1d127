package shadow

import (
	"bytes"
	"iter"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Value is a JSON value inside of a document, a change or a payload: what package shadow knows of it,
// read only. The zero Value stands for no value. Values are immutable and keep alive what they are
// part of.
type Value struct {
	t *tree
	i uint32
}

// ParseValue parses a JSON text by the rules for documents: strict, of duplicate keys the last wins.
// A text that is too large, not UTF-8 or not JSON is an *[Error] (413, 415, 400). It keeps no part
// of text.
func ParseValue(text []byte, lim Limits) (Value, error) {
	lim = lim.WithDefaults()
	if len(text) > lim.PayloadBytes {
		return Value{}, &Error{Code: 413, Message: msgTooLarge}
	}
	if !utf8.Valid(text) {
		return Value{}, &Error{Code: 415, Message: msgEncoding}
	}
	p := newParser(text)
	if !p.parseValue(0, 0) {
		return Value{}, p.err()
	}
	if p.peek(); p.pos < len(p.in) {
		p.fail("data after the value")
		return Value{}, p.err()
	}
	return Value{t: &p.tree}, nil
}

// Exists reports whether there is a value. A JSON null is one.
func (v Value) Exists() bool { return v.t != nil }

func (v Value) is(k kind) bool { return v.t != nil && v.t.tape[v.i].kind == k }

// IsNull reports a JSON null.
func (v Value) IsNull() bool { return v.is(kindNull) }

// IsObject reports a JSON object.
func (v Value) IsObject() bool { return v.is(kindObject) }

// IsArray reports a JSON array.
func (v Value) IsArray() bool { return v.is(kindArray) }

// IsNumber reports a JSON number.
func (v Value) IsNumber() bool { return v.is(kindNumber) }

// IsString reports a JSON string.
func (v Value) IsString() bool { return v.is(kindString) }

// Bool returns the value of true or false; ok is false for everything else.
func (v Value) Bool() (b, ok bool) { return v.is(kindTrue), v.is(kindTrue) || v.is(kindFalse) }

// Raw returns the compact JSON text, nil for no value. Do not change it.
func (v Value) Raw() []byte {
	if v.t == nil {
		return nil
	}
	return v.t.value(v.i)
}

// Text returns the characters of a string, and the JSON text of everything else.
func (v Value) Text() string {
	raw := v.Raw()
	if !v.is(kindString) {
		return string(raw)
	}
	return unquote(raw[1 : len(raw)-1])
}

// Float returns the value of a number; ok is false for everything else.
func (v Value) Float() (f float64, ok bool) {
	if !v.is(kindNumber) {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v.Raw()), 64)
	return f, err == nil
}

// Len returns how many members an object has, or elements an array; 0 for everything else.
func (v Value) Len() int {
	n := 0
	if v.is(kindObject) || v.is(kindArray) {
		for i := v.i + 1; i < v.t.tape[v.i].next; i = v.t.tape[i].next {
			n++
		}
	}
	return n
}

// Members returns the members of an object in their order, nothing for everything else.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if !v.is(kindObject) {
			return
		}
		for i := v.i + 1; i < v.t.tape[v.i].next; i = v.t.tape[i].next {
			if !yield(unquote(v.t.key(i)), Value{v.t, i}) {
				return
			}
		}
	}
}

// Elements returns the elements of an array, nothing for everything else.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if !v.is(kindArray) {
			return
		}
		for i := v.i + 1; i < v.t.tape[v.i].next; i = v.t.tape[i].next {
			if !yield(Value{v.t, i}) {
				return
			}
		}
	}
}

// Member returns a member of an object, the zero Value when there is none.
func (v Value) Member(key string) Value {
	if !v.is(kindObject) {
		return Value{}
	}
	for i := v.i + 1; i < v.t.tape[v.i].next; i = v.t.tape[i].next {
		k := v.t.key(i)
		if string(k) == key || bytes.IndexByte(k, '\\') >= 0 && unquote(k) == key {
			return Value{v.t, i}
		}
	}
	return Value{}
}

// At returns the value at a path of keys, the zero Value when there is none.
func (v Value) At(path ...string) Value {
	for _, key := range path {
		v = v.Member(key)
	}
	return v
}

// Equal reports whether both are the same JSON value: numbers by value, objects in any order.
func (v Value) Equal(o Value) bool {
	if v.t == nil || o.t == nil {
		return v.t == o.t
	}
	return v.t.equal(v.i, o.t, o.i)
}

// Time returns when the newest leaf of a document's value was written, in ms since the epoch, 0 for
// no value.
func (v Value) Time() int64 {
	if v.t == nil {
		return 0
	}
	var newest int64
	for _, e := range v.t.tape[v.i:v.t.tape[v.i].next] {
		newest = max(newest, e.time)
	}
	return newest
}

func unquote(text []byte) string {
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text)
	}
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		if text[0] != '\\' {
			out = append(out, text[0])
			text = text[1:]
			continue
		}
		r, n := unescape(text)
		out = utf8.AppendRune(out, r)
		text = text[max(n, 1):]
	}
	return string(out)
}

// AppendString appends s as a JSON string in the spelling of documents. Bytes that are not UTF-8
// become the replacement character.
func AppendString(dst []byte, s string) []byte { return appendQuoted(dst, s) }

// Desired returns the section desired, the zero Value when there is none.
func (d *Document) Desired() Value { return d.section(desired) }

// Reported returns the section reported, the zero Value when there is none.
func (d *Document) Reported() Value { return d.section(reported) }

func (d *Document) section(name string) Value {
	if !d.exists() {
		return Value{}
	}
	return Value{&d.tree, 0}.Member(name)
}

// DeltaState returns the delta as compact JSON, nil when desired and reported agree.
func (d *Document) DeltaState() []byte {
	if !d.exists() || len(d.delta) == 0 {
		return nil
	}
	return d.appendDelta(nil, nil)
}

// Difference is one leaf of desired that reported lacks or has another value for.
type Difference struct {
	Path     []string // keys below the section
	Desired  Value
	Reported Value // the zero Value when there is none
}

// Differences returns the leaves of the delta: arrays and empty objects are leaves too.
func (d *Document) Differences() []Difference {
	if !d.exists() || len(d.delta) == 0 {
		return nil
	}
	var out []Difference
	walkDifferences(nil, d.Desired(), d.Reported(), &out)
	return out
}

func walkDifferences(path []string, want, have Value, out *[]Difference) {
	if !want.IsObject() || bytes.Equal(want.Raw(), []byte("{}")) {
		if !want.Equal(have) {
			*out = append(*out, Difference{Path: slices.Clone(path), Desired: want, Reported: have})
		}
		return
	}
	for key, w := range want.Members() {
		walkDifferences(append(path, key), w, have.Member(key), out)
	}
}

// State returns the state of the update that made the change, with its nulls: which leaves it named.
// It is the zero Value for a delete.
func (c *Change) State() Value {
	if len(c.patch.tape) == 0 {
		return Value{}
	}
	return Value{t: &c.patch}
}
