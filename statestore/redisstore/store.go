// Package redisstore keeps shadows in Redis, where several nodes can share
// them: a single server, one behind Sentinel, or a Redis Cluster.
//
// Durability: that of the server's settings; Report says what they promise. A
// shadow is a stream, and a write one entry of it, so Redis does it whole or not
// at all; all writes of a commit are one round trip. Commands are sent again after
// a lost connection, while Redis loads its data or fails over, as long as the
// caller's deadline allows; a write is recognised if it arrives twice.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/umbra-iot/umbra/statestore"
)

// Store is a statestore.Store in Redis.
type Store struct {
	options statestore.Options
	keys    *keys
	client  redis.UniversalClient
	cluster bool // client speaks to a Redis Cluster
	write   script
	put     script
	puts    atomic.Uint64 // number of the last Put
	writeID atomic.Uint64 // id of the last write; begins at random, so that nodes differ
	outbox  outbox

	connected *atomic.Int64 // when the newest connection was made, ms since the epoch

	sweepMu sync.Mutex // guards swept
	swept   time.Time  // when old history was last looked for

	down   atomic.Bool // the last operation failed for want of Redis: do not wait for it again
	closed atomic.Bool

	stop       chan struct{} // closed by Close
	background sync.WaitGroup
}

var _ statestore.Store = (*Store)(nil)

func newStore(client redis.UniversalClient, connected *atomic.Int64, o statestore.Options, k *keys) *Store {
	s := &Store{
		options:   o,
		keys:      k,
		client:    client,
		connected: connected,
		outbox:    outbox{due: map[statestore.Key]*due{}},
		write:     newScript(writeSource),
		put:       newScript(putSource),
		stop:      make(chan struct{}),
	}
	_, s.cluster = client.(*redis.ClusterClient)
	s.writeID.Store(rand.Uint64())
	return s
}

// Load implements statestore.Store.
func (s *Store) Load(ctx context.Context, keys []statestore.Key) ([]statestore.Record, error) {
	records := make([]statestore.Record, len(keys))
	if len(keys) == 0 {
		return records, s.begin(ctx)
	}
	replies := make([]*redis.XMessageSliceCmd, len(keys))
	err := s.read(ctx, "load", func(p redis.Pipeliner) {
		for i, k := range keys {
			replies[i] = p.XRevRangeN(ctx, s.keys.shadow(k), "+", "-", bodyEvery)
		}
	})
	if err != nil {
		return nil, err
	}
	now := s.options.Now()
	for i, reply := range replies {
		records[i], err = s.parseRecord(reply.Val(), now)
		if errors.Is(err, errNoBody) {
			records[i], err = s.loadFar(ctx, keys[i], now)
		}
		if err != nil {
			return nil, damaged("record", keys[i], err)
		}
	}
	return records, nil
}

// loadFar is Load for a record whose last body is further back than usual: Redis has lost the versions that had one.
func (s *Store) loadFar(ctx context.Context, key statestore.Key, now time.Time) (statestore.Record, error) {
	var reply *redis.XMessageSliceCmd
	err := s.read(ctx, "load", func(p redis.Pipeliner) { reply = p.XRevRange(ctx, s.keys.shadow(key), "+", "-") })
	if err != nil {
		return statestore.Record{}, err
	}
	return s.parseRecord(reply.Val(), now)
}

// Shared implements statestore.Store: other nodes use the same Redis.
func (s *Store) Shared() bool { return true }

// Ping implements statestore.Store.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.client.Ping(ctx).Err(); err != nil {
		return s.failure("ping", err)
	}
	s.down.Store(false)
	return nil
}

// Close implements statestore.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	close(s.stop)
	s.background.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), ioTimeout)
	defer cancel()
	// What cannot be noted as announced is announced again by the next run.
	_ = s.flushOutbox(ctx)
	if err := s.client.Close(); err != nil {
		return fmt.Errorf("redisstore: close: %w", err)
	}
	return nil
}

// begin checks what every method has to.
func (s *Store) begin(ctx context.Context) error {
	if s.closed.Load() {
		return statestore.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("redisstore: %w", err)
	}
	return nil
}

// failure adds what failed to err.
func (s *Store) failure(what string, err error) error {
	if errors.Is(err, redis.ErrClosed) {
		return statestore.ErrClosed
	}
	return fmt.Errorf("redisstore: %s: %w", what, err)
}

// read sends the commands that queue puts in a pipeline until they are answered.
// A reply of nil is an answer.
func (s *Store) read(ctx context.Context, what string, queue func(redis.Pipeliner)) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	err := s.retry(ctx, func() error {
		pipe := s.client.Pipeline()
		queue(pipe)
		commands, err := pipe.Exec(ctx)
		if err == nil || !errors.Is(err, redis.Nil) {
			return err
		}
		// The first error is a nil, there may be others.
		i := slices.IndexFunc(commands, func(c redis.Cmder) bool { return c.Err() != nil && !errors.Is(c.Err(), redis.Nil) })
		if i < 0 {
			return nil
		}
		return commands[i].Err()
	})
	if err != nil {
		return s.failure(what, err)
	}
	return nil
}

// flushIdle sends announcements that no commit takes along, until stop.
func (s *Store) flushIdle() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), ioTimeout)
		_ = s.flushOutbox(ctx) // what was not sent waits for the next time
		cancel()
	}
}
