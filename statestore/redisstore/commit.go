package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/umbra-iot/umbra/statestore"
)

const (
	// groupWrites bounds the writes that one mark stands for.
	groupWrites = 128
	// bodyEvery is the number of versions after which a body is kept though history would do. It bounds what has to be
	// read and done once more to load a record.
	bodyEvery = 16
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
	groups []*group
}

// write is one write of a commit.
type write struct {
	*statestore.Write
	id    uint64
	known bool // the outcome is
	sent  bool // an attempt may have done it
	err   error
}

// group is writes with one mark for all. The mark is made before them, on the same connection.
type group struct {
	writes  []*write
	bucket  int   // of the outbox
	mark    *mark // nil: none of the writes has to be announced
	value   []byte
	marked  bool     // the mark was made
	markErr error    // why it will not be
	gone    []string // fields of marks that go at the same time
}

func (s *Store) newCommit(writes []statestore.Write) *commit {
	c := &commit{s: s, now: s.options.Now().UnixMilli(), writes: make([]write, len(writes))}
	open := map[int]*group{}
	for i := range writes {
		w := &c.writes[i]
		w.Write, w.id = &writes[i], s.writeID.Add(1)
		bucket := 0
		if s.cluster { // the mark has to be where the writes are
			bucket = bucketOf(w.Key.Thing)
		}
		to := open[bucket]
		if to == nil || len(to.writes) == groupWrites {
			to = &group{bucket: bucket}
			open[bucket] = to
			c.groups = append(c.groups, to)
		}
		to.writes = append(to.writes, w)
	}
	for _, to := range c.groups {
		to.setMark(&s.outbox)
		to.gone = s.outbox.take(to.bucket)
	}
	return c
}

// setMark makes a mark for the writes that have to be announced.
func (g *group) setMark(o *outbox) {
	list := make([]due, 0, len(g.writes))
	for _, w := range g.writes {
		if w.Announce != 0 {
			list = append(list, due{key: w.Key, first: w.Announce, last: w.Record.Version})
			g.value = appendDue(g.value, &list[len(list)-1], nameOf(w.Key))
		}
	}
	if len(list) > 0 {
		g.mark = &mark{bucket: g.bucket, field: strconv.FormatUint(g.writes[0].id, 16)}
		o.add(g.mark, list)
	}
}

// open returns the writes whose outcome is not known.
func (g *group) open() []*write {
	if !slices.ContainsFunc(g.writes, func(w *write) bool { return w.known }) {
		return g.writes
	}
	var list []*write
	for _, w := range g.writes {
		if !w.known {
			list = append(list, w)
		}
	}
	return list
}

// usual reports whether w is done by a plain XADD: it follows a live record that has not gone out of sight since this
// process last saw it, and no earlier attempt may have done it. Anything else takes the script, which looks first.
//
// XADD takes an entry only behind the last one, and the id of a commit's entry is the version after the expected one.
// So it refuses whoever comes second. It would not notice that Redis has lost the end of what it had; but Redis does
// so only when it starts or another server takes its place, and that needs another connection.
func (s *Store) usual(w *write) bool {
	return w.Redoable && !w.sent && s.redoes() && w.Seen > s.connected.Load()
}

// redoes reports whether records may be kept as history.
func (s *Store) redoes() bool { return s.options.Redo != nil && s.options.HistoryLimit >= bodyEvery }

// addArgs returns XADD for w.
func (s *Store) addArgs(w *write) []any {
	args := make([]any, 0, 11+2*len(w.History))
	args = append(args, "xadd", s.keys.shadow(w.Key), "nomkstream", "maxlen", "~", s.options.HistoryLimit, w.Expect+1)
	return s.appendFields(args, w, w.Record.Version/bodyEvery != w.Expect/bodyEvery)
}

// scriptArgs returns EVALSHA, or EVAL, for w.
func (c *commit) scriptArgs(w *write, withSource bool) []any {
	s := c.s
	mode, keep := "~", s.options.HistoryLimit
	if keep < bodyEvery {
		mode, keep = "=", max(keep, 1)
	}
	name, script := "evalsha", s.write.sha
	if withSource {
		name, script = "eval", s.write.source
	}
	headers := appendHeader(appendStart(make([]byte, 0, startLen+headerLen), w.Expect, 0, false), &w.Record, w.id)
	args := make([]any, 0, 15+2*len(w.History))
	args = append(args, name, script, 1, s.keys.shadow(w.Key),
		appendPadded(nil, uint64(c.now), timeLen, 10), len(s.keys.tags[0]),
		headers[:startLen], headers[startLen:], mode, keep, w.Expect+1)
	return s.appendFields(args, w, true)
}

// appendFields appends the fields of w's entry. With the body, history that is beyond the limit is not needed.
func (s *Store) appendFields(args []any, w *write, body bool) []any {
	args = append(args, headerField, appendHeader(make([]byte, 0, headerLen), &w.Record, w.id))
	if body {
		args = append(args, bodyField, w.Record.Body)
	}
	for i := range w.History {
		e := &w.History[i]
		if !body || e.Version+uint64(s.options.HistoryLimit) > w.Record.Version {
			args = append(args, strconv.FormatUint(e.Version, 10), appendEntry(make([]byte, 0, timeLen+len(e.Body)), e))
		}
	}
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
		_, err = c.exchange(ctx, true)
	}
	return err
}

// exchange is one round trip of a commit.
type exchange struct {
	*commit
	withSource bool
	pipe       redis.Pipeliner
	sent       []sent
	again      bool  // another one is needed at once, with the source of the script
	err        error // why another one is needed after a while
}

// sent is a command of an exchange.
type sent struct {
	*redis.Cmd
	group *group
	write *write // nil: the command makes the mark
	usual bool   // the write is an XADD
}

func (c *commit) exchange(ctx context.Context, withSource bool) (again bool, err error) {
	x := exchange{commit: c, withSource: withSource, pipe: c.s.client.Pipeline()}
	connected := c.s.connected.Load()
	var gone []*redis.IntCmd
	for _, to := range c.groups {
		gone = append(gone, x.queue(ctx, to))
	}
	_, failure := x.pipe.Exec(ctx)
	if failure != nil && !slices.ContainsFunc(x.sent, sent.answered) {
		return false, failure
	}
	reconnected := c.s.connected.Load() != connected
	for i := range x.sent {
		x.settle(&x.sent[i], reconnected)
	}
	for i, to := range c.groups {
		if gone[i] != nil && gone[i].Err() == nil {
			to.gone = nil
		}
	}
	return x.again, x.err
}

// queue queues what has to be sent of a call. It returns the command that removes marks, if any.
func (x *exchange) queue(ctx context.Context, to *group) (gone *redis.IntCmd) {
	writes := to.open()
	outbox := x.s.keys.outbox(to.bucket)
	if to.mark != nil && !to.marked && to.markErr == nil {
		x.add(ctx, sent{Cmd: redis.NewCmd(ctx, "hset", outbox, to.mark.field, to.value), group: to})
	}
	if len(to.gone) > 0 && len(writes) > 0 {
		gone = x.pipe.HDel(ctx, outbox, to.gone...)
	}
	for _, w := range writes {
		if x.s.usual(w) {
			x.add(ctx, sent{Cmd: redis.NewCmd(ctx, x.s.addArgs(w)...), group: to, write: w, usual: true})
			continue
		}
		command := redis.NewCmd(ctx, x.scriptArgs(w, x.withSource)...)
		command.SetFirstKeyPos(3)
		x.add(ctx, sent{Cmd: command, group: to, write: w})
	}
	return gone
}

func (x *exchange) add(ctx context.Context, c sent) {
	_ = x.pipe.Process(ctx, writeCommand{c.Cmd}) // only queues it
	x.sent = append(x.sent, c)
}

// answered reports whether anything is known of the command.
func (c sent) answered() bool { return c.Err() != nil || c.Val() != nil }

// settle notes what came of a command.
func (x *exchange) settle(c *sent, reconnected bool) {
	err := c.Err()
	switch {
	case c.write == nil && err == nil:
		c.group.marked = true
	case c.write == nil && isReply(err) && !temporary(err):
		c.group.markErr = err
	case err == nil && c.usual && reconnected:
		// It may stand behind a version that is not the expected one: the script looks.
		c.write.sent, x.again = true, true
	case err == nil:
		c.write.known = true
		if n, ok := c.Val().(int64); ok && n <= 0 {
			c.write.err = statestore.ErrConflict
			c.write.sent = c.write.sent && n == 0
		}
	case c.usual && (errors.Is(err, redis.Nil) || isReply(err) && strings.Contains(err.Error(), "equal or smaller")):
		c.write.known, c.write.err = true, statestore.ErrConflict
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		x.again = true
	case isReply(err) && !temporary(err):
		c.write.known, c.write.err = true, err
	default:
		if c.write != nil {
			c.write.sent = c.write.sent || !isReply(err) && !isDial(err)
		}
		x.err = err
	}
}

// errors returns the answer of Commit. err is why writes without a known outcome have none.
func (c *commit) errors(err error) []error {
	failed := false
	for _, to := range c.groups {
		c.s.outbox.putBack(to.bucket, to.gone)
		for _, w := range to.writes {
			if w.err == nil && w.known && w.Announce != 0 && to.mark != nil && !to.marked {
				w.err = fmt.Errorf("%w announced: %w", errUnknown, cmp.Or(to.markErr, err))
			}
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
	case w.known && !w.sent || errors.Is(w.err, errUnknown):
		return s.failure("commit", w.err)
	case w.sent: // also when a later attempt was refused
		return s.failure("commit", fmt.Errorf("%w: %w", errUnknown, cmp.Or(w.err, err)))
	}
	return s.failure("commit", err)
}
