package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Values are what encoding/json makes of a document, but with numbers as
// json.Number: an operator's tool must not round what it shows or writes.

type object = map[string]any

// decodeJSON reads exactly one JSON value. A key that stands twice in an object is an error,
// because one of its values would get lost without a word.
func decodeJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := decodeValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("text after the end of the JSON value (byte %d)", d.InputOffset())
	}
	return v, nil
}

func decodeValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return decodeObject(d)
	case json.Delim('['):
		return decodeArray(d)
	}
	return token, nil
}

func decodeObject(d *json.Decoder) (any, error) {
	o := object{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := token.(string) // the decoder accepts nothing else here
		if _, twice := o[key]; twice {
			return nil, fmt.Errorf("key %q stands twice in an object (byte %d)", key, d.InputOffset())
		}
		if o[key], err = decodeValue(d); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return o, err
}

func decodeArray(d *json.Decoder) (any, error) {
	a := []any{}
	for d.More() {
		v, err := decodeValue(d)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := d.Token()
	return a, err
}

// encodeJSON returns v as compact JSON with sorted keys. v is made of what decodeJSON makes,
// or of structs without cycles, so that it always can be encoded.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// leaf is a value that is no object (or an empty one) and where it stands.
type leaf struct {
	path  path
	value any
}

// leaves returns the leaves of v in order of their paths.
func leaves(v any) []leaf { return appendLeaves(nil, nil, v) }

func appendLeaves(dst []leaf, at path, v any) []leaf {
	o, ok := v.(object)
	if !ok || len(o) == 0 {
		return append(dst, leaf{slices.Clone(at), v})
	}
	for _, key := range sortedKeys(o) {
		dst = appendLeaves(dst, append(at, key), o[key])
	}
	return dst
}

// leavesWithin returns the leaves of an object without the object itself, which is one when it is empty.
func leavesWithin(o object) []leaf {
	if len(o) == 0 {
		return nil
	}
	return leaves(o)
}

// lookup returns the value at p. Arrays are values: no path leads into them.
func lookup(v any, p path) (any, bool) {
	for _, key := range p {
		o, ok := v.(object)
		if !ok {
			return nil, false
		}
		if v, ok = o[key]; !ok {
			return nil, false
		}
	}
	return v, true
}

// put sets the value at p, which must not lead through another value that was put.
func put(o object, p path, v any) error {
	for _, key := range p[:len(p)-1] {
		next, ok := o[key]
		if !ok {
			next = object{}
			o[key] = next
		}
		if o, ok = next.(object); !ok {
			return fmt.Errorf("%s lies inside another value that is set", p)
		}
	}
	key := p[len(p)-1]
	if _, twice := o[key]; twice {
		return fmt.Errorf("%s is set twice", p)
	}
	o[key] = v
	return nil
}

// equal compares JSON values; numbers by value.
func equal(a, b any) bool {
	switch a := a.(type) {
	case object:
		b, ok := b.(object)
		return ok && maps.EqualFunc(a, b, equal)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case json.Number:
		b, ok := b.(json.Number)
		return ok && compareNumbers(a, b) == 0
	}
	switch b.(type) {
	case object, []any:
		return false
	}
	return a == b
}

// compareNumbers is exact, as the server is; only beyond the exponents of a float64 it is as good as that.
func compareNumbers(a, b json.Number) int {
	x, okX := exact(a)
	y, okY := exact(b)
	if okX && okY {
		return x.Cmp(y)
	}
	f, _ := a.Float64() // out of range gives an infinity of the right sign
	g, _ := b.Float64()
	return cmp.Compare(f, g)
}

// exact returns the value of a number; ok is false when it would take too many digits.
func exact(n json.Number) (r *big.Rat, ok bool) {
	const most = 400 // a float64 goes up to 308
	if _, exponent, has := strings.Cut(strings.ToLower(n.String()), "e"); has {
		if e, err := strconv.Atoi(exponent); err != nil || e > most || e < -most {
			return nil, false
		}
	}
	return new(big.Rat).SetString(n.String())
}

// merge returns doc with patch laid over it, as the shadow service does it: objects are merged,
// null removes a key, everything else replaces. doc is not changed.
func merge(doc, patch object) object {
	out := maps.Clone(doc)
	if out == nil {
		out = object{}
	}
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(out, key)
		case object:
			old, _ := out[key].(object)
			out[key] = merge(old, value)
		default:
			out[key] = value
		}
	}
	return out
}

// mergePatch returns what has to be merged into from to get to; empty when they are equal.
func mergePatch(from, to object) object {
	patch := object{}
	for key := range from {
		if _, stays := to[key]; !stays {
			patch[key] = nil
		}
	}
	for key, want := range to {
		have, there := from[key]
		if there && equal(have, want) {
			continue
		}
		haveObject, ok1 := have.(object)
		wantObject, ok2 := want.(object)
		if ok1 && ok2 {
			patch[key] = mergePatch(haveObject, wantObject)
		} else {
			patch[key] = want
		}
	}
	return patch
}

// withoutNulls returns o as the service would store it: null is no value.
func withoutNulls(o object) object { return merge(nil, o) }

// missing returns the leaves of want that have lacks or has differently. Nulls ask for nothing.
func missing(want, have object) []leaf {
	var out []leaf
	for _, l := range leavesWithin(want) {
		got, ok := lookup(have, l.path)
		if l.value == nil || ok && equal(got, l.value) {
			continue
		}
		if _, isObject := got.(object); ok && isObject && equal(l.value, object{}) {
			continue // an empty object asks only for an object
		}
		out = append(out, l)
	}
	return out
}

// text returns a value as a person reads it on one line: JSON, but bare strings stay bare.
func text(v any) string {
	if s, ok := v.(string); ok && bare(s) {
		return s
	}
	return string(encodeJSON(v))
}

// bare reports whether a string cannot be taken for another JSON value or for part of a line.
func bare(s string) bool {
	if s == "" || strings.TrimSpace(s) != s || json.Valid([]byte(s)) {
		return false
	}
	return strconv.Quote(s) == `"`+s+`"`
}

func sortedKeys(o object) []string { return slices.Sorted(maps.Keys(o)) }
