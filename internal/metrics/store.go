package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/umbra-iot/umbra/statestore"
)

type storeInstruments struct {
	seconds   *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	conflicts prometheus.Counter
	batch     prometheus.Histogram
}

func newStoreInstruments() storeInstruments {
	return storeInstruments{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "umbra_store_op_duration_seconds",
			Help:    "Time that operations of the store took.",
			Buckets: durations,
		}, []string{"op", "backend"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "umbra_store_errors_total",
			Help: "Operations of the store, for commits single writes, that failed. Conflicts are not failures.",
		}, []string{"op", "backend"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "umbra_store_conflicts_total",
			Help: "Writes that found another version than they expected.",
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "umbra_store_commit_writes",
			Help:    "Writes in one commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
	}
}

func (i storeInstruments) all() []prometheus.Collector {
	return []prometheus.Collector{i.seconds, i.failures, i.conflicts, i.batch}
}

// Store returns next with every operation measured. backend is the kind of the store.
func (m *Metrics) Store(next statestore.Store, backend string) statestore.Store {
	op := func(name string) operation {
		return operation{m.store.seconds.WithLabelValues(name, backend), m.store.failures.WithLabelValues(name, backend)}
	}
	return &store{
		Store:       next,
		load:        op("load"),
		commit:      op("commit"),
		announced:   op("announced"),
		unannounced: op("unannounced"),
		things:      op("things"),
		shadows:     op("shadows"),
		history:     op("history"),
		put:         op("put"),
		get:         op("get"),
		scan:        op("scan"),
		sweep:       op("sweep"),
		ping:        op("ping"),
		conflicts:   m.store.conflicts,
		batch:       m.store.batch,
	}
}

// store measures the operations of a store.
type store struct {
	statestore.Store

	load, commit, announced, unannounced, things, shadows, history, put, get, scan, sweep, ping operation

	conflicts prometheus.Counter
	batch     prometheus.Observer
}

// operation holds the instruments of one operation.
type operation struct {
	seconds  prometheus.Observer
	failures prometheus.Counter
}

func (o operation) end(began time.Time, err *error) {
	o.seconds.Observe(time.Since(began).Seconds())
	if *err != nil {
		o.failures.Inc()
	}
}

func (s *store) Load(ctx context.Context, keys []statestore.Key) (_ []statestore.Record, err error) {
	defer s.load.end(time.Now(), &err)
	return s.Store.Load(ctx, keys)
}

func (s *store) Commit(ctx context.Context, writes []statestore.Write) []error {
	began := time.Now()
	errs := s.Store.Commit(ctx, writes)
	s.commit.seconds.Observe(time.Since(began).Seconds())
	s.batch.Observe(float64(len(writes)))
	for _, err := range errs {
		switch {
		case errors.Is(err, statestore.ErrConflict):
			s.conflicts.Inc()
		case err != nil:
			s.commit.failures.Inc()
		}
	}
	return errs
}

func (s *store) Announced(ctx context.Context, marks []statestore.Mark) (err error) {
	defer s.announced.end(time.Now(), &err)
	return s.Store.Announced(ctx, marks)
}

func (s *store) Unannounced(ctx context.Context, fn func(statestore.Mark) error) (err error) {
	defer s.unannounced.end(time.Now(), &err)
	return s.Store.Unannounced(ctx, fn)
}

func (s *store) Things(ctx context.Context, prefix, after string, limit int) (_ []string, err error) {
	defer s.things.end(time.Now(), &err)
	return s.Store.Things(ctx, prefix, after, limit)
}

func (s *store) Shadows(ctx context.Context, thing, after string, first bool, limit int) (_ []statestore.Info, err error) {
	defer s.shadows.end(time.Now(), &err)
	return s.Store.Shadows(ctx, thing, after, first, limit)
}

func (s *store) History(ctx context.Context, key statestore.Key, after uint64, limit int) (_ []statestore.Entry, err error) {
	defer s.history.end(time.Now(), &err)
	return s.Store.History(ctx, key, after, limit)
}

func (s *store) Put(ctx context.Context, items []statestore.Item) (err error) {
	defer s.put.end(time.Now(), &err)
	return s.Store.Put(ctx, items)
}

func (s *store) Get(ctx context.Context, space byte, partition string, keys [][]byte) (_ [][]byte, err error) {
	defer s.get.end(time.Now(), &err)
	return s.Store.Get(ctx, space, partition, keys)
}

func (s *store) Scan(ctx context.Context, space byte, fn func(statestore.Item) error) (err error) {
	defer s.scan.end(time.Now(), &err)
	return s.Store.Scan(ctx, space, fn)
}

func (s *store) Sweep(ctx context.Context) (err error) {
	defer s.sweep.end(time.Now(), &err)
	return s.Store.Sweep(ctx)
}

func (s *store) Ping(ctx context.Context) (err error) {
	defer s.ping.end(time.Now(), &err)
	return s.Store.Ping(ctx)
}
