// Package quota bounds what each principal uses of what all of them share: how much of it at a time, and how
// fast. It knows no clock: whoever asks tells the time.
package quota

import (
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what one principal uses. 0 is no bound.
type Limits struct {
	Connections   int // MQTT connections, and HTTP requests under way, at a time
	Sessions      int // MQTT sessions, connected or not
	Subscriptions int // of all sessions
	Connects      int // CONNECT packets per second
	Messages      int // PUBLISH packets per second, of all connections
	Bytes         int // the same, in bytes
	Requests      int // HTTP requests per second
}

// Resource is what a principal has of for some time.
type Resource int

// The resources.
const (
	Connections Resource = iota
	Sessions
	Subscriptions
	resources
)

// Flow is what a principal does again and again.
type Flow int

// The flows.
const (
	Connects Flow = iota
	Messages
	Requests
	flows
)

// Book has the accounts of all principals. The zero value is ready, and its methods may be called at the same time; a
// nil Book bounds nothing. Nobody in particular, the owner "", has no account: he is never bounded.
type Book struct {
	mu       sync.Mutex
	accounts map[string]*account
	sweepAt  int // number of accounts at which those that are empty are forgotten
}

// account is what one principal uses. There is one for each that is connected: it is small.
type account struct {
	used  [resources]int32
	bytes atomic.Int64  // of messages that wait
	speed *[flows]Meter // nil while no flow of the principal is bounded
}

// sweepMin is the fewest accounts that are worth a look at all of them.
const sweepMin = 1024

// Take adds n to what the owner has of a resource, unless that were more than most; 0 is no bound.
func (b *Book) Take(owner string, r Resource, n, most int) bool {
	if b == nil || owner == "" || n == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if most > 0 && b.used(owner, r)+n > most {
		return false
	}
	b.open(owner).used[r] += int32(n)
	return true
}

// Give takes n back from what the owner has of a resource.
func (b *Book) Give(owner string, r Resource, n int) {
	if b == nil || owner == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[owner]
	if a == nil {
		return
	}
	if a.used[r] -= int32(n); a.isEmpty() && a.speed == nil {
		delete(b.accounts, owner)
	}
}

// Bytes returns the sum of the bytes of messages that wait for an owner, for those who add to it and take away. It is his
// as long as he has a session; nil for nobody in particular.
func (b *Book) Bytes(owner string) *atomic.Int64 {
	if b == nil || owner == "" {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return &b.open(owner).bytes
}

// used returns what an owner has. mu is held.
func (b *Book) used(owner string, r Resource) int {
	if a := b.accounts[owner]; a != nil {
		return int(a.used[r])
	}
	return 0
}

// Spend counts something of a flow that takes the owner so long at his fastest, see [Cost], and returns how long it
// comes too early. False means that this is more than patience: then it is refused, and does not count.
func (b *Book) Spend(owner string, f Flow, cost, patience time.Duration, now time.Time) (wait time.Duration, ok bool) {
	if b == nil || owner == "" || cost == 0 {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sweep(now)
	a := b.open(owner)
	if a.speed == nil {
		a.speed = &[flows]Meter{}
	}
	return a.speed[f].Spend(cost, patience, now)
}

// open returns the account of an owner. mu is held.
func (b *Book) open(owner string) *account {
	a := b.accounts[owner]
	if a == nil {
		if b.accounts == nil {
			b.accounts = map[string]*account{}
		}
		a = &account{}
		b.accounts[owner] = a
	}
	return a
}

// sweep forgets the accounts that are as if they had never been, when there may be many of them. mu is held.
func (b *Book) sweep(now time.Time) {
	if len(b.accounts) < max(b.sweepAt, sweepMin) {
		return
	}
	for owner, a := range b.accounts {
		if a.isEmpty() && a.isSlow(now) {
			delete(b.accounts, owner)
		}
	}
	b.sweepAt = 2 * len(b.accounts)
}

func (a *account) isEmpty() bool { return a.used == [resources]int32{} }

// isSlow reports whether nothing that was done is too recent to matter.
func (a *account) isSlow(now time.Time) bool {
	if a.speed == nil {
		return true
	}
	for _, m := range a.speed {
		if m.due.After(now.Add(-burst)) {
			return false
		}
	}
	return true
}
