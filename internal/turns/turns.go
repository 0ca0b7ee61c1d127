// Package turns lets a few at a time do what is expensive, such as finding out
// who somebody is. Others wait for their turn in the order in which they came, and
// so many of them that nobody waits for long; of each source no more than its
// share, so that whoever asks again and again keeps others waiting a little, and
// not out.
package turns

import (
	"context"
	"errors"
	"sync"
)

// Defaults of Options.
const (
	DefaultWaiting = 256
	DefaultEach    = 32
)

// ErrBusy is the error of who would be one too many, in all or of his source.
var ErrBusy = errors.New("too many at a time")

// Options of Turns.
type Options struct {
	Parallel int // at a time
	Waiting  int // further ones that wait; default 256
	Each     int // of both together those of one source; default 32
}

// Turns says whose turn it is. Its methods may be called at the same time.
type Turns struct {
	turns  chan struct{} // has one for each whose turn it is
	places int           // of those too who wait
	each   int

	mu    sync.Mutex // guards what follows
	taken int
	from  map[string]int // of them by source
}

// New returns turns that nobody has.
func New(o Options) *Turns {
	if o.Waiting == 0 {
		o.Waiting = DefaultWaiting
	}
	if o.Each == 0 {
		o.Each = DefaultEach
	}
	return &Turns{turns: make(chan struct{}, o.Parallel), places: o.Parallel + o.Waiting, each: o.Each, from: map[string]int{}}
}

// Take waits for the turn of a source, and returns how to end it. Its error is ErrBusy, at once, or the cause of ctx.
func (t *Turns) Take(ctx context.Context, source string) (end func(), err error) {
	if !t.enter(source) {
		return nil, ErrBusy
	}
	select {
	case t.turns <- struct{}{}:
		return func() {
			<-t.turns
			t.leave(source)
		}, nil
	case <-ctx.Done():
		t.leave(source)
		return nil, context.Cause(ctx)
	}
}

// enter takes a place, unless there is none.
func (t *Turns) enter(source string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken >= t.places || t.from[source] >= t.each {
		return false
	}
	t.taken++
	t.from[source]++
	return true
}

func (t *Turns) leave(source string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken--
	if t.from[source]--; t.from[source] == 0 {
		delete(t.from, source)
	}
}
