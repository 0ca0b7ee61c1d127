package shadow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// recordFormat is the first byte of a record. The rest is the state as compact JSON and a varint for
// each leaf in the order of the text: its time in ms, less that of the leaf before.
const recordFormat = 1

var errDamaged = errors.New("damaged")

// AppendRecord appends the stored form of the document (its version and tombstone flag are not in it).
func (d *Document) AppendRecord(dst []byte) []byte {
	dst = append(dst, recordFormat)
	if d == nil {
		return append(dst, "{}"...)
	}
	dst = append(dst, d.text...)
	times := timeWriter{dst: dst}
	times.write(d.tape)
	return times.dst
}

// DecodeRecord is the inverse of [Document.AppendRecord]. It copies what it keeps. Damage is an error.
func DecodeRecord(version uint64, deleted bool, record []byte) (*Document, error) {
	if len(record) == 0 || record[0] != recordFormat {
		return nil, fmt.Errorf("shadow: record of version %d: unknown format", version)
	}
	state, nulls, err := decodeState(record[1:])
	if err == nil && (nulls || state.hasEmptySection()) {
		err = errDamaged
	}
	if err != nil {
		return nil, fmt.Errorf("shadow: record of version %d: %w", version, err)
	}
	d := newDocument(version, state)
	d.deleted = deleted
	return d, nil
}

// decodeState reads a state with the times of its leaves. Sections may be null.
func decodeState(data []byte) (state tree, nulls bool, err error) {
	p := newParser(data)
	if p.peek() != '{' || !p.parseValue(0, 0) || !utf8.Valid(p.text) {
		return tree{}, false, errDamaged
	}
	if p.checkSections() != "" || p.nullInArray {
		return tree{}, false, errDamaged
	}
	if !readTimes(p.tape, data[p.pos:]) {
		return tree{}, false, errDamaged
	}
	return p.tree, p.nulls, nil
}

func (t *tree) hasEmptySection() bool {
	for i := uint32(1); i < t.tape[0].next; i = t.tape[i].next {
		if t.empty(i) {
			return true
		}
	}
	return false
}

// timeWriter writes the times of leaves.
type timeWriter struct {
	dst  []byte
	last int64
}

func (w *timeWriter) write(tape []entry) {
	for i := range tape {
		if !tape[i].leaf() {
			continue
		}
		if d := tape[i].time - w.last; d == 0 { // most are
			w.dst = append(w.dst, 0)
		} else {
			w.dst = binary.AppendVarint(w.dst, d)
		}
		w.last = tape[i].time
	}
}

// readTimes sets the times of the leaves that are not null.
func readTimes(tape []entry, data []byte) bool {
	var last int64
	for i := range tape {
		if !tape[i].leaf() || tape[i].kind == kindNull {
			continue
		}
		d, n := binary.Varint(data)
		if n <= 0 {
			return false
		}
		data = data[n:]
		last += d
		tape[i].time = last
	}
	return len(data) == 0
}
