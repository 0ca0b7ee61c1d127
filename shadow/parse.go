package shadow

import (
	"bytes"
	"slices"
	"strconv"
)

// parser reads JSON (RFC 8259) and writes it as a tree. It is strict, and decides everything that a
// document's text can be wrong in: the grammar, nesting, ranges of numbers, halves of surrogate
// pairs. Its input must be valid UTF-8. Of duplicate keys the last wins.
//
// Its methods report false after the first error, which fail has kept.
type parser struct {
	tree
	in      []byte
	pos     int
	reason  string // of the first error, which is at pos
	tooDeep bool   // the error is nesting beyond maxNesting

	depth       int // open objects and arrays
	arrays      int // open arrays
	deepest     int
	nulls       bool // a null was read
	nullInArray bool
}

func newParser(in []byte) parser {
	return parser{in: in, tree: tree{
		text: make([]byte, 0, len(in)),
		tape: make([]entry, 0, mostValues(in)),
	}}
}

// mostValues returns how many values a text has at most, and mostly has: each but the first comes after a comma or is
// the first one in its object or array. Entries are large, so that a guess would waste memory.
func mostValues(text []byte) int {
	n := 1
	for _, before := range [...]string{",", "{", "["} {
		n += bytes.Count(text, []byte(before))
	}
	return n
}

func (p *parser) fail(reason string) bool {
	p.reason = reason
	return false
}

// failHere fails with what stands at pos.
func (p *parser) failHere(want string) bool {
	if p.pos >= len(p.in) {
		return p.fail("unexpected end")
	}
	return p.fail(want + " expected")
}

// err returns the error as the protocol words it.
func (p *parser) err() *Error {
	return &Error{Code: 400, Message: msgJSON + ": " + p.reason + " at offset " + strconv.Itoa(p.pos)}
}

// peek skips white space and returns the next byte, 0 at the end (where no valid text has a 0).
func (p *parser) peek() byte {
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; c {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return c
		}
	}
	return 0
}

// parseValue reads the value at pos. key is the offset of its key in the text, or where the value is
// going to start when it has none.
func (p *parser) parseValue(key, hash uint32) bool {
	i := uint32(len(p.tape))
	e := entry{key: key, start: uint32(len(p.text)), next: i + 1, hash: hash}
	var ok bool
	switch c := p.peek(); c {
	case '"':
		e.kind = kindString
		ok = p.parseString()
	case '{', '[':
		p.tape = append(p.tape, e)
		return p.parseContainer(i, c)
	case 't':
		e.kind = kindTrue
		ok = p.parseWord("true")
	case 'f':
		e.kind = kindFalse
		ok = p.parseWord("false")
	case 'n':
		e.kind = kindNull
		p.nulls = true
		p.nullInArray = p.nullInArray || p.arrays > 0
		ok = p.parseWord("null")
	default:
		e.kind = kindNumber
		ok = p.parseNumber()
	}
	e.end = uint32(len(p.text))
	p.tape = append(p.tape, e)
	return ok
}

func (p *parser) parseWord(word string) bool {
	if !bytes.HasPrefix(p.in[p.pos:], []byte(word)) {
		return p.fail("unknown word")
	}
	p.text = append(p.text, word...)
	p.pos += len(word)
	return true
}

func (p *parser) parseNumber() bool {
	n := scanNumber(p.in[p.pos:])
	if n == 0 {
		return p.failHere("value")
	}
	number := p.in[p.pos : p.pos+n]
	if !inRange(number) {
		return p.fail("number out of range")
	}
	p.text = append(p.text, number...)
	p.pos += n
	return true
}

// parseString reads the string at pos and writes it in its one spelling.
func (p *parser) parseString() bool {
	p.text = append(p.text, '"')
	p.pos++
	for {
		n := plainPrefix(p.in[p.pos:])
		p.text = append(p.text, p.in[p.pos:p.pos+n]...)
		p.pos += n
		if p.pos == len(p.in) {
			return p.fail("unexpected end")
		}
		switch p.in[p.pos] {
		case '"':
			p.pos++
			p.text = append(p.text, '"')
			return true
		case '\\':
			r, n := unescape(p.in[p.pos:])
			if n == 0 {
				return p.fail("invalid escape sequence")
			}
			p.text = appendRune(p.text, r)
			p.pos += n
		default:
			return p.fail("control character in a string")
		}
	}
}

// parseContainer reads the object or array at pos, whose entry is i.
func (p *parser) parseContainer(i uint32, open byte) bool {
	if p.depth == maxNesting {
		p.tooDeep = true
		return p.fail("too many levels of nesting")
	}
	p.depth++
	p.deepest = max(p.deepest, p.depth)
	p.pos++
	p.text = append(p.text, open)
	if open == '{' {
		p.tape[i].kind = kindObject
		if !p.parseMembers(i) {
			return false
		}
	} else {
		p.tape[i].kind = kindArray
		p.arrays++
		if !p.parseElements() {
			return false
		}
		p.arrays--
	}
	p.depth--
	p.text = append(p.text, open+2) // } and ] come two after { and [
	p.tape[i].end = uint32(len(p.text))
	p.tape[i].next = uint32(len(p.tape))
	return true
}

func (p *parser) parseElements() bool {
	if p.peek() == ']' {
		p.pos++
		return true
	}
	for {
		if !p.parseValue(uint32(len(p.text)), 0) {
			return false
		}
		switch p.peek() {
		case ']':
			p.pos++
			return true
		case ',':
			p.pos++
			p.text = append(p.text, ',')
		default:
			return p.failHere("comma or bracket")
		}
	}
}

// parseMembers reads the members of the object whose entry is i, and its closing brace.
func (p *parser) parseMembers(i uint32) bool {
	if p.peek() == '}' {
		p.pos++
		return true
	}
	var seen uint64 // a bit for each hash modulo 64
	maybe := false
	for {
		key, hash, ok := p.parseKey()
		if !ok {
			return false
		}
		bit := uint64(1) << (hash % 64)
		maybe = maybe || seen&bit != 0
		seen |= bit
		p.text = append(p.text, ':')
		if !p.parseValue(key, hash) {
			return false
		}
		switch p.peek() {
		case '}':
			p.pos++
			if maybe && !p.fewDistinct(i) {
				p.dropDuplicates(i)
			}
			return true
		case ',':
			p.pos++
			p.text = append(p.text, ',')
		default:
			return p.failHere("comma or brace")
		}
	}
}

// parseKey reads a key and the colon after it, and writes the key.
func (p *parser) parseKey() (key, hash uint32, ok bool) {
	if p.peek() != '"' {
		return 0, 0, p.failHere("key")
	}
	key = uint32(len(p.text)) + 1
	if !p.parseString() {
		return 0, 0, false
	}
	hash = keyHash(p.text[key : len(p.text)-1])
	if p.peek() != ':' {
		return 0, 0, p.failHere("colon")
	}
	p.pos++
	return key, hash, true
}

// fewDistinct reports that the object just read has so few members that comparing all pairs is cheap,
// and that no two have keys of one hash.
func (p *parser) fewDistinct(object uint32) bool {
	var hashes [16]uint32
	n := 0
	for i := object + 1; i < uint32(len(p.tape)); i = p.tape[i].next {
		hash := p.tape[i].hash
		if n == len(hashes) || slices.Contains(hashes[:n], hash) {
			return false
		}
		hashes[n] = hash
		n++
	}
	return true
}

// dropDuplicates removes the members of the object just read that a later one replaces, by moving
// the others to the left.
func (p *parser) dropDuplicates(object uint32) {
	p.tape[object].next = uint32(len(p.tape))
	last, duplicates := newIndex(&p.tree, object)
	if !duplicates {
		return
	}
	var kept []uint32
	for i := object + 1; i < p.tape[object].next; i = p.tape[i].next {
		if last[last.slot(&p.tree, p.key(i), p.tape[i].hash)] == i {
			kept = append(kept, i)
		}
	}
	text, index := p.tape[object].start+1, object+1
	for _, i := range kept {
		if index > object+1 {
			p.text[text] = ','
			text++
		}
		e := p.tape[i]
		n := copy(p.text[text:], p.text[e.key-1:e.end])
		copy(p.tape[index:], p.tape[i:e.next])
		shift(p.tape[index:index+e.next-i], text-(e.key-1), index-i)
		text += uint32(n)
		index += e.next - i
	}
	p.text = p.text[:text]
	p.tape = p.tape[:index]
}
