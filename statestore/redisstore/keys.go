package redisstore

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// buckets is the number of parts that things are spread over by a hash of their
// names. All keys of a bucket share a hash tag, so they are in one slot of a
// Redis Cluster, and a script can keep the bucket's index of things and its
// outbox true together with a shadow. It must not change.
const buckets = 64

// Keys. P is the prefix, B a bucket; names have no space, so that one tells the
// thing from the shadow and the classic shadow has none.
//
//	P:format                the format marker, a string
//	P:{B}:doc:THING SHADOW  the record, a string
//	P:{B}:log:THING SHADOW  the history, a list
//	P:{B}:shadows:THING     names of shadows that are not deleted, a sorted set
//	P:{B}:things            names of things that have any, a sorted set
//	P:{B}:outbox:NODE       marks of a node, a hash of "THING SHADOW" to first and last version
//
// The items of a node share a hash tag of their own, I = "mqtt-NODE", since a Put is done whole.
//
//	P:{I}:put               number of the last Put, a string
//	P:{I}:SPACE             names of partitions, a set
//	P:{I}:SPACE:PARTITION   items, a hash
type keys struct {
	tags   [buckets]string // "P:{B}:"
	prefix string
	node   string
}

func newKeys(prefix, node string) *keys {
	k := &keys{prefix: prefix, node: node}
	for b := range k.tags {
		k.tags[b] = fmt.Sprintf("%s:{%02d}:", prefix, b)
	}
	return k
}

func bucketOf(thing string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(thing))
	return int(h.Sum32() % buckets)
}

func (k *keys) format() string              { return k.prefix + ":format" }
func (k *keys) doc(s statestore.Key) string { return k.tags[bucketOf(s.Thing)] + "doc:" + field(s) }

func (k *keys) log(s statestore.Key) string { return k.tags[bucketOf(s.Thing)] + "log:" + field(s) }
func (k *keys) shadows(thing string) string { return k.tags[bucketOf(thing)] + "shadows:" + thing }
func (k *keys) things(bucket int) string    { return k.tags[bucket] + "things" }
func (k *keys) outbox(bucket int) string    { return k.tags[bucket] + "outbox:" + k.node }
func (k *keys) items() string               { return k.prefix + ":{mqtt-" + k.node + "}:" }
func (k *keys) puts() string                { return k.items() + "put" }
func (k *keys) partitions(space byte) string {
	return k.items() + strconv.Itoa(int(space))
}

func (k *keys) partition(space byte, name string) string { return k.partitions(space) + ":" + name }

// field returns "thing shadow", or "thing" for the classic shadow.
func field(k statestore.Key) string {
	if k.Shadow == "" {
		return k.Thing
	}
	return k.Thing + " " + k.Shadow
}

func cutField(s string) statestore.Key {
	thing, shadow, _ := strings.Cut(s, " ")
	return statestore.Key{Thing: thing, Shadow: shadow}
}

// A stored record is a header of decimal numbers of fixed width, which scripts
// and people can read, and the body. The header of a history entry is the same
// with less.
const (
	versionLen = 20                                         // decimal digits of a version
	timeLen    = 15                                         // decimal digits of a time in ms
	idLen      = 16                                         // hexadecimal digits of the id of a write
	headerLen  = versionLen + timeLen + timeLen + idLen + 1 // version, modified, expires, id, '-' or 'd' for deleted
	entryLen   = versionLen + timeLen                       // version, time
)

// errDamaged is the cause of errors about values that this package cannot have written.
var errDamaged = errors.New("damaged value")

// appendRecord appends the stored form of r. id names the write.
func appendRecord(dst []byte, r *statestore.Record, id uint64) []byte {
	state := byte('-')
	if r.Deleted {
		state = 'd'
	}
	dst = appendPadded(dst, r.Version, versionLen, 10)
	dst = appendPadded(dst, uint64(max(r.Modified, 0)), timeLen, 10)
	dst = appendPadded(dst, uint64(max(r.Expires, 0)), timeLen, 10)
	dst = appendPadded(dst, id, idLen, 16)
	return append(append(dst, state), r.Body...)
}

// parseRecord returns the record in value, which the caller owns, or the zero
// Record when there is none or it has expired.
func parseRecord(value string, now time.Time) (statestore.Record, error) {
	var r statestore.Record
	if value == "" {
		return r, nil
	}
	if len(value) < headerLen {
		return r, errDamaged
	}
	var err error
	if r.Version, err = strconv.ParseUint(value[:versionLen], 10, 64); err != nil {
		return r, errDamaged
	}
	times := value[versionLen:]
	if r.Modified, err = strconv.ParseInt(times[:timeLen], 10, 64); err != nil {
		return r, errDamaged
	}
	if r.Expires, err = strconv.ParseInt(times[timeLen:2*timeLen], 10, 64); err != nil {
		return r, errDamaged
	}
	if r.ExpiredAt(now) {
		return statestore.Record{}, nil
	}
	r.Deleted = value[headerLen-1] == 'd'
	r.Body = []byte(value[headerLen:])
	return r, nil
}

func appendEntry(dst []byte, e *statestore.Entry) []byte {
	dst = appendPadded(dst, e.Version, versionLen, 10)
	dst = appendPadded(dst, uint64(max(e.Time, 0)), timeLen, 10)
	return append(dst, e.Body...)
}

func parseEntry(value string) (statestore.Entry, error) {
	var e statestore.Entry
	if len(value) < entryLen {
		return e, errDamaged
	}
	var err error
	if e.Version, err = strconv.ParseUint(value[:versionLen], 10, 64); err != nil {
		return e, errDamaged
	}
	if e.Time, err = strconv.ParseInt(value[versionLen:entryLen], 10, 64); err != nil {
		return e, errDamaged
	}
	e.Body = []byte(value[entryLen:])
	return e, nil
}

// padded returns a version with leading zeros, so that the order of strings is
// the order of versions.
func padded(version uint64) string {
	var buf [versionLen]byte
	return string(appendPadded(buf[:0], version, versionLen, 10))
}

func appendPadded(dst []byte, n uint64, width, base int) []byte {
	var buf [versionLen]byte
	digits := strconv.AppendUint(buf[:0], n, base)
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}
