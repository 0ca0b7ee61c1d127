package things

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
)

// Defaults of Options.
const (
	DefaultCacheBytes    = 64 << 20
	DefaultCommitTimeout = 5 * time.Second
	DefaultTombstoneAge  = 48 * time.Hour
)

// Options of a Service. Store and Publisher are required.
type Options struct {
	Store         statestore.Store
	Publisher     Publisher
	Changed       func(shadow.ID, shadow.Author, *shadow.Change) // is told of each change that is stored, before its messages; may be nil
	Limits        shadow.Limits
	Quota         Quota
	NamedShadows  int              // named shadows that a thing may have, further ones are refused with code 429; 0 is no limit
	Log           *slog.Logger     // default: discards
	Now           func() time.Time // default time.Now
	CacheBytes    int64            // memory for cached documents; default 64 MiB
	CommitTimeout time.Duration    // of one commit or load; default 5 s
	TombstoneAge  time.Duration    // how long a deleted shadow keeps its version; default 48 h
	Workers       int              // batches under way at once; default 2 for each CPU, and 2 for a store that others share
}

func (o *Options) setDefaults() {
	if o.Changed == nil {
		o.Changed = func(shadow.ID, shadow.Author, *shadow.Change) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.CommitTimeout == 0 {
		o.CommitTimeout = DefaultCommitTimeout
	}
	if o.TombstoneAge == 0 {
		o.TombstoneAge = DefaultTombstoneAge
	}
	if o.Workers == 0 && o.Store.Shared() {
		o.Workers = 2 // a server elsewhere does one thing at a time, and large batches cost it less
	}
	if o.Workers == 0 {
		o.Workers = 2 * runtime.GOMAXPROCS(0)
	}
}

// Service answers requests. It is made by New and used after Start.
type Service struct {
	store         statestore.Store
	pub           Publisher
	changed       func(shadow.ID, shadow.Author, *shadow.Change)
	limits        shadow.Limits
	log           *slog.Logger
	clock         func() time.Time
	commitTimeout time.Duration
	tombstoneAge  time.Duration
	maxWorkers    int
	quota         *quota
	population    *population
	stats         counters
	budget        atomic.Pointer[budget]

	mu      sync.Mutex // guards what follows, and queued, busy, waiting of every lane
	lanes   map[shadow.ID]*lane
	ready   []*lane // lanes with calls that no worker has taken
	workers int
	idle    int       // workers that wait and were not called
	arrived sync.Cond // a lane is ready, or the service is closed
	closed  bool
	cache   cache
	wg      sync.WaitGroup // workers
}

// New returns a service.
func New(o Options) *Service {
	o.setDefaults()
	s := &Service{
		store:         o.Store,
		pub:           o.Publisher,
		changed:       o.Changed,
		limits:        o.Limits.WithDefaults(),
		log:           o.Log,
		clock:         o.Now,
		commitTimeout: o.CommitTimeout,
		tombstoneAge:  o.TombstoneAge,
		maxWorkers:    o.Workers,
		quota:         newQuota(o.Quota),
		population:    newPopulation(o.NamedShadows, o.Store),
		lanes:         map[shadow.ID]*lane{},
		cache:         newCache(o.CacheBytes),
	}
	s.arrived.L = &s.mu
	return s
}

// Limits returns the limits of documents.
func (s *Service) Limits() shadow.Limits { return s.limits }

// Shared reports whether other processes may write to the store.
func (s *Service) Shared() bool { return s.store.Shared() }

// Close refuses new requests with code 500 and waits for those under way,
// until ctx ends. It does not close the store.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.arrived.Broadcast()
	s.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("things: requests still under way: %w", context.Cause(ctx))
	}
}

// Ready reports whether the store answers.
func (s *Service) Ready(ctx context.Context) error { return s.store.Ping(ctx) }

// Sweep removes expired tombstones and history from the store. It is called now and then.
func (s *Service) Sweep(ctx context.Context) error { return s.store.Sweep(ctx) }

// now is the time in ms since the epoch.
func (s *Service) now() int64 { return s.clock().UnixMilli() }

// budget is a context for calls of the store, and when to make another one.
type budget struct {
	ctx   context.Context
	renew time.Time
}

// storeContext bounds a call of the store: it has the commit timeout at most,
// and three quarters of it at least. Many calls share one context, because
// making one costs as much as a commit to memory.
func (s *Service) storeContext() context.Context {
	now := time.Now()
	if b := s.budget.Load(); b != nil && now.Before(b.renew) {
		return b.ctx
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.commitTimeout)
	context.AfterFunc(ctx, cancel) // it ends by its time, whoever still uses it
	s.budget.Store(&budget{ctx: ctx, renew: now.Add(s.commitTimeout / 4)})
	return ctx
}

// asRefusal turns an error of package shadow into a refusal.
func asRefusal(err error) *shadow.Error {
	if refusal, ok := errors.AsType[*shadow.Error](err); ok {
		return refusal
	}
	return internalFailure("")
}
