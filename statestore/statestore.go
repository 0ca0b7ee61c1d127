// Package statestore is the contract of Umbra's storage. It is small because
// it is about the needs of its two users, not a general key-value store. For
// shadows there are versioned records that are replaced by compare-and-set,
// their history, and a mark that says which versions still have to be
// announced. For the MQTT server there are [Items], which it writes while it
// runs and reads when it starts.
//
// Implementations are memstore, pebblestore and redisstore; package storetest
// holds all of them to this contract.
//
// # Rules for every implementation
//
//   - Durability: when Commit or Put returns, every write it reports as done survives
//     whatever the store promises to survive (its package documentation says what).
//   - Atomicity: a Write is done whole (record, history, outbox mark) or not at all.
//     Different writes of one Commit are independent of each other. A Put is done whole.
//   - Order: a Load that begins after a Commit returned sees it.
//   - Aliasing: a store keeps no slice that it was given and returns none that it keeps.
//   - Concurrency: all methods may be called at the same time.
//   - Deadline: a method returns soon after its context ends. A write whose outcome is
//     then unknown is reported as an error that is not ErrConflict: it may or may not
//     have been done, and a later Load tells.
package statestore

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// Errors that callers may test for with errors.Is.
var (
	// ErrConflict is the result of a write whose Expect is not the stored version.
	// The write was not done.
	ErrConflict = errors.New("statestore: version conflict")
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("statestore: closed")
)

// Defaults of Options.
const (
	DefaultHistoryLimit = 100
	DefaultHistoryAge   = 7 * 24 * time.Hour
)

// Options are common to all stores. The zero value means the defaults.
type Options struct {
	HistoryLimit int              // versions that the history of a shadow reaches back; default 100, negative keeps none
	HistoryAge   time.Duration    // age from which entries may go; default 7 days
	Now          func() time.Time // default time.Now

	// Redo returns the body of the record after base that entries, the history entries since, have made. A store may
	// then keep no body for a Write that is Redoable. Default nil: bodies are always kept.
	Redo func(base Record, entries []Entry) (body []byte, err error)
}

// WithDefaults returns o with the defaults in place of zero values. A negative HistoryLimit becomes 0.
func (o Options) WithDefaults() Options {
	o.HistoryLimit = max(cmp.Or(o.HistoryLimit, DefaultHistoryLimit), 0)
	o.HistoryAge = cmp.Or(o.HistoryAge, DefaultHistoryAge)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Key names a shadow. Shadow is "" for the classic one. Neither name has a byte below 0x21.
type Key struct {
	Thing, Shadow string
}

// Record is the stored form of one shadow.
type Record struct {
	Version  uint64 // of the shadow, at least 1; 0 in an answer of Load means: no record
	Deleted  bool   // a tombstone: not listed, but loaded
	Modified int64  // ms since the epoch
	Expires  int64  // of a tombstone: ms since the epoch from which the shadow counts as absent, history too; else 0
	Body     []byte // opaque
}

// ExpiredAt reports whether r counts as absent at now.
func (r *Record) ExpiredAt(now time.Time) bool {
	return r.Expires != 0 && r.Expires <= now.UnixMilli()
}

// Entry is one entry of a shadow's history.
type Entry struct {
	Version uint64
	Time    int64  // ms since the epoch
	Body    []byte // opaque
}

// Write replaces the record of one shadow.
type Write struct {
	Key      Key
	Expect   uint64  // version that must be stored now; 0: no record (or an expired one)
	Record   Record  // its Version is above Expect
	History  []Entry // appended; versions above Expect, rising, up to that of Record
	Announce uint64  // lowest version not yet announced: kept as the shadow's outbox mark unless a lower one stands; 0 leaves the mark alone

	// Redoable says that Options.Redo makes the record of that of Expect, which lives, and History, which has an entry
	// for each version. Seen is when Expect was last known to be the stored version, in ms since the epoch: not so long ago
	// that a tombstone since then can have expired, since version numbers may have begun again.
	Redoable bool
	Seen     int64
}

// Mark says that versions from Version on of a shadow have to be announced
// (in answers of Unannounced) or that all below Version have been (for Announced).
type Mark struct {
	Key     Key
	Version uint64
}

// Info describes a shadow in a list.
type Info struct {
	Shadow   string
	Version  uint64
	Modified int64 // ms since the epoch
}

// Item is one entry of the MQTT server's state: sessions, retained messages. Items with the same
// Space and Partition belong together and are ordered by Key.
type Item struct {
	Space     byte
	Partition string // without zero bytes
	Key       []byte // nil, together with a nil Value, stands for all items of the partition
	Value     []byte // opaque; nil deletes the item
}

// Items keeps items. Each node of a shared store has its own.
type Items interface {
	// Put does what items say, one after the other, all or nothing. The same Put may be repeated
	// after a failure: it is done then, whether or not it was before, and what a failed one left on
	// its way never takes effect after a later one. Put is not called concurrently with itself.
	Put(ctx context.Context, items []Item) error

	// Get returns the values of items of one partition, in the order of keys; nil where there is none.
	Get(ctx context.Context, space byte, partition string, keys [][]byte) ([][]byte, error)

	// Scan calls fn for the items of a space, one partition after the other and in byte order of
	// keys within each, until fn fails. fn must not change what it is given, which is valid only
	// until it returns, nor call methods of the store.
	Scan(ctx context.Context, space byte, fn func(Item) error) error
}

// Store keeps shadows, and items for the MQTT server.
type Store interface {
	Items

	// Load returns the records of keys, in their order; Version 0 where there is none.
	Load(ctx context.Context, keys []Key) ([]Record, error)

	// Commit does the writes, each by itself. errs is nil when all are done, else it has one
	// error for each write (nil, ErrConflict, or why its outcome is failure or unknown).
	// A batch has at most one write per key.
	Commit(ctx context.Context, writes []Write) (errs []error)

	// Announced moves outbox marks forward: everything below Mark.Version was announced.
	// A mark goes when that is above the version that its shadow got by the last Write with
	// an Announce. It need not be durable at once: after a crash a version may be announced again.
	Announced(ctx context.Context, marks []Mark) error

	// Unannounced calls fn for every outbox mark of this node, until fn fails. fn may call
	// other methods of the store.
	Unannounced(ctx context.Context, fn func(Mark) error) error

	// Things returns up to limit names of things with at least one shadow that is not deleted, in
	// byte order, that begin with prefix and come after the name after ("" is the start).
	// Fewer than limit names mean the end of the list.
	Things(ctx context.Context, prefix, after string, limit int) ([]string, error)

	// Shadows returns up to limit shadows of a thing that are not deleted, in byte order of
	// their names (the classic one, "", is first), that come after the name after.
	// first is true for the start of the list (so that "" itself is in it).
	// Fewer than limit shadows mean the end of the list.
	Shadows(ctx context.Context, thing, after string, first bool, limit int) ([]Info, error)

	// History returns up to limit entries of a shadow with versions above after, rising.
	// It reaches back Options.HistoryLimit versions from that of the record.
	History(ctx context.Context, key Key, after uint64, limit int) ([]Entry, error)

	// Sweep removes what has expired. It is called now and then, and may be a no-op.
	Sweep(ctx context.Context) error

	// Shared reports whether other processes may write to the same store, so that a document
	// kept in memory may be out of date.
	Shared() bool

	// Ping reports whether the store can answer now.
	Ping(ctx context.Context) error

	// Close releases the store. Commits that were acknowledged stay. A second Close does nothing.
	Close() error
}
