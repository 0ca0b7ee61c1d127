package rest

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"sync"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// feedChanges is how many changes a Feed remembers: what a stream of all things may be behind.
const feedChanges = 8192

// Feed tells event streams that shadows have changed. It is a
// [things.Publisher]: give it the messages that the broker gets. It notes which
// shadow got which version and wakes the streams, and they read what happened
// from the history of the shadow, at their own pace.
type Feed struct {
	epoch  string        // names this feed in event IDs: its numbers begin with it
	closed chan struct{} // closed by Close

	mu      sync.Mutex // guards what follows
	done    bool
	changes []change // the last ones; number n, counted from 1, is at (n-1) % feedChanges
	count   uint64   // of all changes so far
	all     map[*listener]struct{}
	others  map[*listener]struct{} // of streams that are not about shadows
	shadows map[shadow.ID]map[*listener]struct{}
}

// change is the news that a shadow has a version.
type change struct {
	id      shadow.ID
	version uint64 // of the entry in the history
}

// listener is a stream that wants to know when to look again.
type listener struct {
	who  *auth.Principal // whose stream it is, nil for nobody
	wake chan struct{}   // has room for one: more news while one waits changes nothing
}

// NewFeed returns a feed. Close it when the server shuts down.
func NewFeed() *Feed {
	return &Feed{
		epoch:   rand.Text()[:10],
		closed:  make(chan struct{}),
		all:     map[*listener]struct{}{},
		others:  map[*listener]struct{}{},
		shadows: map[shadow.ID]map[*listener]struct{}{},
	}
}

// Flush implements [things.Publisher]: there is nothing to keep.
func (f *Feed) Flush(context.Context) error { return nil }

// Publish implements [things.Publisher]. It never blocks.
func (f *Feed) Publish(m *things.Message) {
	if m.Kind != shadow.KindAccepted || m.Op == shadow.OpGet {
		return
	}
	c := change{id: m.ID, version: m.Version}
	if m.Op == shadow.OpDelete {
		c.version++ // the message tells the version that was deleted
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.changes) < feedChanges {
		f.changes = append(f.changes, c)
	} else {
		f.changes[f.count%feedChanges] = c
	}
	f.count++
	for l := range f.all {
		l.notify()
	}
	for l := range f.shadows[m.ID] {
		l.notify()
	}
}

func (l *listener) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Recheck has the streams of those for whom which is true look whether they are still permitted, and end if not; all
// streams with nil. It is called when credentials, or policies, have changed.
func (f *Feed) Recheck(which func(*auth.Principal) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	recheck(f.all, which)
	recheck(f.others, which)
	for _, list := range f.shadows {
		recheck(list, which)
	}
}

func recheck(list map[*listener]struct{}, which func(*auth.Principal) bool) {
	for l := range list {
		if which == nil || which(l.who) {
			l.notify()
		}
	}
}

// Close ends all event streams, which would otherwise keep an [http.Server] from shutting down.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.done {
		f.done = true
		close(f.closed)
	}
}

// listen registers a listener to the changes of one shadow, or of all when id is nil. Call stop when done.
func (f *Feed) listen(id *shadow.ID, who *auth.Principal) (l *listener, stop func()) {
	l = &listener{who: who, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if id == nil {
		f.all[l] = struct{}{}
		return l, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.all, l)
		}
	}
	if f.shadows[*id] == nil {
		f.shadows[*id] = map[*listener]struct{}{}
	}
	f.shadows[*id][l] = struct{}{}
	return l, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.shadows[*id], l)
		if len(f.shadows[*id]) == 0 {
			delete(f.shadows, *id)
		}
	}
}

// attend registers a listener to nothing but the end of its rights. Call stop when done.
func (f *Feed) attend(who *auth.Principal) (l *listener, stop func()) {
	l = &listener{who: who, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.others[l] = struct{}{}
	return l, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.others, l)
	}
}

// head returns the number of the last change.
func (f *Feed) head() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// since returns up to limit changes behind number after; ok is false when they are forgotten.
func (f *Feed) since(after uint64, limit int) (list []change, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if after > f.count || f.count-after > uint64(len(f.changes)) {
		return nil, false
	}
	for n := after; n < f.count && len(list) < limit; n++ {
		list = append(list, f.changes[n%feedChanges])
	}
	return list, true
}

// eventID makes a number an event ID.
func (f *Feed) eventID(n uint64) string { return f.epoch + "-" + strconv.FormatUint(n, 10) }

// number is the inverse of eventID; ok is false for the ID of another feed.
func (f *Feed) number(eventID string) (n uint64, ok bool) {
	text, ok := strings.CutPrefix(eventID, f.epoch+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}
