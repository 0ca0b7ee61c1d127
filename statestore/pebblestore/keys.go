package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"

	"github.com/umbra-iot/umbra/statestore"
)

// The key space. Each kind of key begins with a byte of its own. Names have no
// byte below 0x21, so the zero byte behind a name ends it and keeps the order.
//
//	0x00 "format"                       the format marker
//	'h' thing 0x00 shadow 0x00 slot     history entry: version, time, body
//	'i' space partition 0x00 key        item: value
//	'o' number                          outbox entry: marks
//	'r' thing 0x00 shadow               record: flags, version, modified, expires, body
//	'x' expires thing 0x00 shadow       tombstone that expires: nothing
//
// Numbers are 8 bytes, big-endian; in outbox entries they are varints. The slot
// of a history entry is its version modulo the limit of the history, so that an
// entry takes the place of the one that it pushes out.
const (
	kindHistory = 'h'
	kindItem    = 'i'
	kindOutbox  = 'o'
	kindRecord  = 'r'
	kindExpiry  = 'x'
)

const (
	recordHeader  = 1 + 3*8
	historyHeader = 2 * 8
	flagDeleted   = 1
)

// errDamaged is the cause of errors about values that this package cannot have written.
var errDamaged = errors.New("damaged value")

func formatKey() []byte { return []byte("\x00format") }

// appendName appends a key of shadow k without what follows the names.
func appendName(dst []byte, kind byte, k statestore.Key) []byte {
	dst = append(dst, kind)
	dst = append(dst, k.Thing...)
	dst = append(dst, 0)
	return append(dst, k.Shadow...)
}

func appendHistoryKey(dst []byte, k statestore.Key, slot uint64) []byte {
	dst = append(appendName(dst, kindHistory, k), 0)
	return binary.BigEndian.AppendUint64(dst, slot)
}

// historyBounds returns the first key of the history of k and the first behind it.
func historyBounds(k statestore.Key) (from, to []byte) {
	name := appendName(nil, kindHistory, k)
	return append(bytes.Clone(name), 0), append(name, 1)
}

func outboxKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindOutbox}, number)
}

func appendExpiryKey(dst []byte, expires int64, k statestore.Key) []byte {
	dst = append(dst, kindExpiry)
	dst = binary.BigEndian.AppendUint64(dst, uint64(expires))
	dst = append(dst, k.Thing...)
	dst = append(dst, 0)
	return append(dst, k.Shadow...)
}

// cutName returns the shadow that names is the thing 0x00 shadow of.
func cutName(names []byte) statestore.Key {
	thing, shadow, _ := bytes.Cut(names, []byte{0})
	return statestore.Key{Thing: string(thing), Shadow: string(shadow)}
}

func putRecord(dst []byte, r *statestore.Record) {
	dst[0] = 0
	if r.Deleted {
		dst[0] = flagDeleted
	}
	binary.BigEndian.PutUint64(dst[1:], r.Version)
	binary.BigEndian.PutUint64(dst[9:], uint64(r.Modified))
	binary.BigEndian.PutUint64(dst[17:], uint64(r.Expires))
	copy(dst[recordHeader:], r.Body)
}

// parseRecord returns the record in value; its Body is part of value.
func parseRecord(value []byte) (statestore.Record, error) {
	if len(value) < recordHeader {
		return statestore.Record{}, errDamaged
	}
	return statestore.Record{
		Deleted:  value[0]&flagDeleted != 0,
		Version:  binary.BigEndian.Uint64(value[1:]),
		Modified: int64(binary.BigEndian.Uint64(value[9:])),
		Expires:  int64(binary.BigEndian.Uint64(value[17:])),
		Body:     value[recordHeader:],
	}, nil
}

func putEntry(dst []byte, e *statestore.Entry) {
	binary.BigEndian.PutUint64(dst, e.Version)
	binary.BigEndian.PutUint64(dst[8:], uint64(e.Time))
	copy(dst[historyHeader:], e.Body)
}

// parseEntry returns the history entry in value; its Body is part of value.
func parseEntry(value []byte) (statestore.Entry, error) {
	if len(value) < historyHeader {
		return statestore.Entry{}, errDamaged
	}
	return statestore.Entry{
		Version: binary.BigEndian.Uint64(value),
		Time:    int64(binary.BigEndian.Uint64(value[8:])),
		Body:    value[historyHeader:],
	}, nil
}

func appendMark(dst []byte, k statestore.Key, m mark) []byte {
	for _, name := range []string{k.Thing, k.Shadow} {
		dst = binary.AppendUvarint(dst, uint64(len(name)))
		dst = append(dst, name...)
	}
	dst = binary.AppendUvarint(dst, m.first)
	return binary.AppendUvarint(dst, m.last)
}

// cutMark returns the first mark of an outbox entry and what follows it.
func cutMark(b []byte) (k statestore.Key, m mark, rest []byte, err error) {
	for _, name := range []*string{&k.Thing, &k.Shadow} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return k, m, nil, errDamaged
		}
		*name, b = string(b[size:size+int(n)]), b[size+int(n):]
	}
	for _, number := range []*uint64{&m.first, &m.last} {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return k, m, nil, errDamaged
		}
		*number, b = n, b[size:]
	}
	return k, m, b, nil
}

// oldestKept returns the lowest version that the history of a shadow at version
// reaches back to; above all versions when limit is 0.
func oldestKept(version uint64, limit int) uint64 {
	switch {
	case limit == 0:
		return math.MaxUint64
	case version <= uint64(limit):
		return 1
	}
	return version - uint64(limit) + 1
}
