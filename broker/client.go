package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/quota"
	"github.com/umbra-iot/umbra/shadow"
)

// client is what the broker keeps of one client id: its session, and the
// connection that owns the session now.
type client struct {
	id     string
	b      *Broker
	online atomic.Bool // there is a connection that has its CONNACK

	persistent atomic.Bool // the session outlives its connection
	refused    atomic.Bool // a refused publish was logged
	woken      atomic.Bool // something was read, of which no message was routed yet

	rights atomic.Pointer[box] // nil: everything is allowed

	mu        sync.Mutex // guards what follows
	gone      bool       // no longer in the registry
	sess      *session.Session
	conn      *conn  // owns the session, nil while offline
	live      bool   // conn has its CONNACK: messages may be written to it
	sessionID string // of events
	will      *will  // of the connection, or, while offline, waiting for its delay
	willAt    int64  // ms since the epoch when the waiting will is sent, 0 for that of conn
	timer     *time.Timer
	deltas    map[shadow.ID]uint64  // last version of the deltas that came while the current one was asked for
	waiting   map[uint16][]ackPlace // QoS 2 publishes under way, with the places of their repetitions
	last      Connection            // for GetConnection
	counted   session.Counters      // what the session dropped, as far as it is in the statistics
	warned    int64                 // ms since the epoch when it was logged last that the queue is full

	principal    *auth.Principal // to whom the session belongs, nil for nobody in particular
	link         *auth.Link      // of his last connection
	ownerChanged bool            // since it was drained
	ownerKept    bool            // it is in the store
	charged      charged         // to the account of the principal
	connects     quota.Meter     // CONNECT packets with the client id

	fetching    *fetching     // messages are on their way from the store, nil when there are none
	held        int64         // bytes of messages, as far as they are in Broker.held
	spilled     int64         // the same in Broker.spilled
	leaving     *will         // is being sent as a request, and kept in the store until that is done
	queued      bool          // the journal knows that there is something to store
	departing   chan struct{} // closed when the will that is being sent has gone out, nil when there is none
	willChanged bool          // since it was drained
	willKept    bool          // there is one in the store
}

// ackPlace is a place in the queue of a connection.
type ackPlace struct {
	c     *conn
	place uint64
}

// registry finds clients by id.
type registry struct {
	mu sync.Mutex
	m  map[string]*client
}

// lock returns the client of an id, made if need be, with its mutex locked.
func (r *registry) lock(b *Broker, id string) *client {
	for {
		r.mu.Lock()
		c := r.m[id]
		if c == nil {
			c = &client{id: id, b: b}
			c.sess = session.New(c.sessionConfig())
			r.m[id] = c
		}
		r.mu.Unlock()
		c.mu.Lock()
		if !c.gone {
			return c
		}
		c.mu.Unlock()
	}
}

func (c *client) sessionConfig() session.Config {
	b := c.b
	config := session.Config{
		MaxMessages: b.limits.QueueMessages, MaxBytes: b.limits.QueueBytes, Durable: b.journal != nil, Spare: c.spare,
	}
	if b.guard != nil {
		config.Receives = c.receives
	}
	return config
}

func (r *registry) get(id string) *client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m[id]
}

func (r *registry) all() []*client {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*client, 0, len(r.m))
	for _, c := range r.m {
		all = append(all, c)
	}
	return all
}

func (r *registry) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.m)
}

// remove forgets a client that holds nothing any more. c.mu is held.
func (r *registry) remove(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.gone = true
	delete(r.m, c.id)
}

// deliver hands a message over: QoS 1 and 2 to the session, QoS 0 to the
// connection.
func (c *client) deliver(m *wire.Message, e *topic.Entry[*client], why occasion, now int64) {
	c.mu.Lock()
	if c.gone && e.Shared {
		c.mu.Unlock()
		c.b.passOn(session.Delivery{Message: m, Share: e.Share()})
		return
	}
	defer c.unlock()
	source := why.source
	if source != nil && source.Replayed && c.holds(source) {
		return
	}
	if source != nil && source.Kind == shadow.KindDelta && c.deltas != nil {
		if _, asked := c.deltas[source.ID]; asked {
			c.deltas[source.ID] = source.Version
		}
	}
	c.hand(m, e, handling{
		retain:   m.Retain && e.RetainAsPublished,
		admitted: why.admitted && c.b.limits.QueueRefuses && c.persistent.Load(),
	}, now)
}

// handling is how a message is handed over.
type handling struct {
	retain   bool // flag of the packet
	admitted bool // there is room in the session, whatever has come in meanwhile
}

// hand is the one way of a message to a client. mu is held.
func (c *client) hand(m *wire.Message, e *topic.Entry[*client], how handling, now int64) {
	qos := min(m.QoS, e.QoS)
	if qos == 0 {
		c.send(m, e, how.retain, now)
		return
	}
	c.sess.Enqueue(session.Delivery{
		Message: m, QoS: qos, Retain: how.retain, Identifiers: e.Identifiers, Share: e.Share(), Admitted: how.admitted,
	}, now)
	c.pump(now, false)
}

// roomFor reports whether the session takes m without dropping anything.
func (c *client) roomFor(m *wire.Message, now int64) bool {
	c.mu.Lock()
	defer c.unlock()
	if c.sess.Fits(m, now) {
		return true
	}
	c.b.count.forbidden.Add(1)
	c.tellFull("refused", now)
	return false
}

// send writes a QoS 0 message, or drops it when the client does not keep up. mu is held.
func (c *client) send(m *wire.Message, e *topic.Entry[*client], retain bool, now int64) {
	if !c.live {
		return
	}
	k := c.conn
	if k.packetMax != 0 && uint32(wire.PublishSize(k.version, m, 0, e.Identifiers)) > k.packetMax {
		c.b.count.droppedTooBig.Add(1)
		return
	}
	if !k.out.room() {
		c.b.count.droppedSlow.Add(1)
		return
	}
	p := wire.Publish{Retain: retain, Identifiers: e.Identifiers, Now: now}
	k.alias(&p, m)
	k.out.shut(wire.AppendPublish(k.out.open(), k.version, m, p), false)
	c.b.count.messagesOut.Add(1)
}

// pump writes what the session has to send, as long as the connection keeps up.
// reader says that the caller is the connection's reading goroutine. mu is held.
func (c *client) pump(now int64, reader bool) {
	defer c.countDropped()
	if !c.live {
		return
	}
	k := c.conn
	for k.out.room() {
		p, ok := c.sess.Next(now)
		if !ok {
			c.fetch(c.sess.Missing(fetchMessages, fetchBytes))
			return
		}
		if p.Message != nil {
			k.alias(&p.Publish, p.Message)
			c.b.count.messagesOut.Add(1)
		}
		k.out.shut(p.Append(k.out.open(), k.version), reader)
	}
}

// countDropped takes over what the session dropped. mu is held.
func (c *client) countDropped() {
	n := c.sess.Counters()
	if n == c.counted {
		return
	}
	if n.Full != c.counted.Full {
		c.tellFull("dropped", c.b.now())
	}
	c.b.count.dropped(n, c.counted)
	c.counted = n
}

// warnInterval is how often a session's full queue is told of.
const warnInterval = time.Minute

// tellFull logs that messages are dropped, or refused, because the queue is full, and tells of it with an event, which
// leaves when no mutex is held. mu is held.
func (c *client) tellFull(kind string, now int64) {
	if now-c.warned < warnInterval.Milliseconds() {
		return
	}
	c.warned = now
	queued, dropped := c.sess.Len()+c.sess.InFlight(), c.sess.Counters().Full
	c.b.log.Warn("the queue of a session is full", "client_id", c.id, "messages_are", kind, "queued", queued, "dropped", dropped, "bytes_of_all_sessions", c.b.held.Load())
	e := c.event(kind, now)
	e.MessagesQueued, e.MessagesDropped = &queued, &dropped
	if c.b.begin() {
		go func() {
			defer c.b.tasks.Done()
			c.b.emit("queue/"+kind, e)
		}()
	}
}

// resume goes on delivering to k after it was slow.
func (c *client) resume(k *conn) {
	c.withSession(k, func() { c.pump(c.b.now(), false) })
	c.scanOn(k, false)
}

// withSession calls do with mu held if k still owns the session, and reports whether.
func (c *client) withSession(k *conn, do func()) bool {
	c.mu.Lock()
	defer c.unlock()
	if c.conn != k {
		return false
	}
	do()
	return true
}

// aftermath is what the end of a connection or session brings about: to be
// routed when no client's mutex is held.
type aftermath struct {
	left  *event // the disconnected event
	wills []departure
	heirs []session.Delivery // of shared subscriptions, for other members
}

// departure is a will that is due.
type departure struct {
	c *client
	w *will
}

// sendWill puts the will, if there is one, into an aftermath. Until it has gone out the client stays, and no new
// connection gets it: what that reports is newer. One that is a request is kept in the
// store until that is done; another one goes out of it together with what sending it stores. mu is held.
func (c *client) sendWill(a *aftermath) {
	w := c.will
	if w == nil {
		return
	}
	if _, ok := requestTopic(w.message.Topic); ok {
		c.leaving = w
	}
	c.setWill(nil)
	c.departing = make(chan struct{})
	a.wills = append(a.wills, departure{c, w})
}

// departed ends what sendWill began.
func (c *client) departed(a *aftermath) {
	c.mu.Lock()
	defer c.unlock()
	close(c.departing)
	c.departing = nil
	c.settle(c.b.now(), a)
}

// together does what ends a connection or a session, and publishes the
// aftermath. All of it is stored together.
func (b *Broker) together(do func(a *aftermath)) {
	b.journal.Group(func() {
		var a aftermath
		do(&a)
		if a.left != nil {
			b.emit("presence/disconnected", *a.left)
		}
		for _, d := range a.wills {
			b.sendWill(d.c, d.w)
			d.c.departed(&a)
		}
		for _, d := range a.heirs {
			b.passOn(d)
		}
	})
}

// detach ends the part of connection k in the session, unless another
// connection has taken it over.
func (c *client) detach(k *conn, end *cause) {
	c.b.together(func(a *aftermath) {
		c.withSession(k, func() {
			now := c.b.now()
			c.release(end, now, a)
			c.settle(now, a)
		})
	})
}

// release takes the session from its connection. A will that is due at once is
// in the aftermath, another one waits. mu is held.
func (c *client) release(end *cause, now int64, a *aftermath) {
	k := c.conn
	c.b.quotas.Give(k.owner, quota.Connections, 1)
	if k.expiring != nil {
		k.expiring.Stop()
	}
	c.conn, c.deltas = nil, nil
	c.noteTimed()
	c.sess.Disconnect(now)
	c.last.Connected, c.last.ConnectedSince, c.last.DisconnectedSince, c.last.DisconnectReason = false, 0, now, end.reason
	if c.live {
		c.live = false
		c.online.Store(false)
		c.b.count.connections.Add(-1)
		e := c.event("disconnected", now)
		e.ByClient, e.DisconnectReason, e.VersionNumber = &end.byClient, end.reason, &k.versionNumber
		a.left = &e
	}
	c.b.mapper.disconnected(k, c.will != nil && !end.noWill, end.byClient)
	if end.reason != reasonDuplicate { // the next connection tells of both
		c.b.present.end(k, now, end.reason)
	}
	switch {
	case c.will == nil:
	case end.noWill:
		c.setWill(nil)
	case c.will.delay == 0 || c.b.isClosing() && c.b.journal == nil:
		c.sendWill(a)
	default:
		c.willAt = now + c.will.delay.Milliseconds()
		c.setWill(c.will)
	}
}

// settle sees to a client that is offline: a will that is due is sent, a session
// that is over is forgotten, else a timer waits for that. mu is held.
func (c *client) settle(now int64, a *aftermath) {
	c.stopTimer()
	if c.conn != nil || c.gone {
		return
	}
	over := c.sess.Over(now)
	if c.will != nil && (over || c.willAt <= now) { // [MQTT-3.1.2-8]
		c.sendWill(a)
	}
	if over && c.leaving == nil && c.departing == nil && !c.bequeath(a) {
		c.sess.Forget()
		c.save() // before there can be another client of the same id
		c.charge("", 0)
		c.b.clients.remove(c)
		return
	}
	if over {
		return // until the will is sent, and what others get is read
	}
	next, ends := c.sess.ExpiresAt()
	if c.will != nil && (!ends || c.willAt < next) {
		next, ends = c.willAt, true
	}
	if ends && !c.b.isClosing() {
		c.timer = time.AfterFunc(time.Duration(next-now)*time.Millisecond, c.tick)
	}
}

func (c *client) stopTimer() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// tick does what settle has set the timer for.
func (c *client) tick() {
	if !c.b.begin() {
		return
	}
	defer c.b.tasks.Done()
	c.b.together(func(a *aftermath) {
		c.mu.Lock()
		defer c.unlock()
		c.settle(c.b.now(), a)
	})
}

// left notes that w, a request, is done.
func (c *client) left(w *will) {
	c.mu.Lock()
	defer c.unlock()
	if c.leaving != w {
		return
	}
	c.leaving = nil
	c.setWill(c.will)
	if c.conn == nil && !c.gone {
		c.stopTimer()
		c.timer = time.AfterFunc(0, c.tick)
	}
}

// dropSubscriptions takes the client out of the index. mu is held.
func (c *client) dropSubscriptions() {
	for s := range c.sess.Subscriptions("") {
		c.b.index.Remove(s.Filter, c)
	}
}

// shutDown ends the connection because the server stops.
func (c *client) shutDown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.stop(cause{code: 0x8B, text: "server shutting down", reason: reasonShutdown})
	}
}

// end stops the client's timer. A will that waits is sent unless it is stored: with the process the session is over.
func (c *client) end() {
	c.b.together(func(a *aftermath) {
		c.mu.Lock()
		defer c.unlock()
		c.stopTimer()
		if c.b.journal == nil {
			c.sendWill(a)
		}
	})
}
