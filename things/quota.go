package things

import "sync"

// Quota limits the requests of one thing, as AWS does. The zero value sets no
// limit: back-pressure of the connection serves better.
type Quota struct {
	InFlight int // unanswered requests per connection and thing (AWS: 10); 0 is no limit
	Rate     int // requests per second and thing, all operations together (AWS: 20); 0 is no limit
}

// quota counts requests. A nil quota allows everything.
type quota struct {
	Quota
	mu       sync.Mutex
	inFlight map[inFlightKey]int
	rate     map[string]*window
	swept    int64 // second in which idle windows were last dropped
}

type inFlightKey struct{ clientID, thing string }

// window counts the requests of a thing within one second.
type window struct {
	second int64
	n      int
}

func newQuota(q Quota) *quota {
	if q == (Quota{}) {
		return nil
	}
	return &quota{Quota: q, inFlight: map[inFlightKey]int{}, rate: map[string]*window{}}
}

// take counts a request in, and reports false when it is over a limit. Every
// request that was counted in is counted out by give.
func (q *quota) take(r *Request, nowMS int64) bool {
	if q == nil {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	key := inFlightKey{r.Author.ClientID, r.ID.Thing}
	if q.InFlight > 0 && q.inFlight[key] >= q.InFlight {
		return false
	}
	if q.Rate > 0 && !q.tick(r.ID.Thing, nowMS/1000) {
		return false
	}
	if q.InFlight > 0 {
		q.inFlight[key]++
	}
	return true
}

func (q *quota) tick(thing string, second int64) bool {
	if second != q.swept {
		q.swept = second
		for name, w := range q.rate {
			if w.second != second {
				delete(q.rate, name)
			}
		}
	}
	w := q.rate[thing]
	if w == nil {
		w = &window{second: second}
		q.rate[thing] = w
	}
	w.n++
	return w.n <= q.Rate
}

// give counts a request out that take let in.
func (q *quota) give(r *Request) {
	if q == nil || q.InFlight == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	key := inFlightKey{r.Author.ClientID, r.ID.Thing}
	if q.inFlight[key]--; q.inFlight[key] <= 0 {
		delete(q.inFlight, key)
	}
}
