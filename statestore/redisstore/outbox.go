package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/umbra-iot/umbra/statestore"
)

const (
	// flushEvery is how long announcements may wait for a commit to go along with.
	flushEvery = time.Second
	// takeMost bounds how many of them go along with one write.
	takeMost = 128
	// outboxMany is the number of waiting announcements that are sent though no
	// commit comes.
	outboxMany = 4096
)

// outbox collects marks to move, which go to Redis with a later write of their bucket.
type outbox struct {
	mu      sync.Mutex // guards what follows
	waiting [buckets][]statestore.Mark
	count   int
}

// add lets marks wait and returns how many do.
func (o *outbox) add(marks []statestore.Mark) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range marks {
		b := bucketOf(m.Key.Thing)
		o.waiting[b] = append(o.waiting[b], m)
	}
	o.count += len(marks)
	return o.count
}

// take returns marks of a bucket; they wait no longer.
func (o *outbox) take(bucket int) []statestore.Mark {
	o.mu.Lock()
	defer o.mu.Unlock()
	marks := o.waiting[bucket]
	n := min(len(marks), takeMost)
	o.waiting[bucket] = marks[n:]
	if n == len(marks) {
		o.waiting[bucket] = nil
	}
	o.count -= n
	return marks[:n:n]
}

// Announced implements statestore.Store. It reaches Redis with a later commit,
// or within about a second.
func (s *Store) Announced(ctx context.Context, marks []statestore.Mark) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	if s.outbox.add(marks) < outboxMany {
		return nil
	}
	return s.flushOutbox(ctx)
}

// flushOutbox sends the announcements that wait.
func (s *Store) flushOutbox(ctx context.Context) error {
	for b := range buckets {
		for marks := s.outbox.take(b); len(marks) > 0; marks = s.outbox.take(b) {
			err := s.retry(ctx, func() error { return s.sendAnnounced(ctx, b, marks) })
			if err != nil {
				s.outbox.add(marks)
				return s.failure("announced", err)
			}
		}
	}
	return nil
}

// sendAnnounced can be repeated without harm.
func (s *Store) sendAnnounced(ctx context.Context, bucket int, marks []statestore.Mark) error {
	key := []string{s.keys.outbox(bucket)}
	args := appendMarks(nil, marks)
	err := s.client.EvalSha(ctx, s.announced.sha, key, args...).Err()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = s.client.Eval(ctx, s.announced.source, key, args...).Err()
	}
	return err
}

// appendMarks appends the arguments that scripts take for marks.
func appendMarks(args []any, marks []statestore.Mark) []any {
	for _, m := range marks {
		args = append(args, field(m.Key), padded(m.Version))
	}
	return args
}

// Unannounced implements statestore.Store.
func (s *Store) Unannounced(ctx context.Context, fn func(statestore.Mark) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.flushOutbox(ctx); err != nil {
		return err
	}
	replies := make([]*redis.MapStringStringCmd, buckets)
	err := s.read(ctx, "read the outbox", func(p redis.Pipeliner) {
		for b := range replies {
			replies[b] = p.HGetAll(ctx, s.keys.outbox(b))
		}
	})
	if err != nil {
		return err
	}
	for _, reply := range replies {
		for name, value := range reply.Val() {
			if len(value) != 2*versionLen {
				return fmt.Errorf("redisstore: outbox mark of %q: %w", name, errDamaged)
			}
			version, err := strconv.ParseUint(value[:versionLen], 10, 64)
			if err != nil {
				return fmt.Errorf("redisstore: outbox mark of %q: %w", name, errDamaged)
			}
			if err := fn(statestore.Mark{Key: cutField(name), Version: version}); err != nil {
				return err
			}
		}
	}
	return nil
}
