package objects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// revision is the key of the record whose version rises with every change of an object.
func revision() statestore.Key { return statestore.Key{Thing: "$objects", Shadow: "revision"} }

// page is how many objects are read from the store at a time.
const page = 256

// Watch calls fn with all objects of a kind, in byte order of their names: before it returns, and
// after every change of one of them. Calls come one after the other. fn must not change what it
// is given nor call methods of s.
func (s *Store) Watch(ctx context.Context, kind string, fn func([]Object)) error {
	if err := check(kind, "name"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.followed[kind]
	if f == nil {
		f = &followed{objects: map[string]Object{}}
	}
	if _, err := s.refresh(ctx, kind, f); err != nil {
		return err
	}
	s.followed[kind] = f
	f.watchers = append(f.watchers, fn)
	fn(f.sorted)
	return nil
}

// sort puts all objects into the order of their names.
func (f *followed) sort() {
	f.sorted = slices.SortedFunc(maps.Values(f.objects), func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
}

// set takes over an object.
func (f *followed) set(o Object) {
	i, replaces := f.find(o.Name)
	f.sorted = slices.Clone(f.sorted)
	if replaces {
		f.sorted[i] = o
	} else {
		f.sorted = slices.Insert(f.sorted, i, o)
	}
	f.objects[o.Name] = o
}

// remove forgets an object, which is there.
func (f *followed) remove(name string) {
	i, _ := f.find(name)
	f.sorted = slices.Delete(slices.Clone(f.sorted), i, i+1)
	delete(f.objects, name)
}

func (f *followed) find(name string) (int, bool) {
	return slices.BinarySearchFunc(f.sorted, name, func(o Object, name string) int { return strings.Compare(o.Name, name) })
}

// Run follows the changes of other nodes until ctx ends, and then returns nil. Without it only
// changes by this node are seen, which are all if the store is not shared.
func (s *Store) Run(ctx context.Context) error {
	if !s.store.Shared() {
		<-ctx.Done()
		return nil
	}
	poll, resync := time.NewTicker(s.poll), time.NewTicker(s.resync)
	defer poll.Stop()
	defer resync.Stop()
	failed := false
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			err = s.follow(ctx, false)
		case <-resync.C:
			err = s.follow(ctx, true)
		}
		if err != nil && !failed && ctx.Err() == nil {
			s.log.Warn("cannot see changes of other nodes", "error", err)
		}
		failed = err != nil
	}
}

// follow takes over what other nodes have changed. It bounds the time that the store may take.
func (s *Store) follow(ctx context.Context, complete bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.resync)
	defer cancel()
	r, err := s.record(ctx, revision())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Version == s.seen && !complete {
		return nil
	}
	var errs []error
	for kind := range s.followed {
		errs = append(errs, s.update(ctx, kind))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.seen = r.Version
	return nil
}

// changed tells this node and the others of a change. Where the others cannot be told they see
// it with their next complete look.
func (s *Store) changed(ctx context.Context, kind, name string) error {
	if s.store.Shared() {
		if err := s.bump(ctx); err != nil {
			s.log.Warn("other nodes see a change late", "kind", kind, "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.followed[kind]
	if f == nil {
		return nil
	}
	fresh, err := s.load(ctx, kind, []string{name}) // not what was written: somebody may have been faster
	if err != nil {
		return err
	}
	switch was, followed := f.objects[name]; {
	case len(fresh) == 0 && !followed, len(fresh) == 1 && fresh[0].Version == was.Version:
		return nil
	case len(fresh) == 0:
		f.remove(name)
	default:
		f.set(fresh[0])
	}
	f.tell()
	return nil
}

// tell calls the watchers. The mu of the store is held.
func (f *followed) tell() {
	for _, fn := range f.watchers {
		fn(f.sorted)
	}
}

// bump raises the revision.
func (s *Store) bump(ctx context.Context) error {
	for range attempts {
		r, err := s.record(ctx, revision())
		if err != nil {
			return err
		}
		w := statestore.Write{Key: revision(), Expect: r.Version, Record: statestore.Record{
			Version: r.Version + 1, Modified: s.now().UnixMilli(), Body: []byte("{}"),
		}}
		err = errors.Join(s.store.Commit(ctx, []statestore.Write{w})...)
		if !errors.Is(err, statestore.ErrConflict) {
			return err //nolint:wrapcheck // changed says what for
		}
	}
	return fmt.Errorf("objects: revision: %w", ErrConflict)
}

// update reads a kind again, if it is followed, and tells its watchers. mu is held.
func (s *Store) update(ctx context.Context, kind string) error {
	f := s.followed[kind]
	if f == nil {
		return nil
	}
	changed, err := s.refresh(ctx, kind, f)
	if err != nil || !changed {
		return err
	}
	f.tell()
	return nil
}

// refresh reads the objects of a kind that have changed and reports whether there are any. mu is held.
func (s *Store) refresh(ctx context.Context, kind string, f *followed) (changed bool, err error) {
	versions := map[string]uint64{}
	for after := ""; ; {
		infos, err := s.store.Shadows(ctx, thingOf(kind), after, false, page)
		if err != nil {
			return false, fmt.Errorf("objects: list %s: %w", kind, err)
		}
		for _, in := range infos {
			versions[in.Shadow], after = in.Version, in.Shadow
		}
		if len(infos) < page {
			break
		}
	}
	var stale []string
	for name, version := range versions {
		if f.objects[name].Version != version {
			stale = append(stale, name)
		}
	}
	fresh, err := s.load(ctx, kind, stale)
	if err != nil {
		return false, err
	}
	for name := range f.objects {
		if _, ok := versions[name]; !ok {
			delete(f.objects, name)
			changed = true
		}
	}
	for _, o := range fresh {
		f.objects[o.Name] = o
	}
	if changed = changed || len(fresh) > 0; changed {
		f.sort()
	}
	return changed, nil
}

// load reads objects; those that are not there are left out.
func (s *Store) load(ctx context.Context, kind string, names []string) ([]Object, error) {
	var list []Object
	for part := range slices.Chunk(names, page) {
		keys := make([]statestore.Key, len(part))
		for i, name := range part {
			keys[i] = statestore.Key{Thing: thingOf(kind), Shadow: name}
		}
		records, err := s.store.Load(ctx, keys)
		if err != nil {
			return nil, fmt.Errorf("objects: load %s: %w", kind, err)
		}
		for i, r := range records {
			if r.Version == 0 || r.Deleted {
				continue
			}
			var v stored
			if err := json.Unmarshal(r.Body, &v); err != nil {
				return nil, fmt.Errorf("objects: load %s %q: %w", kind, part[i], err)
			}
			list = append(list, Object{
				Kind: kind, Name: part[i], Version: r.Version, Modified: r.Modified, Author: v.Author, Body: v.Body,
			})
		}
	}
	return list, nil
}

// record reads one record.
func (s *Store) record(ctx context.Context, key statestore.Key) (statestore.Record, error) {
	records, err := s.store.Load(ctx, []statestore.Key{key})
	if err != nil {
		return statestore.Record{}, fmt.Errorf("objects: load: %w", err)
	}
	return records[0], nil
}
