// Package objects keeps what operators configure while the service runs:
// policies, attachments, users, keys. An object has a kind, a name, a version
// that rises by one with each change, and a JSON body.
//
// Objects are records of the same [statestore.Store] as shadows, so they are as
// durable, have a history, and are shared by all nodes of a shared store. The
// kind takes the place of the thing, with a "$" before it, which the name of no
// real thing has; the name takes that of the shadow.
//
// Who follows a kind with [Store.Watch] has its objects in memory. A change by
// this node is in force when Put or Delete returns; one by another node within
// Options.Poll, because [Store.Run] looks at a record whose version rises with
// every change of any object. A node that ends between the change and that
// record is made up for by a complete look every Options.Resync.
package objects

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// Errors that callers may test for with errors.Is.
var (
	// ErrNotFound says that there is no such object.
	ErrNotFound = errors.New("objects: not found")
	// ErrConflict says that the object does not have the version that the change was for. Nothing was changed.
	ErrConflict = errors.New("objects: version conflict")
	// ErrInvalid says that a kind, name or body is not possible.
	ErrInvalid = errors.New("objects: invalid")
)

// Any stands for whatever version there is, also none.
const Any = math.MaxUint64

// Limits of objects.
const (
	MaxNameBytes = 256
	MaxBodyBytes = 64 << 10
)

// Defaults of Options.
const (
	DefaultPoll   = 500 * time.Millisecond
	DefaultResync = 30 * time.Second
)

// tombstoneAge is how long the version of a deleted object is remembered: one of the same name goes on from it.
const tombstoneAge = 48 * time.Hour

// Object is one object.
type Object struct {
	Kind     string // a-z and "-"
	Name     string // 1 to MaxNameBytes bytes, none below 0x21
	Version  uint64 // at least 1
	Modified int64  // ms since the epoch
	Author   string // ID of the principal that made this version, "" when nobody was authenticated
	Body     json.RawMessage
}

// Revision is a version that an object had, or its end.
type Revision struct {
	Object
	Deleted bool // Body is empty
}

// Options of a Store. Objects is required.
type Options struct {
	Objects statestore.Store
	Log     *slog.Logger     // default: discards
	Now     func() time.Time // default time.Now
	Poll    time.Duration    // between two looks whether another node has changed something; default 500 ms
	Resync  time.Duration    // between two complete looks; default 30 s
}

// Store keeps objects. All methods may be called at the same time.
type Store struct {
	store  statestore.Store
	log    *slog.Logger
	now    func() time.Time
	poll   time.Duration
	resync time.Duration

	mu       sync.Mutex // held while watchers are called; guards what follows
	followed map[string]*followed
	seen     uint64 // version of the revision record
}

// followed is a kind that is kept in memory.
type followed struct {
	objects  map[string]Object
	sorted   []Object // the same in the order of their names; watchers may keep it: it is replaced, not changed
	watchers []func([]Object)
}

// New returns the objects of a store.
func New(o Options) *Store {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{
		store: o.Objects, log: o.Log, now: o.Now, followed: map[string]*followed{},
		poll: cmp.Or(o.Poll, DefaultPoll), resync: cmp.Or(o.Resync, DefaultResync),
	}
}

// Get returns an object as it is stored now, or ErrNotFound.
func (s *Store) Get(ctx context.Context, kind, name string) (Object, error) {
	if err := check(kind, name); err != nil {
		return Object{}, err
	}
	found, err := s.load(ctx, kind, []string{name})
	switch {
	case err != nil:
		return Object{}, err
	case len(found) == 0:
		return Object{}, fmt.Errorf("%w: %s %q", ErrNotFound, kind, name)
	}
	return found[0], nil
}

// List returns up to limit objects as they are stored now, in byte order of their names, after the name after.
func (s *Store) List(ctx context.Context, kind, after string, limit int) ([]Object, error) {
	infos, err := s.store.Shadows(ctx, thingOf(kind), after, false, limit)
	if err != nil {
		return nil, fmt.Errorf("objects: list %s: %w", kind, err)
	}
	names := make([]string, len(infos))
	for i := range infos {
		names[i] = infos[i].Shadow
	}
	return s.load(ctx, kind, names)
}

// Put stores o, whose Version, Modified and Author it sets, in place of the version expect: 0 for
// a new object, Any for whatever is there. It returns what is stored, or ErrConflict or ErrInvalid.
func (s *Store) Put(ctx context.Context, o Object, expect uint64, author string) (Object, error) {
	if err := check(o.Kind, o.Name); err != nil {
		return Object{}, err
	}
	if len(o.Body) > MaxBodyBytes || !json.Valid(o.Body) {
		return Object{}, fmt.Errorf("%w: body of %s %q is no JSON of at most %d bytes", ErrInvalid, o.Kind, o.Name, MaxBodyBytes)
	}
	return s.change(ctx, o, expect, author, false)
}

// Delete removes an object of the version expect, or of Any. It returns ErrNotFound or ErrConflict.
func (s *Store) Delete(ctx context.Context, kind, name string, expect uint64, author string) error {
	if err := check(kind, name); err != nil {
		return err
	}
	_, err := s.change(ctx, Object{Kind: kind, Name: name}, expect, author, true)
	return err
}

// attempts bounds how often a change is tried again after another one was faster.
const attempts = 16

func (s *Store) change(ctx context.Context, o Object, expect uint64, author string, remove bool) (Object, error) {
	key := statestore.Key{Thing: thingOf(o.Kind), Shadow: o.Name}
	for range attempts {
		old, err := s.record(ctx, key)
		if err != nil {
			return Object{}, err
		}
		current := old.Version
		if old.Deleted {
			current = 0
		}
		switch {
		case remove && current == 0:
			return Object{}, fmt.Errorf("%w: %s %q", ErrNotFound, o.Kind, o.Name)
		case expect != Any && expect != current:
			return Object{}, fmt.Errorf("%w: %s %q has version %d", ErrConflict, o.Kind, o.Name, current)
		}
		o.Version, o.Modified, o.Author = old.Version+1, s.now().UnixMilli(), author
		err = s.write(ctx, key, old.Version, o, remove)
		if errors.Is(err, statestore.ErrConflict) {
			continue
		}
		if err != nil {
			return Object{}, fmt.Errorf("objects: change %s %q: %w", o.Kind, o.Name, err)
		}
		return o, s.changed(ctx, o.Kind, o.Name)
	}
	return Object{}, fmt.Errorf("%w: %s %q changes all the time", ErrConflict, o.Kind, o.Name)
}

// stored is the body of a record and of a history entry.
type stored struct {
	Author  string          `json:"author,omitempty"`
	Deleted bool            `json:"deleted,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
}

func (s *Store) write(ctx context.Context, key statestore.Key, before uint64, o Object, remove bool) error {
	body, err := json.Marshal(stored{Author: o.Author, Deleted: remove, Body: o.Body})
	if err != nil {
		return err //nolint:wrapcheck // change says which object
	}
	w := statestore.Write{
		Key: key, Expect: before,
		Record:  statestore.Record{Version: o.Version, Modified: o.Modified, Body: body},
		History: []statestore.Entry{{Version: o.Version, Time: o.Modified, Body: body}},
	}
	if remove {
		w.Record.Deleted, w.Record.Expires = true, s.now().Add(tombstoneAge).UnixMilli()
	}
	return errors.Join(s.store.Commit(ctx, []statestore.Write{w})...)
}

// History returns up to limit versions that an object had, rising, above the version after.
func (s *Store) History(ctx context.Context, kind, name string, after uint64, limit int) ([]Revision, error) {
	if err := check(kind, name); err != nil {
		return nil, err
	}
	entries, err := s.store.History(ctx, statestore.Key{Thing: thingOf(kind), Shadow: name}, after, limit)
	if err != nil {
		return nil, fmt.Errorf("objects: history of %s %q: %w", kind, name, err)
	}
	list := make([]Revision, len(entries))
	for i, e := range entries {
		var v stored
		if err := json.Unmarshal(e.Body, &v); err != nil {
			return nil, fmt.Errorf("objects: history of %s %q: %w", kind, name, err)
		}
		list[i] = Revision{Deleted: v.Deleted, Object: Object{
			Kind: kind, Name: name, Version: e.Version, Modified: e.Time, Author: v.Author, Body: v.Body,
		}}
	}
	return list, nil
}

// thingOf is where the objects of a kind are stored.
func thingOf(kind string) string { return "$" + kind }

// check finds kinds and names that are not possible.
func check(kind, name string) error {
	letter := func(c rune) bool { return c >= 'a' && c <= 'z' || c == '-' }
	if kind == "" || slices.ContainsFunc([]rune(kind), func(c rune) bool { return !letter(c) }) {
		return fmt.Errorf("%w: kind %q", ErrInvalid, kind)
	}
	if name == "" || len(name) > MaxNameBytes {
		return fmt.Errorf("%w: a name of a %s has 1 to %d bytes", ErrInvalid, kind, MaxNameBytes)
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] == 0x7F {
			return fmt.Errorf("%w: name %q of a %s has spaces or control characters", ErrInvalid, name, kind)
		}
	}
	return nil
}
