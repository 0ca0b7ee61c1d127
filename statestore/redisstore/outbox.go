package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/umbra-iot/umbra/statestore"
)

const (
	// flushEvery is how long marks that can go may wait for a commit that takes them along.
	flushEvery = time.Second
	// takeMost bounds how many of them go along with a group of writes.
	takeMost = 128
	// outboxMany is the number of waiting marks that are removed though no commit comes.
	outboxMany = 4096
)

// outbox knows the marks of this node. In Redis, one mark stands for a group of writes; it goes
// after the last of them was announced, with a later group.
//
// A mark is a field of the node's outbox in a bucket. Its value has a line for each shadow: first
// version, last version, name.
type outbox struct {
	mu    sync.Mutex // guards what follows
	due   map[statestore.Key]*due
	gone  [buckets][]string // fields of marks that can go
	count int               // of them
}

// mark is a mark in Redis.
type mark struct {
	bucket int
	field  string
	open   int // shadows it still stands for
}

// due is what a mark says about one shadow.
type due struct {
	key         statestore.Key
	first, last uint64 // versions that are not announced yet
	mark        *mark
	next        *due // of the same shadow
}

// add makes marks of what it is given, which all belong to m.
func (o *outbox) add(m *mark, list []due) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m.open = len(list)
	for i := range list {
		d := &list[i]
		d.mark, d.next = m, o.due[d.key]
		o.due[d.key] = d
	}
}

// announced notes that versions of a shadow below the given one need not be announced any more.
func (o *outbox) announced(key statestore.Key, below uint64) {
	o.remove(key, func(d *due) bool {
		d.first = max(d.first, below)
		return d.first > d.last
	})
}

// undone notes that a write that m stands for was not done.
func (o *outbox) undone(key statestore.Key, m *mark) {
	o.remove(key, func(d *due) bool { return d.mark == m })
}

func (o *outbox) remove(key statestore.Key, goes func(*due) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var kept *due
	for d := o.due[key]; d != nil; {
		next := d.next
		if goes(d) {
			o.release(d.mark)
		} else {
			d.next, kept = kept, d
		}
		d = next
	}
	if kept == nil {
		delete(o.due, key)
	} else {
		o.due[key] = kept
	}
}

// release takes one shadow off a mark. o.mu is held.
func (o *outbox) release(m *mark) {
	m.open--
	if m.open == 0 {
		o.gone[m.bucket] = append(o.gone[m.bucket], m.field)
		o.count++
	}
}

// waiting returns how many marks can go.
func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}

// take returns fields of marks of a bucket that can go; they wait no longer.
func (o *outbox) take(bucket int) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	fields := o.gone[bucket]
	n := min(len(fields), takeMost)
	o.gone[bucket] = fields[n:]
	if n == len(fields) {
		o.gone[bucket] = nil
	}
	o.count -= n
	return fields[:n:n]
}

// putBack lets fields that were taken wait again.
func (o *outbox) putBack(bucket int, fields []string) {
	if len(fields) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone[bucket] = append(o.gone[bucket], fields...)
	o.count += len(fields)
}

// marks returns the lowest version of each shadow that is not announced.
func (o *outbox) marks() []statestore.Mark {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]statestore.Mark, 0, len(o.due))
	for key, d := range o.due {
		first := d.first
		for ; d != nil; d = d.next {
			first = min(first, d.first)
		}
		list = append(list, statestore.Mark{Key: key, Version: first})
	}
	return list
}

// Announced implements statestore.Store. It reaches Redis with a later commit,
// or within about a second.
func (s *Store) Announced(ctx context.Context, marks []statestore.Mark) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	for _, m := range marks {
		s.outbox.announced(m.Key, m.Version)
	}
	if s.outbox.waiting() < outboxMany {
		return nil
	}
	return s.flushOutbox(ctx)
}

// flushOutbox removes the marks that can go.
func (s *Store) flushOutbox(ctx context.Context) error {
	for b := range buckets {
		for fields := s.outbox.take(b); len(fields) > 0; fields = s.outbox.take(b) {
			err := s.retry(ctx, func() error { return s.client.HDel(ctx, s.keys.outbox(b), fields...).Err() })
			if err != nil {
				s.outbox.putBack(b, fields)
				return s.failure("announced", err)
			}
		}
	}
	return nil
}

// Unannounced implements statestore.Store.
func (s *Store) Unannounced(ctx context.Context, fn func(statestore.Mark) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	for _, m := range s.outbox.marks() {
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// loadOutbox reads the marks that an earlier run of this node has left.
func (s *Store) loadOutbox(ctx context.Context) error {
	replies := make([]*redis.MapStringStringCmd, buckets)
	err := s.read(ctx, "read the outbox", func(p redis.Pipeliner) {
		for b := range replies {
			replies[b] = p.HGetAll(ctx, s.keys.outbox(b))
		}
	})
	if err != nil {
		return err
	}
	for b, reply := range replies {
		for field, value := range reply.Val() {
			list, err := parseMark(value)
			if err != nil {
				return fmt.Errorf("mark %q of the outbox: %w", field, err)
			}
			s.outbox.add(&mark{bucket: b, field: field}, list)
		}
	}
	return nil
}

// appendDue appends the line of a mark about one shadow.
func appendDue(dst []byte, d *due, name string) []byte {
	dst = append(strconv.AppendUint(dst, d.first, 10), ' ')
	dst = append(strconv.AppendUint(dst, d.last, 10), ' ')
	return append(append(dst, name...), '\n')
}

func parseMark(value string) ([]due, error) {
	var list []due
	for line := range strings.Lines(value) {
		first, rest, _ := strings.Cut(line, " ")
		last, name, _ := strings.Cut(rest, " ")
		d := due{key: cutName(strings.TrimSuffix(name, "\n"))}
		var err error
		if d.first, err = strconv.ParseUint(first, 10, 64); err != nil {
			return nil, errDamaged
		}
		if d.last, err = strconv.ParseUint(last, 10, 64); err != nil {
			return nil, errDamaged
		}
		list = append(list, d)
	}
	if len(list) == 0 {
		return nil, errDamaged
	}
	return list, nil
}
