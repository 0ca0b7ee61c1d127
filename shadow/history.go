package shadow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// historyFormat is the first byte of a history entry. Then come the operation, what was there before
// (one of the before constants), the time in ms as a varint, and with their lengths channel,
// principal, client id, token and patch; the rest is what undoes the change, as in a record: the
// state that has to be merged into the document after it, or the whole state before a delete.
//
// In an entry whose author has numbered the request, the first byte is numberedFormat, and the
// number follows the time as a varint.
const (
	historyFormat  = 1
	numberedFormat = 2
)

const (
	beforeNothing = iota
	beforeTombstone
	beforeDocument
)

// Author says who asked for a change and by which way.
type Author struct {
	Channel   string // "mqtt", "rest", "will", "mapping"
	Principal string // authenticated identity, "" when anonymous
	ClientID  string // MQTT client id, "" over REST
	Request   uint64 // number of a request that may come again but must be done once, 0 for none
}

// HistoryEntry is a decoded history entry.
type HistoryEntry struct {
	Version uint64
	Time    int64 // ms
	Op      Op    // OpUpdate or OpDelete
	Author  Author
	Token   string // JSON string or ""
	Patch   []byte // the accepted "state" member as compact JSON (nulls included); nil for a delete

	before byte
	undo   []byte
}

// AppendHistory appends the history entry of the change: when, who, how, token, the accepted state
// and what undoes it.
func (c *Change) AppendHistory(dst []byte, by Author) []byte {
	before := byte(beforeDocument)
	switch {
	case c.Before == nil:
		before = beforeNothing
	case c.Before.deleted:
		before = beforeTombstone
	}
	format := byte(historyFormat)
	if by.Request != 0 {
		format = numberedFormat
	}
	dst = append(dst, format, byte(c.op), before)
	dst = binary.AppendVarint(dst, c.time)
	if by.Request != 0 {
		dst = binary.AppendUvarint(dst, by.Request)
	}
	for _, s := range [...]string{by.Channel, by.Principal, by.ClientID, c.token} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.patch.text)))
	dst = append(dst, c.patch.text...)
	if before != beforeDocument {
		return dst
	}
	if c.op == OpDelete || c.patch.tape[0].kind == kindNull {
		times := timeWriter{dst: append(dst, c.Before.text...)}
		times.write(c.Before.tape)
		return times.dst
	}
	return appendUndo(dst, &c.Before.tree, &c.patch)
}

// DecodeHistory decodes what [Change.AppendHistory] made. It copies what it keeps. Damage is an error.
func DecodeHistory(version uint64, entry []byte) (*HistoryEntry, error) {
	e := &HistoryEntry{Version: version}
	if !e.decode(bytes.Clone(entry)) {
		return nil, fmt.Errorf("shadow: history entry of version %d: %w", version, errDamaged)
	}
	return e, nil
}

func (e *HistoryEntry) decode(data []byte) bool {
	if len(data) < 3 || data[0] != historyFormat && data[0] != numberedFormat {
		return false
	}
	e.Op, e.before = Op(data[1]), data[2]
	updated := e.Op == OpUpdate && e.before <= beforeDocument
	deleted := e.Op == OpDelete && e.before == beforeDocument
	if !updated && !deleted {
		return false
	}
	time, n := binary.Varint(data[3:])
	if n <= 0 {
		return false
	}
	e.Time = time
	rest := data[3+n:]
	var number uint64
	if data[0] == numberedFormat {
		if number, n = binary.Uvarint(rest); n <= 0 || number == 0 {
			return false
		}
		rest = rest[n:]
	}
	var fields [5][]byte
	for i := range fields {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return false
		}
		fields[i], rest = rest[n:n+int(size)], rest[n+int(size):]
	}
	e.Author = Author{Channel: string(fields[0]), Principal: string(fields[1]), ClientID: string(fields[2]), Request: number}
	e.Token = string(fields[3])
	if e.Op == OpUpdate {
		e.Patch = fields[4]
	}
	e.undo = rest
	return true
}

// Undo returns the document before e, given the document after it: nil when there was none. Values
// and times are those of then; keys that come back may stand in another order.
func (e *HistoryEntry) Undo(after *Document) (*Document, error) {
	if e.Version == 0 || after.Version() != e.Version {
		return nil, fmt.Errorf("shadow: undo of version %d: the document has version %d", e.Version, after.Version())
	}
	switch e.before {
	case beforeNothing:
		return nil, nil
	case beforeTombstone:
		return newTombstone(e.Version - 1), nil
	}
	undo, nulls, err := decodeState(e.undo)
	if err != nil {
		return nil, fmt.Errorf("shadow: undo of version %d: %w", e.Version, err)
	}
	state := merge(&after.tree, patch{tree: &undo, nulls: nulls, own: true}, 0)
	return newDocument(e.Version-1, state), nil
}

// Redo returns the document after e, given a live document before it, to the byte what it was then. e must be an
// update of a document that was live. Versions between the two are taken as lost with what they changed.
func (e *HistoryEntry) Redo(before *Document) (*Document, error) {
	if e.Op != OpUpdate || e.before != beforeDocument || !before.exists() || e.Version <= before.version {
		return nil, fmt.Errorf("shadow: redo of version %d: not an update of version %d", e.Version, before.Version())
	}
	p, err := e.parsePatch()
	if err != nil {
		return nil, err
	}
	return newDocument(e.Version, merge(&before.tree, patch{tree: &p.tree, nulls: p.nulls}, e.Time)), nil
}

// parsePatch parses the patch of an update.
func (e *HistoryEntry) parsePatch() (parser, error) {
	p := newParser(e.Patch)
	ok := p.parseValue(0, 0) && p.pos == len(e.Patch) && utf8.Valid(p.text) && !p.nullInArray
	if !ok || p.tape[0].kind != kindNull && (p.tape[0].kind != kindObject || p.checkSections() != "") {
		return p, fmt.Errorf("shadow: history entry of version %d: patch: %w", e.Version, errDamaged)
	}
	return p, nil
}

// Change rebuilds the Change of e, given the document after it: what an outbox entry still has to
// announce.
func (e *HistoryEntry) Change(after *Document) (*Change, error) {
	before, err := e.Undo(after)
	if err != nil {
		return nil, err
	}
	c := &Change{Before: before, After: after, op: e.Op, time: e.Time, token: e.Token}
	if e.Op == OpUpdate {
		p, err := e.parsePatch()
		if err != nil {
			return nil, err
		}
		c.patch = p.tree
	}
	return c, nil
}
