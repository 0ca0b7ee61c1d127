package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync/atomic"
	"time"
	"unique"

	"github.com/umbra-iot/umbra/broker/journal"
	"github.com/umbra-iot/umbra/broker/retained"
	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/statestore"
)

// Spaces of the store.
const (
	spaceSessions byte = 1 // a partition for each client id: items of package session, and the will
	spaceRetained byte = 2 // items by topic, in partitions by a hash of the topic
	spaceMappings byte = 3 // devices of mappings by mapping and identity, in partitions by a hash of both
	spacePresence byte = 4 // presence by thing, in partitions by a hash of it
)

// keyWill is the key of a client's will. Package session has those before it.
const keyWill = "w"

// storedFormat is the version of the format of wills and retained messages, their first byte. A will that is a request
// has a number more, a retained message of somebody an owner: they have another format.
const (
	storedFormat  = 1
	numberedWill  = 2
	ownedRetained = 2
)

// errStored is the cause of errors about items that the broker cannot have written.
var errStored = errors.New("damaged or unknown item")

// unstored is the outcome of a publish that may or may not be durable.
var unstored = outcome{code: 0x80, text: "500 not stored", lost: true}

// unlock ends a use of the client in which it may have changed.
func (c *client) unlock() {
	c.account()
	c.save()
	c.mu.Unlock()
}

// save has the client's changes stored soon, or at once when a delivery waits for that. mu is held.
func (c *client) save() {
	if !c.queued && (c.willChanged || c.ownerChanged || c.sess.Changed()) {
		c.queued = true
		c.b.journal.Touch(c)
	}
	if c.sess.Waits() {
		c.b.journal.Kick()
	}
}

// setWill makes w the will of the client, nil for none. mu is held.
func (c *client) setWill(w *will) {
	c.will = w
	if c.b.journal != nil && (w != nil || c.willKept) {
		c.willChanged = true
	}
}

// Drain implements journal.Source.
func (c *client) Drain(b *journal.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queued = false
	items := c.b.drained[:0]
	b.Buf, items = c.sess.Drain(b.Buf, items)
	for _, it := range items {
		if it.Key == nil {
			c.willKept, c.willChanged, c.ownerKept = false, true, false
		}
		b.Items = append(b.Items, statestore.Item{Space: spaceSessions, Partition: c.id, Key: it.Key, Value: it.Value})
	}
	if c.willChanged {
		c.drainWill(b)
	}
	if it, changed := c.drainOwner(); changed {
		b.Items = append(b.Items, it)
	}
	clear(items)
	c.b.drained = items
}

func (c *client) drainWill(b *journal.Batch) {
	c.willChanged = false
	it := statestore.Item{Space: spaceSessions, Partition: c.id, Key: []byte(keyWill)}
	switch {
	case c.will != nil:
		from := len(b.Buf)
		b.Buf = c.will.appendTo(b.Buf, c.willAt)
		it.Value = b.Buf[from:len(b.Buf):len(b.Buf)]
	case c.leaving != nil:
		from := len(b.Buf)
		b.Buf = c.leaving.appendTo(b.Buf, 1) // due
		it.Value = b.Buf[from:len(b.Buf):len(b.Buf)]
	case !c.willKept:
		return
	}
	c.willKept = it.Value != nil
	b.Items = append(b.Items, it)
}

// Stored implements journal.Source.
func (c *client) Stored() {
	if k := c.afterStore(); k != nil {
		c.scanOn(k, false)
	}
}

// afterStore sends what had to be stored before. It returns the connection when all of that was dropped: no
// acknowledgement takes up its scan.
func (c *client) afterStore() *conn {
	c.mu.Lock()
	defer c.unlock()
	c.sess.Stored()
	c.spill()
	waited := c.sess.Len() > 0
	c.pump(c.b.now(), false)
	if waited && c.sess.Len()+c.sess.InFlight() == 0 {
		return c.conn
	}
	return nil
}

// appendTo appends the stored form of w. at is when it is due, 0 while its connection lasts.
func (w *will) appendTo(dst []byte, at int64) []byte {
	format := byte(storedFormat)
	if w.number != 0 {
		format = numberedWill
	}
	dst = append(dst, format)
	for _, n := range []int64{at, int64(w.delay / time.Second), int64(w.expiry / time.Second)} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	if w.number != 0 {
		dst = binary.AppendUvarint(dst, w.number)
	}
	return wire.AppendRecord(dst, wire.NewMessage(w.message))
}

// parseWill returns the will of a client from its stored form.
func parseWill(clientID string, value []byte) (w *will, at int64, err error) {
	if len(value) == 0 || value[0] != storedFormat && value[0] != numberedWill {
		return nil, 0, errStored
	}
	numbers := make([]uint64, 4)
	if value[0] == storedFormat {
		numbers = numbers[:3]
	}
	value = value[1:]
	for i := range numbers {
		v, n := binary.Uvarint(value)
		if n <= 0 {
			return nil, 0, errStored
		}
		numbers[i], value = v, value[n:]
	}
	numbers = append(numbers, 0)
	m, err := wire.ParseRecord(value)
	if err != nil {
		return nil, 0, err
	}
	return &will{
		clientID: clientID, message: *m,
		delay: time.Duration(numbers[1]) * time.Second, expiry: time.Duration(numbers[2]) * time.Second, number: numbers[3],
	}, int64(numbers[0]), nil
}

// keptMessages is the retained messages as a source of the journal.
type keptMessages struct {
	b      *Broker // nil when nothing is stored
	queued atomic.Bool
}

// changed has what changed stored.
func (k *keptMessages) changed() {
	if k.b != nil && !k.queued.Swap(true) {
		k.b.journal.Touch(k)
	}
}

// Drain implements journal.Source.
func (k *keptMessages) Drain(b *journal.Batch) {
	k.queued.Store(false)
	k.b.retained.Changes(func(name string, m retained.Message, ok bool) {
		it := statestore.Item{Space: spaceRetained, Partition: retainedPartition(name), Key: []byte(name)}
		if ok {
			from := len(b.Buf)
			b.Buf = appendRetained(b.Buf, m)
			it.Value = b.Buf[from:len(b.Buf):len(b.Buf)]
		}
		b.Items = append(b.Items, it)
	})
}

// Stored implements journal.Source.
func (k *keptMessages) Stored() {}

// appendRetained appends the stored form of a retained message.
func appendRetained(dst []byte, m retained.Message) []byte {
	format := byte(storedFormat)
	if m.Owner != "" {
		format = ownedRetained
	}
	dst = binary.AppendUvarint(append(dst, format), uint64(m.Modified))
	if m.Owner != "" {
		dst = binary.AppendUvarint(dst, uint64(len(m.Owner)))
		dst = append(dst, m.Owner...)
	}
	return wire.AppendRecord(dst, m.Message)
}

// parseRetained returns a retained message from its stored form.
func parseRetained(value []byte) (m retained.Message, err error) {
	if len(value) == 0 || value[0] != storedFormat && value[0] != ownedRetained {
		return m, errStored
	}
	modified, n := binary.Uvarint(value[1:])
	if n <= 0 {
		return m, errStored
	}
	rest := value[1+n:]
	if value[0] == ownedRetained {
		length, n := binary.Uvarint(rest)
		if n <= 0 || length > uint64(len(rest)-n) {
			return m, errStored
		}
		end := n + int(length)
		m.Owner, rest = unique.Make(string(rest[n:end])).Value(), rest[end:]
	}
	m.Modified = int64(modified)
	m.Message, err = wire.ParseRecord(rest)
	return m, err //nolint:wrapcheck // the caller says of what
}

// retainedPartition spreads retained messages, so that no partition is too large to be read at once.
func retainedPartition(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return fmt.Sprintf("%02x", byte(h.Sum32()))
}

// Restore reads sessions, wills and retained messages from the store. Nothing is sent before Start.
func (b *Broker) Restore(ctx context.Context) error {
	if b.journal == nil {
		return nil
	}
	r := restorer{b: b, now: b.now()}
	err := b.store.Scan(ctx, spaceSessions, r.item)
	if err == nil {
		err = r.client()
	}
	if err == nil {
		err = b.store.Scan(ctx, spaceRetained, b.restoreRetained)
	}
	if err == nil {
		err = b.store.Scan(ctx, spaceMappings, b.mapper.restore)
	}
	if err == nil {
		err = b.store.Scan(ctx, spacePresence, b.present.restore)
	}
	if err == nil {
		err = b.resolveAll(ctx)
	}
	if err != nil {
		return fmt.Errorf("broker: restore: %w", err)
	}
	b.present.restored(b.now())
	if n := b.clients.len(); n > 0 || b.retained.Len() > 0 {
		b.log.Info("restored what the last run stored", "sessions", n, "retained", b.retained.Len())
	}
	return nil
}

// Start sends the wills of connections that the last run left, and removes sessions that are over. It is called
// after Restore and after the service has announced what the last run did not, before the first connection.
func (b *Broker) Start() {
	b.startMappings(func() {
		for _, c := range b.clients.all() {
			b.together(func(a *aftermath) {
				c.mu.Lock()
				defer c.unlock()
				c.settle(b.now(), a)
			})
		}
	})
	b.awaitExpiry()
}

func (b *Broker) restoreRetained(it statestore.Item) error {
	m, err := parseRetained(it.Value)
	if err != nil {
		return err
	}
	b.retained.Restore(m)
	return nil
}

// restorer makes clients of stored items, which come client by client.
type restorer struct {
	b   *Broker
	now int64

	id    string
	items []session.Item // of the session
	will  []byte         // nil for none
	owner []byte         // the same
}

func (r *restorer) item(it statestore.Item) error {
	if it.Partition != r.id {
		if err := r.client(); err != nil {
			return err
		}
		r.id = it.Partition
	}
	value := append([]byte(nil), it.Value...)
	switch string(it.Key) {
	case keyWill:
		r.will = value
		return nil
	case keyOwner:
		r.owner = value
		return nil
	}
	r.items = append(r.items, session.Item{Key: append([]byte(nil), it.Key...), Value: value})
	return nil
}

// client makes the client whose items are complete.
func (r *restorer) client() error {
	defer func() { r.items, r.will, r.owner = r.items[:0], nil, nil }()
	if len(r.items) == 0 && r.will == nil {
		return nil
	}
	c := r.b.clients.lock(r.b, strings.Clone(r.id))
	defer c.unlock()
	if err := r.restore(c); err != nil {
		return fmt.Errorf("session of client %q: %w", r.id, err)
	}
	return nil
}

func (r *restorer) restore(c *client) error {
	c.sessionID = newSessionID()
	if err := c.restoreOwner(r.owner); err != nil {
		return err
	}
	c.last = Connection{ClientID: c.id, DisconnectedSince: r.now, DisconnectReason: reasonLost}
	if len(r.items) > 0 {
		s, _, err := session.Restore(c.sessionConfig(), r.items, r.now)
		if err != nil {
			return err
		}
		c.sess = s
		c.spill()
		c.persistent.Store(true)
		c.last.SessionExpiry, c.last.DisconnectedSince = time.Duration(s.Expiry())*time.Second, s.Ended()
		for sub := range s.Subscriptions("") {
			if _, err := r.b.index.Set(sub.Filter, c, sub.Options); err != nil {
				r.b.log.Warn("a stored subscription is not possible any more", "client_id", c.id, "filter", sub.Filter, "err", err)
			}
		}
	}
	if r.will == nil {
		return nil
	}
	w, at, err := parseWill(c.id, r.will)
	if err != nil {
		return err
	}
	w.owner, w.principal, w.link = c.principal, known(c.principal), c.link
	if kept := c.rights.Load(); kept != nil {
		w.rights = kept.Rights
	}
	c.will, c.willAt, c.willKept = w, at, true
	if at == 0 { // the end of the last run has ended the connection
		c.willAt, c.willChanged = r.now+w.delay.Milliseconds(), true
	}
	return nil
}

// Flush implements [things.Publisher]: it waits until what was published is durable for all sessions that outlive
// their connection.
func (b *Broker) Flush(ctx context.Context) error {
	if err := b.journal.Wait(ctx); err != nil {
		return fmt.Errorf("broker: sessions are not stored: %w", err)
	}
	return nil
}

// Close stores what is left to be stored, for as long as ctx lasts. It comes after Shutdown and after the Close of the
// service, and before that of the store.
func (b *Broker) Close(ctx context.Context) error {
	if err := b.journal.Close(ctx); err != nil {
		return fmt.Errorf("broker: sessions are not stored: %w", err)
	}
	return nil
}

// commit waits until everything that the connection has changed is durable. False means that this is not known: the
// connection has to end.
func (c *conn) commit() bool {
	if !c.client.persistent.Load() {
		return true
	}
	return c.wait()
}

// wait is commit for a connection whose client may have changed from one that is stored to one that is not.
func (c *conn) wait() bool {
	c.out.flush()
	if err := c.b.journal.Wait(context.Background()); err != nil { // the journal bounds it
		c.fail(storeFails())
		return false
	}
	return true
}

// confirm acknowledges a publish with its outcome, when what it has changed is durable.
func (c *conn) confirm(place uint64, kind ackKind, o outcome, reader bool) {
	if !o.waits || kind == ackNone {
		c.answer(place, kind, o, reader)
		return
	}
	c.b.journal.After(func(err error) {
		if err != nil && o.code < wire.ReasonFailure {
			o = unstored
		}
		c.answer(place, kind, o, false)
	})
}
