// Package journal writes the state of a broker to its store, many changes at once, and tells when they are durable.
//
// Whoever has something to store is a [Source]. It says so with [Journal.Touch] and gives its items when it is asked
// for them, so that what changes back in the meantime is never written. Whoever must not say something before it is
// durable, such as a PUBACK, waits with [Journal.After]. A commit is everything that was touched while the last one
// ran; there is one at a time, and it is all or nothing ([statestore.Items]).
//
// # Failure
//
// When the store fails, everybody who waits is told so at once, and so is everybody who comes while it fails:
// what they have changed may be stored later, or not. The items of the commit stay in line and are tried again, in
// the same order, until the store takes them. So what is in memory is never behind what is stored, and never loses it;
// what nobody was promised may be lost with the process.
package journal

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// ErrClosed is what those get who wait for a journal that is closed.
var ErrClosed = errors.New("journal: closed")

// Source is a part of the state. The methods are called by the journal's goroutine alone.
type Source interface {
	// Drain adds what has to be stored, in order. Until it is called, further calls of Touch are of no use.
	Drain(b *Batch)
	// Stored says that what Drain gave is durable.
	Stored()
}

// Batch is what is stored by one commit.
type Batch struct {
	Items []statestore.Item
	Buf   []byte // for keys and values: a source may append to it and let items refer to what it appended
}

// idleBatch is the largest capacity of a Batch's Buf that is kept from one commit to the next.
const idleBatch = 1 << 20

func (b *Batch) reset() {
	clear(b.Items)
	b.Items, b.Buf = b.Items[:0], b.Buf[:0]
	if cap(b.Buf) > idleBatch {
		*b = Batch{}
	}
}

// Store is what a journal writes to: [statestore.Items].
type Store interface {
	Put(ctx context.Context, items []statestore.Item) error
}

// Options of a Journal. Store is required.
type Options struct {
	Store   Store
	Log     *slog.Logger  // default: discard
	Timeout time.Duration // of one attempt to store; default 5 s
	Delay   time.Duration // for which what nobody waits for may be put off; default 50 ms
}

// Pauses between two attempts to store the same commit.
const (
	firstPause = 20 * time.Millisecond // then twice as long each time
	mostPause  = time.Second
)

// Journal stores changes. A nil Journal stores nothing: everything is as durable as it gets. Its methods may be called
// at the same time.
type Journal struct {
	o Options

	gate  sync.RWMutex // held for reading by Group, for writing while a commit is collected
	kick  chan struct{}
	ended chan struct{}
	stop  context.Context // ends when Close gives up
	cut   context.CancelFunc

	mu      sync.Mutex // guards what follows
	touched []Source   // in order
	waiting []func(error)
	running []func(error) // wait for the commit under way
	busy    bool          // there is one
	timer   *time.Timer
	armed   bool
	err     error // of the last attempt
	closing bool
	over    bool // nothing is stored any more
}

// New returns a journal that is at work until Close.
func New(o Options) *Journal {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Delay == 0 {
		o.Delay = 50 * time.Millisecond
	}
	j := &Journal{o: o, kick: make(chan struct{}, 1), ended: make(chan struct{})}
	j.stop, j.cut = context.WithCancel(context.Background())
	j.timer = time.AfterFunc(o.Delay, j.Kick)
	j.timer.Stop()
	go j.run()
	return j
}

// Touch notes that s has something to store, which happens soon, or at once if somebody waits. The changes of
// several sources are stored in the order of Touch. It calls nobody.
func (j *Journal) Touch(s Source) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.touched = append(j.touched, s)
	if !j.armed {
		j.armed = true
		j.timer.Reset(j.o.Delay)
	}
}

// Kick begins a commit, or another one after that under way.
func (j *Journal) Kick() {
	if j == nil {
		return
	}
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// After calls done, once, when everything that was touched before is durable: perhaps at once, else on the journal's
// goroutine, in the order of the calls. done must not wait for anything. Its error says why nobody knows what
// will become of the changes.
func (j *Journal) After(done func(error)) {
	if j == nil {
		done(nil)
		return
	}
	j.mu.Lock()
	err := j.err
	switch {
	case err != nil:
	case j.over && len(j.touched) > 0:
		err = ErrClosed
	case len(j.touched) > 0:
		j.waiting = append(j.waiting, done)
		j.mu.Unlock()
		j.Kick()
		return
	case j.busy:
		j.running = append(j.running, done)
		j.mu.Unlock()
		return
	}
	j.mu.Unlock()
	done(err)
}

// Wait is After for who can wait.
func (j *Journal) Wait(ctx context.Context) error {
	if j.idle() {
		return nil
	}
	result := make(chan error, 1)
	j.After(func(err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// idle reports whether everything is durable.
func (j *Journal) idle() bool {
	if j == nil {
		return true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err == nil && len(j.touched) == 0 && !j.busy
}

// Err returns why the store failed last; nil while it is in order.
func (j *Journal) Err() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Group calls do, whose changes, to whatever sources it touches, are stored together or not at all. do must not wait
// for anything, nor call Group.
func (j *Journal) Group(do func()) {
	if j == nil {
		do()
		return
	}
	j.gate.RLock()
	defer j.gate.RUnlock()
	do()
}

// Close stores what is left, for as long as ctx lasts, and ends the journal.
func (j *Journal) Close(ctx context.Context) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	j.closing = true
	j.mu.Unlock()
	j.Kick()
	defer context.AfterFunc(ctx, j.cut)()
	<-j.ended
	j.cut()
	return j.Err()
}

// run commits until the journal is closed.
func (j *Journal) run() {
	defer close(j.ended)
	var b Batch
	for j.next() {
		sources := j.collect(&b)
		if !j.store(b.Items) {
			break
		}
		b.reset()
		for _, s := range sources {
			s.Stored()
		}
		j.done()
	}
	j.timer.Stop()
	j.mu.Lock()
	j.over = true
	j.mu.Unlock()
	j.tell(ErrClosed)
}

// next waits until there is something to do; false at the end.
func (j *Journal) next() bool {
	for kicked := false; ; kicked = true {
		j.mu.Lock()
		work, closing := len(j.touched) > 0, j.closing
		j.mu.Unlock()
		if closing {
			return work && j.stop.Err() == nil
		}
		if work && kicked {
			return true
		}
		<-j.kick
	}
}

// collect begins a commit: it takes what was touched, and those who wait for it.
func (j *Journal) collect(b *Batch) []Source {
	j.gate.Lock()
	defer j.gate.Unlock()
	j.mu.Lock()
	sources := j.touched
	j.touched = nil
	j.running, j.waiting = j.waiting, nil
	j.busy = true
	j.armed = false
	j.timer.Stop()
	j.mu.Unlock()
	for _, s := range sources {
		s.Drain(b)
	}
	return sources
}

// store tries until items are stored; false when the journal has to end before.
func (j *Journal) store(items []statestore.Item) bool {
	if len(items) == 0 {
		return true
	}
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		ctx, cancel := context.WithTimeout(j.stop, j.o.Timeout)
		err := j.o.Store.Put(ctx, items)
		cancel()
		if err == nil {
			j.recovered()
			return true
		}
		if j.fail(err) {
			j.o.Log.Error("cannot store sessions and retained messages; what needs it is refused until that works", "err", err)
		}
		select {
		case <-j.stop.Done():
			return false
		case <-time.After(pause):
		}
	}
}

func (j *Journal) recovered() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		j.o.Log.Info("sessions and retained messages are stored again")
		j.err = nil
	}
}

// fail tells everybody who waits, and reports whether the store was in order until now.
func (j *Journal) fail(err error) (first bool) {
	j.mu.Lock()
	first = j.err == nil
	j.err = err
	j.mu.Unlock()
	j.tell(err)
	return first
}

// tell tells those who wait that it is not known what becomes of their changes.
func (j *Journal) tell(err error) {
	j.mu.Lock()
	told := append(j.running, j.waiting...)
	j.running, j.waiting = nil, nil
	j.mu.Unlock()
	for _, done := range told {
		done(err)
	}
}

// done ends a commit that is stored.
func (j *Journal) done() {
	for {
		j.mu.Lock()
		told := j.running
		j.running = nil
		j.busy = len(told) > 0
		j.mu.Unlock()
		if len(told) == 0 {
			return
		}
		for _, done := range told {
			done(nil)
		}
	}
}
