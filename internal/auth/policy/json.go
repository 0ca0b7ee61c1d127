package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// MaxBytes is the longest document.
const MaxBytes = 64 << 10

// maxDepth is how deep a document may be nested: conditions have a depth of 6.
const maxDepth = 8

// Error is what is wrong with a document, and where.
type Error struct {
	Line, Column int // from 1, in bytes
	Message      string
}

// Error returns "line L, column C: message".
func (e *Error) Error() string {
	return fmt.Sprintf("policy: line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// node is a JSON value with its place in the document.
type node struct {
	at     int // offset of its end
	kind   byte
	text   string // of a string, number or boolean
	list   []node
	keys   []key
	fields []node // by keys
}

// The kinds of nodes.
const (
	kindString  = 's'
	kindScalar  = 'n' // number or boolean
	kindNull    = '0'
	kindList    = '['
	kindObject  = '{'
	emptySource = 0
)

type key struct {
	at   int
	name string
}

// reader makes nodes of a document.
type reader struct {
	src []byte
	dec *json.Decoder
}

// read parses a document of one JSON value.
func read(src []byte) (node, error) {
	r := reader{src: src, dec: json.NewDecoder(bytes.NewReader(src))}
	r.dec.UseNumber()
	switch {
	case len(src) > MaxBytes:
		return node{}, r.fail(emptySource, "a policy has at most %d bytes", MaxBytes)
	case !utf8.Valid(src):
		return node{}, r.fail(emptySource, "the document is not valid UTF-8")
	}
	n, err := r.value(0)
	if err != nil {
		return node{}, err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return node{}, r.fail(n.at, "there is something after the document")
	}
	return n, nil
}

// fail makes an error about the place at an offset.
func (r *reader) fail(at int, format string, args ...any) error {
	return failAt(r.src, at, format, args...)
}

func failAt(src []byte, at int, format string, args ...any) error {
	before := src[:min(max(at, 0), len(src))]
	return &Error{
		Line: 1 + bytes.Count(before, []byte{'\n'}), Column: max(1, len(before)-1-bytes.LastIndexByte(before, '\n')),
		Message: fmt.Sprintf(format, args...),
	}
}

func (r *reader) value(depth int) (node, error) {
	if depth > maxDepth {
		return node{}, r.fail(int(r.dec.InputOffset()), "the document is nested too deeply")
	}
	t, err := r.dec.Token()
	if err != nil {
		if bad, ok := errors.AsType[*json.SyntaxError](err); ok {
			return node{}, r.fail(int(bad.Offset), "invalid JSON: %v", err)
		}
		return node{}, r.fail(len(r.src), "the document ends too early")
	}
	n := node{at: int(r.dec.InputOffset())}
	switch t := t.(type) {
	case json.Delim:
		n.kind = byte(t)
		if t == '{' {
			return n, r.object(&n, depth)
		}
		return n, r.elements(&n, depth)
	case string:
		n.kind, n.text = kindString, t
	case nil:
		n.kind = kindNull
	default: // number, boolean
		n.kind, n.text = kindScalar, fmt.Sprint(t)
	}
	return n, nil
}

func (r *reader) elements(n *node, depth int) error {
	for r.dec.More() {
		v, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.list = append(n.list, v)
	}
	return r.closing()
}

func (r *reader) object(n *node, depth int) error {
	seen := map[string]bool{}
	for r.dec.More() {
		name, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if seen[name.text] {
			return r.fail(name.at, "%q comes twice", name.text)
		}
		seen[name.text] = true
		v, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.keys, n.fields = append(n.keys, key{name.at, name.text}), append(n.fields, v)
	}
	return r.closing()
}

// closing takes the end of an object or list.
func (r *reader) closing() error {
	if _, err := r.dec.Token(); err != nil {
		return r.fail(int(r.dec.InputOffset()), "invalid JSON: %v", err)
	}
	return nil
}
