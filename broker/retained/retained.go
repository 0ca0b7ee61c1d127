// Package retained keeps the retained messages of a broker (MQTT 5, 3.3.1.3), in memory and in the order of
// their topics.
//
// The order is what lets a subscriber of everything be served in pages: [Store.Match] looks at a bounded number
// of messages and says where to go on, so that neither the store is locked nor the subscriber's queue filled for
// long, and no part of the work is done twice.
package retained

import (
	"container/heap"
	"errors"
	"strings"
	"sync"

	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
)

// Errors of [Store.Set] about a message that would exceed a limit.
var (
	ErrFull      = errors.New("retained: store is full")
	ErrOwnerFull = errors.New("retained: its publisher has as much as he may")
)

// expireStep bounds how many expired messages Set removes at a time to make room.
const expireStep = 64

// Limits bound a store; 0 means no limit.
type Limits struct {
	Messages int
	Bytes    int64 // sum of [wire.Message.Size]

	OwnerMessages int // the same, of one owner
	OwnerBytes    int64
}

// Message is a retained message.
type Message struct {
	*wire.Message
	Modified int64  // when it was set, ms since the Unix epoch
	Owner    string // who has set it, "" for nobody in particular, whom the limits of an owner do not bound
}

// Page is a part of an answer. Unless Done, the rest begins after the topic Next.
type Page struct {
	Messages []Message
	Next     string
	Done     bool
}

// Store keeps at most one message for each topic. Its methods may be called concurrently. Times are ms since the
// Unix epoch.
type Store struct {
	limits Limits

	mu       sync.RWMutex // guards what follows
	topics   list
	expiries expiries
	bytes    int64
	owners   map[string]usage
	changed  map[string]struct{} // topics, since the last call of Changes; nil while nobody wants to know
}

// usage is what an owner has.
type usage struct {
	messages int
	bytes    int64
}

// New returns an empty store.
func New(l Limits) *Store {
	return &Store{limits: l, owners: map[string]usage{}}
}

// Set makes m the retained message of its topic, and owner the one whose it is. One with an empty payload, or one that
// has expired, only deletes what was there [MQTT-3.3.1-6], [MQTT-3.3.1-7]. The error is [ErrFull] or [ErrOwnerFull];
// nothing was changed then.
func (s *Store) Set(m *wire.Message, owner string, now int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(m.Payload) == 0 || m.Expired(now) {
		s.remove(m.Topic)
		return nil
	}
	err := s.fits(m, owner)
	if err != nil {
		s.expire(now, expireStep)
		err = s.fits(m, owner)
	}
	if err != nil {
		return err
	}
	s.remove(m.Topic)
	s.insert(Message{m, now, owner})
	s.note(m.Topic)
	return nil
}

// insert adds a message whose topic has none.
func (s *Store) insert(m Message) {
	it := &item{Message: m, place: -1}
	s.topics.insert(it)
	s.bytes += int64(m.Size())
	s.count(m, 1)
	if m.Expires != 0 {
		heap.Push(&s.expiries, it)
	}
}

// Restore adds a message that was stored, whatever the limits say.
func (s *Store) Restore(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(m.Topic)
	s.insert(m)
}

// Record begins to note what changes, for Changes.
func (s *Store) Record() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = map[string]struct{}{}
}

func (s *Store) note(name string) {
	if s.changed != nil {
		s.changed[name] = struct{}{}
	}
}

// Changes calls fn for each topic whose message changed since the last call, with the message that it has now, also
// when that has expired; ok is false when there is none. fn must not call methods of the store.
func (s *Store) Changes(fn func(name string, m Message, ok bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.changed {
		if it := s.topics.get(name); it != nil {
			fn(name, it.Message, true)
		} else {
			fn(name, Message{}, false)
		}
	}
	if len(s.changed) > 0 {
		s.changed = map[string]struct{}{}
	}
}

// count adds m to what its owner has, or takes it away.
func (s *Store) count(m Message, sign int) {
	if m.Owner == "" {
		return
	}
	u := s.owners[m.Owner].plus(sign, m.Size())
	if u == (usage{}) {
		delete(s.owners, m.Owner)
		return
	}
	s.owners[m.Owner] = u
}

// fits says why m cannot be kept as one of owner, in place of the one that its topic has; nil when it can.
func (s *Store) fits(m *wire.Message, owner string) error {
	all, own := usage{s.topics.n, s.bytes}, s.owners[owner]
	if old := s.topics.get(m.Topic); old != nil {
		all = all.plus(-1, old.Size())
		if old.Owner == owner {
			own = own.plus(-1, old.Size())
		}
	}
	switch {
	case !all.plus(1, m.Size()).within(s.limits.Messages, s.limits.Bytes):
		return ErrFull
	case owner != "" && !own.plus(1, m.Size()).within(s.limits.OwnerMessages, s.limits.OwnerBytes):
		return ErrOwnerFull
	}
	return nil
}

// plus is u with a message of a size more, or, with the sign -1, less.
func (u usage) plus(sign, size int) usage {
	return usage{u.messages + sign, u.bytes + int64(sign*size)}
}

// within reports whether u is within limits, of which 0 is none.
func (u usage) within(messages int, bytes int64) bool {
	return (messages == 0 || u.messages <= messages) && (bytes == 0 || u.bytes <= bytes)
}

// remove deletes the message of a topic and reports whether there was one.
func (s *Store) remove(name string) bool {
	it := s.topics.remove(name)
	if it == nil {
		return false
	}
	s.note(it.Topic)
	s.bytes -= int64(it.Size())
	s.count(it.Message, -1)
	if it.place >= 0 {
		heap.Remove(&s.expiries, it.place)
	}
	return true
}

// Delete removes the message of a topic and reports whether there was one.
func (s *Store) Delete(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(name)
}

// Get returns the message of a topic unless it has expired.
func (s *Store) Get(name string, now int64) (m Message, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	it := s.topics.get(name)
	if it == nil || it.Expired(now) {
		return m, false
	}
	return it.Message, true
}

// Match returns messages whose topics match filter and come after the topic after ("": the first page), in byte
// order of topics. The filter must be valid and without a share prefix: a shared subscription gets no retained
// messages. Match examines at most limit messages (at least one), so a page may be empty and not the last one.
// What stays while the pages are read is in them once; what comes or goes may be in them or not.
func (s *Store) Match(filter, after string, limit int, now int64) Page {
	s.mu.RLock()
	defer s.mu.RUnlock()
	wild := strings.IndexAny(filter, "+#")
	if wild < 0 {
		if it := s.topics.get(filter); it != nil && filter > after && !it.Expired(now) {
			return Page{Messages: []Message{it.Message}, Done: true}
		}
		return Page{Done: true}
	}
	r := span{prefix: filter[:wild]}
	if parent := strings.TrimSuffix(filter, "/#"); len(parent) == wild-1 {
		r.parent = parent
	}
	r.common = wild == 0
	return s.page(r, after, limit, func(it *item) bool {
		return !it.Expired(now) && topic.Match(filter, it.Topic)
	})
}

// List returns at most limit messages of all topics that come after the topic after ("": the first page), in
// byte order of topics, also of those that begin with "$".
func (s *Store) List(after string, limit int, now int64) Page {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.page(span{}, after, limit, func(it *item) bool { return !it.Expired(now) })
}

// span is the part of all topics in which a filter can match.
type span struct {
	parent string // the one topic before the others, of a filter such as "a/#"; "" for none
	prefix string // of the others
	common bool   // without those that begin with "$"
}

// seek returns the first position after the topic after that is in r or behind it.
func (r span) seek(l *list, after string) position {
	switch {
	case r.parent != "" && after < r.parent && l.get(r.parent) != nil:
		return l.from(r.parent)
	case after < r.prefix:
		return l.from(r.prefix)
	case r.common && strings.HasPrefix(after, "$"):
		return l.from("%") // the character after "$"
	}
	return l.after(after)
}

// page examines at most limit messages in r after the topic after and returns those that want takes.
func (s *Store) page(r span, after string, limit int, want func(*item) bool) Page {
	var p Page
	next := after
	at := r.seek(&s.topics, after)
	for range max(limit, 1) {
		it := s.topics.at(at)
		if it == nil || !strings.HasPrefix(it.Topic, r.prefix) && it.Topic != r.parent {
			p.Done = true
			return p
		}
		if want(it) {
			p.Messages = append(p.Messages, it.Message)
		}
		next = it.Topic
		at = s.topics.next(at)
		if it.Topic == r.parent || r.common && strings.HasPrefix(next, "$") {
			at = r.seek(&s.topics, next)
		}
	}
	p.Next = next
	return p
}

// Expire deletes at most limit expired messages and returns how many there were.
func (s *Store) Expire(now int64, limit int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expire(now, limit)
}

func (s *Store) expire(now int64, limit int) int {
	n := 0
	for n < limit && len(s.expiries) > 0 && s.expiries[0].Expired(now) {
		s.remove(s.expiries[0].Topic)
		n++
	}
	return n
}

// NextExpiry returns when the next message expires; ok is false when none ever does.
func (s *Store) NextExpiry() (at int64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.expiries) == 0 {
		return 0, false
	}
	return s.expiries[0].Expires, true
}

// Len returns the number of messages, with those that have expired but are not deleted yet.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.topics.n
}

// Bytes returns the size of the messages that Len counts.
func (s *Store) Bytes() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.bytes
}

// expiries is a heap of the messages that expire, for package container/heap.
type expiries []*item

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].Expires < e[j].Expires }

func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].place, e[j].place = i, j
}

func (e *expiries) Push(x any) {
	it := x.(*item)
	it.place = len(*e)
	*e = append(*e, it)
}

func (e *expiries) Pop() any {
	last := len(*e) - 1
	it := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	return it
}
