package quota

import (
	"math"
	"time"
)

// Forever is the patience of those who wait as long as it takes.
const Forever = time.Duration(math.MaxInt64)

// burst is how much may come at once: so long, at the fastest.
const burst = time.Second

// Meter tells what comes faster than it may. A second's worth may come at once. The zero value is one of which
// nothing has come yet.
type Meter struct {
	due time.Time // when what has come until now should have
}

// Spend counts something that takes so long at the fastest, and returns how long it comes too early, 0 when it does
// not. False means that this is more than patience: then it does not count.
func (m *Meter) Spend(cost, patience time.Duration, now time.Time) (wait time.Duration, ok bool) {
	due := m.due
	if earliest := now.Add(-burst); due.Before(earliest) {
		due = earliest
	}
	due = due.Add(cost)
	if wait = max(due.Sub(now), 0); wait > patience {
		return wait, false
	}
	m.due = due
	return wait, true
}

// Cost is how long n of something take at the fastest. perSecond is 0 when there is no bound: then it is nothing.
func Cost(n, perSecond int) time.Duration {
	if perSecond == 0 {
		return 0
	}
	return time.Duration(float64(n) / float64(perSecond) * float64(time.Second))
}
