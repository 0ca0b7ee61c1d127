package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// Faulty is a store that fails when told to. It passes everything else on to
// the store that it wraps. All methods may be called at the same time.
type Faulty struct {
	statestore.Store

	mu     sync.Mutex // guards what follows
	down   error
	before fault
	after  fault
	get    fault
	delay  time.Duration
	catch  func(commit func() []error) []error
	gate   chan struct{} // closed when commits may go on; nil when nothing is held
	held   int           // commits that wait at the gate
}

// fault makes the next n commits fail with err.
type fault struct {
	n   int
	err error
}

// take uses up one failure, if any is left.
func (f *fault) take() error {
	if f.n == 0 {
		return nil
	}
	f.n--
	return f.err
}

// NewFaulty wraps s. It works as s does until told otherwise.
func NewFaulty(s statestore.Store) *Faulty { return &Faulty{Store: s} }

// FailBefore lets the next n commits fail with err; nothing of them is done.
func (f *Faulty) FailBefore(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = fault{n, err}
}

// FailAfter lets the next n commits be done and yet report err for every write,
// as if the answer was lost.
func (f *Faulty) FailAfter(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = fault{n, err}
}

// FailGet lets the next n calls of Get fail with err.
func (f *Faulty) FailGet(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.get = fault{n, err}
}

// Intercept hands the next commit of shadows to fn, which may do it, and says how it ended: before
// or after the commit something else can happen. Commits of items are not meant.
func (f *Faulty) Intercept(fn func(commit func() []error) []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.catch = fn
}

// SetDown lets all methods but Close fail with err until it is called with nil.
func (f *Faulty) SetDown(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

// SetDelay lets every commit begin d later.
func (f *Faulty) SetDelay(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

// Hold lets commits, of items too, wait, before anything of them is done, until release is
// called or their context ends. release may be called more than once.
func (f *Faulty) Hold() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.gate = gate
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.gate == gate {
			close(gate)
			f.gate = nil
		}
	}
}

// Held returns the number of commits that wait for the release of Hold.
func (f *Faulty) Held() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// Commit implements statestore.Store.
func (f *Faulty) Commit(ctx context.Context, writes []statestore.Write) []error {
	if err := f.wait(ctx); err != nil {
		return slices.Repeat([]error{err}, len(writes))
	}
	before, after := f.faults()
	if before != nil {
		return slices.Repeat([]error{before}, len(writes))
	}
	f.mu.Lock()
	catch := f.catch
	f.catch = nil
	f.mu.Unlock()
	if catch != nil {
		return catch(func() []error { return f.Store.Commit(ctx, writes) })
	}
	errs := f.Store.Commit(ctx, writes)
	if after != nil {
		return slices.Repeat([]error{after}, len(writes))
	}
	return errs
}

// Put implements statestore.Items. It fails and waits as commits do.
func (f *Faulty) Put(ctx context.Context, items []statestore.Item) error {
	if err := f.wait(ctx); err != nil {
		return err
	}
	before, after := f.faults()
	if before != nil {
		return before
	}
	return errors.Join(f.Store.Put(ctx, items), after)
}

// Get implements statestore.Items.
func (f *Faulty) Get(ctx context.Context, space byte, partition string, keys [][]byte) ([][]byte, error) {
	if err := f.isDown(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	err := f.get.take()
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, space, partition, keys)
}

// Scan implements statestore.Items.
func (f *Faulty) Scan(ctx context.Context, space byte, fn func(statestore.Item) error) error {
	if err := f.isDown(); err != nil {
		return err
	}
	return f.Store.Scan(ctx, space, fn)
}

// wait delays a commit and holds it at the gate.
func (f *Faulty) wait(ctx context.Context) error {
	f.mu.Lock()
	delay, gate := f.delay, f.gate
	if gate != nil {
		f.held++
	}
	f.mu.Unlock()
	if gate != nil {
		defer func() {
			f.mu.Lock()
			f.held--
			f.mu.Unlock()
		}()
		select {
		case <-gate:
		case <-ctx.Done():
			return fmt.Errorf("storetest: held: %w", ctx.Err())
		}
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return fmt.Errorf("storetest: delayed: %w", ctx.Err())
		}
	}
	return nil
}

func (f *Faulty) faults() (before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return f.down, nil
	}
	if before = f.before.take(); before != nil {
		return before, nil
	}
	return nil, f.after.take()
}

func (f *Faulty) isDown() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down
}

// Load implements statestore.Store.
func (f *Faulty) Load(ctx context.Context, keys []statestore.Key) ([]statestore.Record, error) {
	if err := f.isDown(); err != nil {
		return nil, err
	}
	return f.Store.Load(ctx, keys)
}

// Announced implements statestore.Store.
func (f *Faulty) Announced(ctx context.Context, marks []statestore.Mark) error {
	if err := f.isDown(); err != nil {
		return err
	}
	return f.Store.Announced(ctx, marks)
}

// Unannounced implements statestore.Store.
func (f *Faulty) Unannounced(ctx context.Context, fn func(statestore.Mark) error) error {
	if err := f.isDown(); err != nil {
		return err
	}
	return f.Store.Unannounced(ctx, fn)
}

// Things implements statestore.Store.
func (f *Faulty) Things(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if err := f.isDown(); err != nil {
		return nil, err
	}
	return f.Store.Things(ctx, prefix, after, limit)
}

// Shadows implements statestore.Store.
func (f *Faulty) Shadows(ctx context.Context, thing, after string, first bool, limit int) ([]statestore.Info, error) {
	if err := f.isDown(); err != nil {
		return nil, err
	}
	return f.Store.Shadows(ctx, thing, after, first, limit)
}

// History implements statestore.Store.
func (f *Faulty) History(ctx context.Context, key statestore.Key, after uint64, limit int) ([]statestore.Entry, error) {
	if err := f.isDown(); err != nil {
		return nil, err
	}
	return f.Store.History(ctx, key, after, limit)
}

// Sweep implements statestore.Store.
func (f *Faulty) Sweep(ctx context.Context) error {
	if err := f.isDown(); err != nil {
		return err
	}
	return f.Store.Sweep(ctx)
}

// Ping implements statestore.Store.
func (f *Faulty) Ping(ctx context.Context) error {
	if err := f.isDown(); err != nil {
		return err
	}
	return f.Store.Ping(ctx)
}
