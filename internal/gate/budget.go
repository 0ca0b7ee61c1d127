package gate

import (
	"sync"
	"time"
)

// Budget is memory that all strangers together may use. A nil Budget has no bound.
type Budget struct {
	size int
	mu   sync.Mutex // guards left
	left int
}

// NewBudget returns a budget of so many bytes.
func NewBudget(bytes int) *Budget { return &Budget{size: bytes, left: bytes} }

// Take reserves n bytes; false when there is less left.
func (b *Budget) Take(n int) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

// fits reports whether n bytes could be taken if nobody else had any.
func (b *Budget) fits(n int) bool { return b == nil || n <= b.size }

// Give returns n bytes that were taken.
func (b *Budget) Give(n int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}

// rate lets so many pass per second, with bursts of as many. It belongs to one goroutine.
type rate struct {
	perSecond int // 0 for no bound
	next      time.Time
}

// wait waits for the next turn; false when done was closed.
func (r *rate) wait(done <-chan struct{}) bool {
	if r.perSecond <= 0 {
		return true
	}
	now := time.Now()
	if burst := now.Add(-time.Second); r.next.Before(burst) {
		r.next = burst
	}
	r.next = r.next.Add(time.Second / time.Duration(r.perSecond))
	if !r.next.After(now) {
		return true
	}
	t := time.NewTimer(r.next.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-done:
		return false
	}
}
