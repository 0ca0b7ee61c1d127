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
//	P:{B}:shadow:THING SHADOW  a shadow, a stream of its commits
//	P:{B}:shadows:THING        names of shadows that are not deleted, a sorted set
//	P:{B}:things               names of things that have any, a sorted set
//	P:{B}:outbox:NODE          marks of a node, a hash
//
// The id of a commit is the version after the one before it. Its fields: "v" the header of the record, "d" its body, and a
// version the history entry of that. The body is left out when history makes it of the body before, see bodyEvery.
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

func (k *keys) format() string { return k.prefix + ":format" }
func (k *keys) shadow(s statestore.Key) string {
	return k.tags[bucketOf(s.Thing)] + "shadow:" + nameOf(s)
}

func (k *keys) shadows(thing string) string { return k.tags[bucketOf(thing)] + "shadows:" + thing }
func (k *keys) things(bucket int) string    { return k.tags[bucket] + "things" }
func (k *keys) outbox(bucket int) string    { return k.tags[bucket] + "outbox:" + k.node }
func (k *keys) items() string               { return k.prefix + ":{mqtt-" + k.node + "}:" }
func (k *keys) puts() string                { return k.items() + "put" }
func (k *keys) partitions(space byte) string {
	return k.items() + strconv.Itoa(int(space))
}

func (k *keys) partition(space byte, name string) string { return k.partitions(space) + ":" + name }

// nameOf returns "thing shadow", or "thing" for the classic shadow.
func nameOf(k statestore.Key) string {
	if k.Shadow == "" {
		return k.Thing
	}
	return k.Thing + " " + k.Shadow
}

func cutName(s string) statestore.Key {
	thing, shadow, _ := strings.Cut(s, " ")
	return statestore.Key{Thing: thing, Shadow: shadow}
}

// Fields of a commit. The others are versions in decimal.
const (
	headerField = "v"
	bodyField   = "d"
)

// The header of a stored record has decimal numbers of fixed width, which scripts and people can
// read. So has the header of a history entry, which is its time.
const (
	versionLen = 20                         // decimal digits of a version
	timeLen    = 15                         // decimal digits of a time in ms
	idLen      = 16                         // hexadecimal digits of the id of a write
	startLen   = versionLen + timeLen + 1   // version, expires, '-' or 'd' for deleted
	headerLen  = startLen + timeLen + idLen // modified, id
)

// errDamaged is the cause of errors about values that this package cannot have written.
var errDamaged = errors.New("damaged value")

// appendStart appends the part of a header that tells which version a record is and whether it lives.
func appendStart(dst []byte, version uint64, expires int64, deleted bool) []byte {
	dst = appendPadded(dst, version, versionLen, 10)
	dst = appendPadded(dst, uint64(max(expires, 0)), timeLen, 10)
	if deleted {
		return append(dst, 'd')
	}
	return append(dst, '-')
}

// appendHeader appends the header of r. id names the write.
func appendHeader(dst []byte, r *statestore.Record, id uint64) []byte {
	dst = appendStart(dst, r.Version, r.Expires, r.Deleted)
	dst = appendPadded(dst, uint64(max(r.Modified, 0)), timeLen, 10)
	return appendPadded(dst, id, idLen, 16)
}

// parseHeader returns the record with this header, without its body, or the zero Record when
// there is none or it has expired.
func parseHeader(header string, now time.Time) (statestore.Record, error) {
	var r statestore.Record
	if header == "" {
		return r, nil
	}
	if len(header) != headerLen {
		return r, errDamaged
	}
	var err error
	if r.Version, err = strconv.ParseUint(header[:versionLen], 10, 64); err != nil {
		return r, errDamaged
	}
	if r.Expires, err = strconv.ParseInt(header[versionLen:startLen-1], 10, 64); err != nil {
		return r, errDamaged
	}
	if r.Modified, err = strconv.ParseInt(header[startLen:startLen+timeLen], 10, 64); err != nil {
		return r, errDamaged
	}
	if r.ExpiredAt(now) {
		return statestore.Record{}, nil
	}
	r.Deleted = header[startLen-1] == 'd'
	return r, nil
}

func appendEntry(dst []byte, e *statestore.Entry) []byte {
	return append(appendPadded(dst, uint64(max(e.Time, 0)), timeLen, 10), e.Body...)
}

func parseEntry(version uint64, value string) (statestore.Entry, error) {
	if len(value) < timeLen {
		return statestore.Entry{}, errDamaged
	}
	t, err := strconv.ParseInt(value[:timeLen], 10, 64)
	if err != nil {
		return statestore.Entry{}, errDamaged
	}
	return statestore.Entry{Version: version, Time: t, Body: []byte(value[timeLen:])}, nil
}

// appendPadded appends n with leading zeros, so that the order of strings is the order of numbers.
func appendPadded(dst []byte, n uint64, width, base int) []byte {
	var buf [versionLen]byte
	digits := strconv.AppendUint(buf[:0], n, base)
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}
