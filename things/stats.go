package things

import (
	"sync/atomic"

	"github.com/umbra-iot/umbra/shadow"
)

// Codes are the refusal codes that Stats counts; any other one counts as 500.
var codes = [...]int{400, 401, 403, 404, 409, 412, 413, 415, 429, 500}

// Stats are totals since the start of the process.
type Stats struct {
	Accepted  map[shadow.Op]uint64 // requests by operation
	Refused   map[int]uint64       // requests by code
	Conflicts uint64               // lost races with another process, each followed by a retry
	Commits   uint64               // batches handed to the store
	Hits      uint64               // documents found in memory
	Misses    uint64               // documents read from the store
	Cached    int                  // documents in memory now
	CacheUsed int64                // their bytes
}

type counters struct {
	accepted  [shadow.OpDelete + 1]atomic.Uint64
	refused   [len(codes)]atomic.Uint64
	conflicts atomic.Uint64
	commits   atomic.Uint64
	hits      atomic.Uint64
	misses    atomic.Uint64
}

func (c *counters) count(op shadow.Op, refusal *shadow.Error) {
	if refusal == nil {
		c.accepted[op].Add(1)
		return
	}
	at := len(codes) - 1
	for i, code := range codes {
		if code == refusal.Code {
			at = i
		}
	}
	c.refused[at].Add(1)
}

// Stats returns the totals.
func (s *Service) Stats() Stats {
	st := Stats{
		Accepted:  map[shadow.Op]uint64{},
		Refused:   map[int]uint64{},
		Conflicts: s.stats.conflicts.Load(),
		Commits:   s.stats.commits.Load(),
		Hits:      s.stats.hits.Load(),
		Misses:    s.stats.misses.Load(),
	}
	for op := shadow.OpGet; op <= shadow.OpDelete; op++ {
		st.Accepted[op] = s.stats.accepted[op].Load()
	}
	for i, code := range codes {
		st.Refused[code] = s.stats.refused[i].Load()
	}
	s.mu.Lock()
	st.Cached, st.CacheUsed = len(s.lanes), s.cache.used
	s.mu.Unlock()
	return st
}
