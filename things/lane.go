package things

import (
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
)

// Bounds of one batch. What does not fit waits for the next one.
const (
	maxBatchLanes = 256
	maxLaneCalls  = 64
)

// lane is the queue of one shadow and its cached document. The queue is
// guarded by Service.mu; the document belongs to the worker that has made the
// lane busy.
type lane struct {
	id     shadow.ID
	topics shadow.Topics

	waiting []*call
	queued  bool // in Service.ready
	busy    bool // taken by a worker

	loaded   bool             // doc is what the store held when it was last asked
	doc      *shadow.Document // nil: no shadow
	expires  int64            // ms since the epoch at which a tombstone is forgotten, 0 never
	modified int64            // ms since the epoch
	verified int64            // ms since the epoch when the document was last known to be current
	doubt    uint64           // lowest version whose commit had an unknown outcome, 0 none
	retries  int              // attempts to settle the doubt
	timer    bool             // an attempt is due
	moving   bool             // the population keeps a place for a creation or deletion under way

	prev, next *lane // neighbours in the cache, nil when not in it
	size       int64 // as accounted in the cache
}

func (l *lane) key() statestore.Key { return statestore.Key{Thing: l.id.Thing, Shadow: l.id.Name} }

// enqueue puts a call into the lane of id and makes sure that a worker comes.
func (s *Service) enqueue(id shadow.ID, c *call) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.refuseUnqueued(id, c)
		return
	}
	l := s.lanes[id]
	if l == nil {
		l = &lane{id: id}
		if id.Validate() == nil {
			l.topics = shadow.TopicsOf(id)
			s.lanes[id] = l
		}
	}
	l.waiting = append(l.waiting, c)
	if !l.busy && !l.queued {
		l.queued = true
		s.ready = append(s.ready, l)
	}
	s.call()
	s.mu.Unlock()
}

// call makes a worker come if a lane is ready. Workers stay, because a new
// goroutine would have to grow its stack again for every batch. s.mu is held.
func (s *Service) call() {
	switch {
	case len(s.ready) == 0:
	case s.idle > 0:
		s.idle--
		s.arrived.Signal()
	case s.workers < s.maxWorkers:
		s.workers++
		s.wg.Go(s.work)
	}
}

// refuseUnqueued answers a call that comes after Close.
func (s *Service) refuseUnqueued(id shadow.ID, c *call) {
	l := &lane{id: id}
	s.refuse(l, c, internalFailure(c.token))
	s.finish(c)
}

// await waits until a lane is ready. False means that the service is closed and none is.
func (s *Service) await() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ready) == 0 {
		if s.closed {
			return false
		}
		s.idle++
		s.arrived.Wait()
	}
	return true
}

// take moves up to a batch of ready lanes to the worker.
func (s *Service) take(jobs []job) []job {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.ready), maxBatchLanes)
	for _, l := range s.ready[:n] {
		m := min(len(l.waiting), maxLaneCalls)
		jobs = append(jobs, job{lane: l, calls: l.waiting[:m:m]})
		l.waiting = l.waiting[m:]
		l.queued, l.busy = false, true
		s.cache.remove(l)
	}
	rest := copy(s.ready, s.ready[n:])
	clear(s.ready[rest:])
	s.ready = s.ready[:rest]
	return jobs
}

// release gives the lanes of a batch back.
func (s *Service) release(jobs []job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range jobs {
		l := jobs[i].lane
		l.busy = false
		switch {
		case len(l.waiting) > 0:
			l.queued = true
			s.ready = append(s.ready, l)
		case l.loaded || l.doubt != 0:
			l.waiting = nil
			s.cache.add(l)
		default:
			delete(s.lanes, l.id)
		}
	}
	for l := s.cache.evict(); l != nil; l = s.cache.evict() {
		delete(s.lanes, l.id)
	}
}
