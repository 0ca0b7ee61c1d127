package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/umbra-iot/umbra/statestore"
)

const (
	// callWrites bounds the writes of one call of the script, for which Redis does nothing else.
	callWrites = 128
	// trimEvery is the number of versions after which the history of a shadow is shortened.
	trimEvery = 32
)

// Commit implements statestore.Store.
func (s *Store) Commit(ctx context.Context, writes []statestore.Write) []error {
	if err := s.begin(ctx); err != nil {
		return slices.Repeat([]error{err}, len(writes))
	}
	if len(writes) == 0 {
		return nil
	}
	c := s.newCommit(writes)
	err := s.retry(ctx, func() error { return c.send(ctx) })
	return c.errors(err)
}

// commit is a Commit under way.
type commit struct {
	s      *Store
	now    int64
	writes []write
	calls  []*call
}

// write is one write of a commit.
type write struct {
	*statestore.Write
	id    uint64
	known bool // the outcome is
	sent  bool // an attempt may have arrived although it was not answered
	err   error
}

// call is a call of the script, which does several writes.
type call struct {
	writes []*write
	bucket int   // of the outbox
	mark   *mark // nil: none of the writes has to be announced
	value  []byte
	gone   []string // fields of marks that it removes
}

func (s *Store) newCommit(writes []statestore.Write) *commit {
	c := &commit{s: s, now: s.options.Now().UnixMilli(), writes: make([]write, len(writes))}
	open := map[int]*call{}
	for i := range writes {
		w := &c.writes[i]
		w.Write, w.id = &writes[i], s.writeID.Add(1)
		bucket := 0
		if s.cluster { // only keys of one slot can be in one call
			bucket = bucketOf(w.Key.Thing)
		}
		to := open[bucket]
		if to == nil || len(to.writes) == callWrites {
			to = &call{bucket: bucket}
			open[bucket] = to
			c.calls = append(c.calls, to)
		}
		to.writes = append(to.writes, w)
	}
	for _, to := range c.calls {
		to.setMark(&s.outbox)
		to.gone = s.outbox.take(to.bucket)
	}
	return c
}

// setMark makes a mark for the writes that have to be announced.
func (c *call) setMark(o *outbox) {
	list := make([]due, 0, len(c.writes))
	for _, w := range c.writes {
		if w.Announce != 0 {
			list = append(list, due{key: w.Key, first: w.Announce, last: w.Record.Version})
			c.value = appendDue(c.value, &list[len(list)-1], nameOf(w.Key))
		}
	}
	if len(list) > 0 {
		c.mark = &mark{bucket: c.bucket, field: strconv.FormatUint(c.writes[0].id, 16)}
		o.add(c.mark, list)
	}
}

// open returns the writes whose outcome is not known.
func (c *call) open() []*write {
	if !slices.ContainsFunc(c.writes, func(w *write) bool { return w.known }) {
		return c.writes
	}
	var list []*write
	for _, w := range c.writes {
		if !w.known {
			list = append(list, w)
		}
	}
	return list
}

// args returns the arguments of the script for some of the writes.
func (c *commit) args(to *call, writes []*write) []any {
	k := c.s.keys
	args := make([]any, 0, 12+len(to.gone)+8*len(writes))
	args = append(args, "evalsha", c.s.write.sha, 1+len(writes), k.outbox(to.bucket))
	for _, w := range writes {
		args = append(args, k.shadow(w.Key))
	}
	field := ""
	if to.mark != nil {
		field = to.mark.field
	}
	args = append(args, appendPadded(nil, uint64(c.now), timeLen, 10), len(k.tags[0]), trimEvery, c.s.options.HistoryLimit+2,
		field, to.value, len(to.gone))
	for _, field := range to.gone {
		args = append(args, field)
	}
	for _, w := range writes {
		args = c.s.appendWrite(args, w)
	}
	return args
}

// appendWrite appends the arguments of the script that say what w does.
func (s *Store) appendWrite(args []any, w *write) []any {
	headers := appendStart(make([]byte, 0, startLen+headerLen), w.Expect, 0, false)
	headers = appendHeader(headers, &w.Record, w.id)
	limit := uint64(s.options.HistoryLimit)
	keep := ""
	if w.Record.Version/trimEvery != w.Expect/trimEvery && w.Record.Version > limit {
		keep = strconv.FormatUint(w.Record.Version-limit+1, 10)
	}
	args = append(args, headers[:startLen], headers[startLen:], w.Record.Body, keep, 0)
	count := len(args) - 1
	for i := range w.History {
		e := &w.History[i]
		if e.Version+limit > w.Record.Version {
			args = append(args, strconv.FormatUint(e.Version, 10), appendEntry(make([]byte, 0, timeLen+len(e.Body)), e))
		}
	}
	args[count] = (len(args) - count - 1) / 2
	return args
}

// writeCommand is a command that only this package sends again: the client does
// not know whether an answer after that is about this attempt or the last one.
type writeCommand struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (writeCommand) NoRetry() bool { return true }

// send sends the writes whose outcome is not known, and returns an error while
// there are any that are worth another attempt.
func (c *commit) send(ctx context.Context) error {
	again, err := c.exchange(ctx, false)
	if err == nil && again {
		// Redis has lost the script. EVAL brings it back.
		_, err = c.exchange(ctx, true)
	}
	return err
}

// exchange makes one round trip. again is true when Redis did not know the script.
func (c *commit) exchange(ctx context.Context, withSource bool) (again bool, err error) {
	pipe := c.s.client.Pipeline()
	commands := make([]*redis.Cmd, len(c.calls))
	sent := make([][]*write, len(c.calls))
	for i, to := range c.calls {
		if sent[i] = to.open(); len(sent[i]) == 0 {
			continue
		}
		args := c.args(to, sent[i])
		if withSource {
			args[0], args[1] = "eval", c.s.write.source
		}
		commands[i] = redis.NewCmd(ctx, args...)
		commands[i].SetFirstKeyPos(3)
		_ = pipe.Process(ctx, writeCommand{commands[i]}) // only queues it
	}
	_, failure := pipe.Exec(ctx)
	for i, command := range commands {
		if command == nil {
			continue
		}
		failed, replyErr := command.Slice()
		switch {
		case replyErr == nil:
			settle(sent[i], failed)
			c.calls[i].gone = nil
		case redis.HasErrorPrefix(replyErr, "NOSCRIPT"):
			again = true
		case isReply(replyErr) && !temporary(replyErr):
			for _, w := range sent[i] {
				w.known, w.err = true, replyErr
			}
		case command.Err() == nil: // nothing was exchanged at all
			err = failure
		default:
			for _, w := range sent[i] {
				w.sent = w.sent || !isReply(replyErr) && !isDial(replyErr)
			}
			err = replyErr
		}
	}
	return again, err
}

// settle notes what the script answered: pairs of the number of a write and why it was not done.
func settle(writes []*write, failed []any) {
	for _, w := range writes {
		w.known = true
	}
	for _, f := range failed {
		pair, _ := f.([]any)
		if len(pair) != 2 {
			continue
		}
		n, _ := pair[0].(int64)
		w := writes[n-1]
		if text, ok := pair[1].(string); ok {
			w.err = errors.New(text)
		} else {
			w.err = statestore.ErrConflict
		}
	}
}

// errors returns the answer of Commit. err is why writes without a known outcome have none.
func (c *commit) errors(err error) []error {
	failed := false
	for _, to := range c.calls {
		c.s.outbox.putBack(to.bucket, to.gone)
		for _, w := range to.writes {
			w.err = w.outcome(c.s, err)
			failed = failed || w.err != nil
			if w.err != nil && w.Announce != 0 && !errors.Is(w.err, errUnknown) {
				c.s.outbox.undone(w.Key, to.mark)
			}
		}
	}
	if !failed {
		return nil
	}
	errs := make([]error, len(c.writes))
	for i := range c.writes {
		errs[i] = c.writes[i].err
	}
	return errs
}

// errUnknown is the result of a write that may or may not be done.
var errUnknown = errors.New("the write may or may not be done")

func (w *write) outcome(s *Store, err error) error {
	switch {
	case w.known && errors.Is(w.err, statestore.ErrConflict) && w.sent:
		// The conflict may be with the version that an earlier attempt wrote
		// and somebody else has replaced.
		return s.failure("commit", errUnknown)
	case w.known && (w.err == nil || errors.Is(w.err, statestore.ErrConflict)):
		return w.err
	case w.known:
		return s.failure("commit", w.err)
	case w.sent:
		return s.failure("commit", fmt.Errorf("%w: %w", errUnknown, err))
	}
	return s.failure("commit", err)
}
