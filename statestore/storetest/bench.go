package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// Sizes of what Bench stores: a shadow document of 1 KB and its history entry.
const (
	benchShadows = 1024
	benchBody    = 1024
	benchEntry   = 256
)

// Bench measures commits per second with 1, 8, 64 and 512 writers, each of
// which waits for its own commit and announces it, with and without a group
// commit in front of the store as package things has one; and loads.
func Bench(b *testing.B, open Open) {
	for _, writers := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("commit/writers=%d", writers), func(b *testing.B) {
			s := open(b, statestore.Options{})
			defer s.Close()
			benchCommit(b, writers, func(w statestore.Write) []error {
				return s.Commit(b.Context(), []statestore.Write{w})
			})
		})
		b.Run(fmt.Sprintf("batched/writers=%d", writers), func(b *testing.B) {
			s := open(b, statestore.Options{})
			defer s.Close()
			g := newGroup(b.Context(), s, writers)
			defer g.close()
			benchCommit(b, writers, g.commit)
		})
	}
	b.Run("load", func(b *testing.B) {
		s := open(b, statestore.Options{})
		defer s.Close()
		benchLoad(b, s)
	})
}

// benchCommit spreads b.N commits over writers, each with shadows of its own.
func benchCommit(b *testing.B, writers int, commit func(statestore.Write) []error) {
	body, entry := make([]byte, benchBody), make([]byte, benchEntry)
	var next atomic.Int64
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			keys := make([]statestore.Key, max(benchShadows/writers, 1))
			for k := range keys {
				keys[k].Thing = fmt.Sprintf("thing-%d-%d", i, k)
			}
			for n := 0; next.Add(1) <= int64(b.N); n++ {
				key, version := keys[n%len(keys)], uint64(n/len(keys))
				now := time.Now().UnixMilli()
				w := statestore.Write{
					Key:      key,
					Expect:   version,
					Record:   statestore.Record{Version: version + 1, Modified: now, Body: body},
					History:  []statestore.Entry{{Version: version + 1, Time: now, Body: entry}},
					Announce: version + 1,
				}
				if errs := commit(w); errs != nil {
					b.Errorf("Commit(%v) = %v", key, errs)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// cpuTime is the processor time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchLoad(b *testing.B, s statestore.Store) {
	keys := make([]statestore.Key, benchShadows)
	writes := make([]statestore.Write, benchShadows)
	for i := range keys {
		keys[i].Thing = fmt.Sprintf("thing-%d", i)
		writes[i] = statestore.Write{Key: keys[i], Record: statestore.Record{Version: 1, Body: make([]byte, benchBody)}}
	}
	if errs := s.Commit(b.Context(), writes); errs != nil {
		b.Fatalf("Commit(%d writes) = %v", len(writes), errs)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		key := keys[i%len(keys)]
		if records, err := s.Load(b.Context(), []statestore.Key{key}); err != nil || records[0].Version != 1 {
			b.Fatalf("Load(%v) = %v, %v", key, records, err)
		}
		i++
	}
}

// group commits what waits in batches: whatever arrived while the last batch
// was being committed, two batches at a time.
type group struct {
	store   statestore.Store
	pending chan groupWrite
	wg      sync.WaitGroup
}

type groupWrite struct {
	write statestore.Write
	errs  chan []error
}

func newGroup(ctx context.Context, s statestore.Store, writers int) *group {
	g := &group{store: s, pending: make(chan groupWrite, writers)}
	for range 2 {
		g.wg.Go(func() { g.run(ctx) })
	}
	return g
}

func (g *group) close() {
	close(g.pending)
	g.wg.Wait()
}

func (g *group) commit(w statestore.Write) []error {
	gw := groupWrite{write: w, errs: make(chan []error, 1)}
	g.pending <- gw
	return <-gw.errs
}

func (g *group) run(ctx context.Context) {
	var waiting []groupWrite
	var writes []statestore.Write
	var marks []statestore.Mark
	for first := range g.pending {
		waiting, writes, marks = append(waiting[:0], first), append(writes[:0], first.write), marks[:0]
		for more := true; more; {
			select {
			case gw, open := <-g.pending:
				if more = open; open {
					waiting, writes = append(waiting, gw), append(writes, gw.write)
				}
			default:
				more = false
			}
		}
		errs := g.store.Commit(ctx, writes)
		for _, gw := range waiting {
			gw.errs <- errs
			marks = append(marks, statestore.Mark{Key: gw.write.Key, Version: gw.write.Record.Version + 1})
		}
		if err := g.store.Announced(ctx, marks); err != nil && errs == nil {
			panic(fmt.Sprint("storetest: Announced: ", err))
		}
	}
}
