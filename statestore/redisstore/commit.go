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

// Commit implements statestore.Store.
func (s *Store) Commit(ctx context.Context, writes []statestore.Write) []error {
	if err := s.begin(ctx); err != nil {
		return slices.Repeat([]error{err}, len(writes))
	}
	if len(writes) == 0 {
		return nil
	}
	c := s.newCommit(writes)
	err := s.retry(ctx, func() error { return c.send(ctx, s) })
	return c.errors(s, err)
}

// commit is a Commit under way.
type commit struct {
	calls []call
}

// call is one write of a commit: a call of the script.
type call struct {
	args      []any // of EVALSHA
	announced []statestore.Mark
	known     bool // the outcome is
	done      bool // by this call, when known
	sent      bool // an attempt may have arrived although it was not answered
	err       error
}

func (s *Store) newCommit(writes []statestore.Write) *commit {
	c := &commit{calls: make([]call, len(writes))}
	now := s.options.Now().UnixMilli()
	for i := range writes {
		w := &writes[i]
		c.calls[i].announced = s.outbox.take(bucketOf(w.Key.Thing))
		c.calls[i].args = s.writeArgs(w, c.calls[i].announced, now)
	}
	return c
}

// writeArgs returns the call of the script that does w, and says along with it
// which versions of other shadows of the bucket are announced.
func (s *Store) writeArgs(w *statestore.Write, announced []statestore.Mark, now int64) []any {
	bucket, name := bucketOf(w.Key.Thing), field(w.Key)
	record := appendRecord(make([]byte, 0, headerLen+len(w.Record.Body)), &w.Record, s.writeID.Add(1))
	expires, announce := "", ""
	if w.Record.Expires != 0 {
		expires = strconv.FormatInt(w.Record.Expires, 10)
	}
	if w.Announce != 0 {
		announce = padded(w.Announce)
	}
	tag := s.keys.tags[bucket]
	args := make([]any, 0, 19+2*len(announced)+len(w.History))
	args = append(args, "evalsha", s.write.sha, 5,
		tag+"doc:"+name, tag+"log:"+name, s.keys.shadows(w.Key.Thing), s.keys.things(bucket), s.keys.outbox(bucket),
		padded(w.Expect), now, record, expires, s.options.HistoryLimit, s.options.HistoryAge.Milliseconds(),
		announce, name, w.Key.Shadow, w.Key.Thing, len(announced))
	args = appendMarks(args, announced)
	for i := range w.History {
		e := &w.History[i]
		if e.Version+uint64(s.options.HistoryLimit) > w.Record.Version {
			args = append(args, appendEntry(make([]byte, 0, entryLen+len(e.Body)), e))
		}
	}
	return args
}

// writeCommand is a command that only this package sends again: the client does
// not know whether an answer after that is about this attempt or the last one.
type writeCommand struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (writeCommand) NoRetry() bool { return true }

// send sends the calls whose outcome is not known, and returns an error while
// there are any that are worth another attempt.
func (c *commit) send(ctx context.Context, s *Store) error {
	again, err := c.exchange(ctx, s, false)
	if err == nil && again {
		// Redis has lost the script. EVAL brings it back.
		_, err = c.exchange(ctx, s, true)
	}
	return err
}

// exchange makes one round trip. again is true when Redis did not know the script.
func (c *commit) exchange(ctx context.Context, s *Store, withSource bool) (again bool, err error) {
	pipe := s.client.Pipeline()
	commands := make([]*redis.Cmd, len(c.calls))
	for i := range c.calls {
		if c.calls[i].known {
			continue
		}
		commands[i] = c.calls[i].command(ctx, s.write, withSource)
		_ = pipe.Process(ctx, writeCommand{commands[i]}) // only queues it
	}
	_, failure := pipe.Exec(ctx)
	for i, command := range commands {
		if command == nil {
			continue
		}
		call := &c.calls[i]
		switch done, replyErr := command.Int(); {
		case replyErr == nil:
			call.known, call.done = true, done == 1
		case redis.HasErrorPrefix(replyErr, "NOSCRIPT"):
			again = true
		case isReply(replyErr) && !temporary(replyErr):
			call.known, call.err = true, replyErr
		case command.Err() == nil: // nothing was exchanged at all
			err = failure
		default:
			call.sent = call.sent || !isReply(replyErr) && !isDial(replyErr)
			err = replyErr
		}
	}
	return again, err
}

func (c *call) command(ctx context.Context, write script, withSource bool) *redis.Cmd {
	args := c.args
	if withSource {
		args = slices.Clone(args)
		args[0], args[1] = "eval", write.source
	}
	command := redis.NewCmd(ctx, args...)
	command.SetFirstKeyPos(3)
	return command
}

// errors returns the answer of Commit. err is why calls without a known outcome have none.
func (c *commit) errors(s *Store, err error) []error {
	errs := make([]error, len(c.calls))
	failed := false
	for i := range c.calls {
		if errs[i] = c.calls[i].outcome(s, err); errs[i] == nil {
			continue
		}
		failed = true
		if !errors.Is(errs[i], statestore.ErrConflict) {
			s.outbox.add(c.calls[i].announced)
		}
	}
	if !failed {
		return nil
	}
	return errs
}

// errUnknown is the result of a write that may or may not be done.
var errUnknown = errors.New("the write may or may not be done")

func (c *call) outcome(s *Store, err error) error {
	switch {
	case c.known && c.err != nil:
		return s.failure("commit", c.err)
	case c.known && c.done:
		return nil
	case c.known && c.sent:
		// The conflict may be with the version that an earlier attempt wrote
		// and somebody else has replaced.
		return s.failure("commit", errUnknown)
	case c.known:
		return statestore.ErrConflict
	case c.sent:
		return s.failure("commit", fmt.Errorf("%w: %w", errUnknown, err))
	}
	return s.failure("commit", err)
}
