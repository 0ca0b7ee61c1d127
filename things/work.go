package things

import (
	"context"
	"errors"
	"time"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
)

const (
	// maxAttempts bounds the rounds of a batch: every round after the first
	// is a lost race with another process, or a second look at a stale document.
	maxAttempts = 50
	// maxMarks is how many marks a worker collects while there is more to do.
	maxMarks = 1024
	// maxCacheAge is how long a cached document of a shared store is trusted as
	// the base of a compare-and-set, or half as long as a tombstone lives if that is
	// less: version numbers cannot begin again meanwhile.
	maxCacheAge = time.Hour
)

// job is one lane's share of a batch.
type job struct {
	lane   *lane
	calls  []*call
	fresh  bool             // the document was read from the store for this job
	doc    *shadow.Document // after the calls
	at     int64            // ms since the epoch of the last change
	change bool             // doc has to be committed
}

// worker does batches, with buffers that it keeps from one to the next.
type worker struct {
	s      *Service
	keys   []statestore.Key
	writes []statestore.Write
	marks  []statestore.Mark
	buf    []byte          // records and history entries of a batch
	asking context.Context // in which shadows are counted during a round, nil before the first
}

// work does batches until the service is closed and nothing is ready.
func (s *Service) work() {
	w := worker{s: s}
	jobs := make([]job, 0, 16)
	for {
		jobs = s.take(jobs[:0])
		if len(jobs) > 0 {
			w.run(jobs)
			s.release(jobs)
			clear(jobs)
		}
		if len(jobs) == 0 || len(w.marks) >= maxMarks {
			w.announced()
		}
		if len(jobs) == 0 && !s.await() {
			return
		}
	}
}

// run takes every job of a batch to its end, round by round.
func (w *worker) run(jobs []job) {
	open := make([]*job, len(jobs))
	for i := range jobs {
		open[i] = &jobs[i]
	}
	for attempt := 0; len(open) > 0; attempt++ {
		if attempt == maxAttempts {
			for _, j := range open {
				w.s.log.Error("gave up a shadow that other processes keep changing", "thing", j.lane.id.Thing, "shadow", j.lane.id.Name)
				w.fail(j)
			}
			break
		}
		open = w.round(open)
	}
}

// round loads, applies and commits once, and returns the jobs that need another round.
func (w *worker) round(jobs []*job) (again []*job) {
	jobs = w.load(jobs)
	now := w.s.now()
	w.writes, w.buf, w.asking = w.writes[:0], w.buf[:0], nil
	w.look(jobs, now)
	commits := jobs[:0:0]
	for _, j := range jobs {
		switch {
		case !w.apply(j, now):
			j.lane.loaded = false
			again = append(again, j)
		case j.change:
			w.writes = append(w.writes, w.write(j))
			commits = append(commits, j)
		default:
			w.settle(j)
		}
	}
	if len(commits) == 0 {
		return again
	}
	errs := w.commit()
	for i, j := range commits {
		if w.committed(j, errs, i) {
			again = append(again, j)
		}
	}
	return again
}

// load reads the documents that are not in memory, or perhaps stale. Jobs whose
// load fails are ended.
func (w *worker) load(jobs []*job) []*job {
	w.keys = w.keys[:0]
	var missing []*job
	for _, j := range jobs {
		if w.s.current(j) {
			w.s.stats.hits.Add(1)
			continue
		}
		w.s.stats.misses.Add(1)
		missing = append(missing, j)
		w.keys = append(w.keys, j.lane.key())
	}
	if len(missing) == 0 {
		return jobs
	}
	ctx := w.s.storeContext()
	now := w.s.now()
	records, err := w.s.store.Load(ctx, w.keys)
	if err != nil {
		w.s.log.Error("cannot load shadows", "err", err, "count", len(missing), "first_thing", missing[0].lane.id.Thing)
	}
	failed := map[*job]bool{}
	for i, j := range missing {
		if err != nil || !w.accept(j, records[i], now) {
			failed[j] = true
			w.fail(j)
		}
	}
	if len(failed) == 0 {
		return jobs
	}
	kept := jobs[:0:0]
	for _, j := range jobs {
		if !failed[j] {
			kept = append(kept, j)
		}
	}
	return kept
}

// current reports whether the lane's document can be used as it is. With a
// shared store only updates may start from memory: the compare-and-set finds
// out if another process was there. Everything else has to read.
func (s *Service) current(j *job) bool {
	l := j.lane
	if !l.loaded {
		return onlyFailed(j.calls)
	}
	now := s.now()
	if l.expires != 0 && now >= l.expires {
		l.doc, l.expires = nil, 0
	}
	if !s.store.Shared() || j.fresh {
		return true
	}
	if now-l.verified > min(maxCacheAge, s.tombstoneAge/2).Milliseconds() {
		return false
	}
	for _, c := range j.calls {
		if c.failed == nil && (c.kind != kindRequest || c.req.Op != shadow.OpUpdate) {
			return false
		}
	}
	return true
}

// onlyFailed reports that no call needs the document.
func onlyFailed(calls []*call) bool {
	for _, c := range calls {
		if c.failed == nil {
			return false
		}
	}
	return true
}

// accept takes a record into the lane. It reports false when the record is damaged or when
// what an unknown commit left cannot be announced yet.
func (w *worker) accept(j *job, r statestore.Record, now int64) bool {
	l := j.lane
	same := l.loaded && l.doc.Version() == r.Version && l.modified == r.Modified
	if !same {
		l.doc = nil
	}
	if r.Version != 0 && !same {
		doc, err := shadow.DecodeRecord(r.Version, r.Deleted, r.Body)
		if err != nil {
			w.s.log.Error("stored shadow is damaged", "err", err, "thing", l.id.Thing, "shadow", l.id.Name, "version", r.Version)
			return false
		}
		l.doc = doc
	}
	l.expires, l.modified, l.verified = r.Expires, r.Modified, now
	l.loaded, j.fresh = true, true
	return w.settleDoubt(l)
}

// write makes the store's write of a job. Its slices live in the worker's buffer until the next round.
func (w *worker) write(j *job) statestore.Write {
	l := j.lane
	out := statestore.Write{
		Key:      l.key(),
		Expect:   l.doc.Version(),
		Announce: l.doc.Version() + 1,
		Redoable: l.doc != nil && !l.doc.Deleted(),
		Seen:     l.verified,
	}
	for _, c := range j.calls {
		if c.change == nil {
			continue
		}
		out.Redoable = out.Redoable && c.req.Op == shadow.OpUpdate
		from := len(w.buf)
		w.buf = c.change.AppendHistory(w.buf, c.req.Author)
		out.History = append(out.History, statestore.Entry{
			Version: c.change.After.Version(),
			Time:    c.answer.Time,
			Body:    w.buf[from:len(w.buf):len(w.buf)],
		})
	}
	from := len(w.buf)
	w.buf = j.doc.AppendRecord(w.buf)
	out.Record = statestore.Record{
		Version:  j.doc.Version(),
		Deleted:  j.doc.Deleted(),
		Modified: j.at,
		Body:     w.buf[from:len(w.buf):len(w.buf)],
	}
	if j.doc.Deleted() {
		out.Record.Expires = j.at + w.s.tombstoneAge.Milliseconds()
	}
	return out
}

func (w *worker) commit() []error {
	ctx := w.s.storeContext()
	w.s.stats.commits.Add(1)
	return w.s.store.Commit(ctx, w.writes)
}

// committed ends a job by the result of its write, or reports that it has to be done again.
func (w *worker) committed(j *job, errs []error, i int) (again bool) {
	l := j.lane
	var err error
	if errs != nil {
		err = errs[i]
	}
	switch {
	case err == nil:
		l.doc, l.modified, l.expires = j.doc, j.at, w.writes[i].Record.Expires
		l.verified = j.at
		w.settle(j)
		w.marks = append(w.marks, statestore.Mark{Key: l.key(), Version: l.doc.Version() + 1})
		return false
	case errors.Is(err, statestore.ErrConflict):
		w.s.stats.conflicts.Add(1)
		l.loaded, j.fresh = false, false
		return true
	default:
		w.s.log.Error("cannot store a shadow", "err", err, "thing", l.id.Thing, "shadow", l.id.Name)
		l.doubt = l.doc.Version() + 1
		w.s.recoverLater(l)
		w.fail(j)
		return false
	}
}

// announced tells the store what need not be announced again. It waits for the publisher, but no request waits for
// it: the lanes are released, and other workers may begin.
func (w *worker) announced() {
	if len(w.marks) == 0 {
		return
	}
	defer func() { w.marks = w.marks[:0] }()
	ctx := w.s.storeContext()
	if err := w.s.pub.Flush(ctx); err != nil {
		w.s.log.Warn("messages may be announced again after a restart", "err", err)
		return
	}
	if err := w.s.store.Announced(ctx, w.marks); err != nil {
		w.s.log.Warn("cannot clear the outbox: messages may be announced again after a restart", "err", err)
	}
}
