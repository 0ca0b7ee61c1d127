// Package broker is the embedded MQTT server, versions 3.1.1 and 5.
//
// The packets package of mochi-mqtt is the decoder (reader.go). All the rest is
// done here: which client id has which session and connection (client.go,
// connect.go), who gets a message (router.go), what a connection still has to
// be told (outbox.go), who may do what (access.go), acknowledgements in order (acks.go), retained messages
// and delta on subscribe (subscribe.go), wills (will.go), events (events.go).
//
// # A publish
//
// A PUBLISH to a request topic of a shadow is a request (publish.go): it is
// submitted to [things.Service] and acknowledged when the service is done with
// it, which is after the commit. Every other PUBLISH goes to the router. The
// reading goroutine never waits for the outcome of a request, so requests of one
// connection share commits; their acknowledgements leave in the order of the
// requests.
//
// # Locks
//
// The mutex of a client comes first, then that of an ackQueue, then that of an
// outbox; those of the Broker, the registry, the index and the retained store
// are leaves. Nothing is routed while the mutex of a client is held.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/umbra-iot/umbra/broker/journal"
	"github.com/umbra-iot/umbra/broker/listener"
	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/retained"
	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/quiet"
	"github.com/umbra-iot/umbra/internal/quota"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/things"
)

// Options of a Broker. The zero value works.
type Options struct {
	Log     *slog.Logger // default: discard
	Limits  Limits
	Profile Profile
	Now     func() time.Time // default time.Now

	// Store keeps sessions that outlive their connection, retained messages and wills. With nil they
	// are in memory and end with the process.
	Store        statestore.Items
	StoreTimeout time.Duration // of one attempt to store; default 5 s

	// Authenticator says who a client is, when it connects; with nil everybody is anonymous. A
	// connection that is an auth.Peer completes the credentials of the CONNECT packet.
	Authenticator auth.Authenticator

	// Strangers is the memory that CONNECT packets of more than 4 KiB may take before their clients are
	// known; nil is no bound.
	Strangers Reserve

	// Listeners have the limits of connections of the listeners, by name, that have their own. What is not of
	// one connection, or its principal, stays that of Limits. A connection that is an auth.Peer knows its listener.
	Listeners map[string]Limits

	// Quotas count what principals use, and bound it by the limits of their connections; nil for no bounds.
	Quotas *quota.Book

	// Guard says what a client may do: connect with its client id, publish, subscribe, receive. With nil
	// everybody may do everything.
	Guard auth.Guard

	// Denied is told what a principal may not do on a topic or client id whatever the guard says, and why. It returns
	// soon. With nil nobody is told.
	Denied func(p *auth.Principal, l auth.Link, a auth.Action, name, why string)

	// Mappings translate between plain topics and shadows; nil for none, now and later.
	Mappings *mapping.Set

	// NativeTopics makes messages on things/{thing}/reported and desired updates of shadows, and mirrors deltas.
	NativeTopics bool

	// KeepRetained leaves the retained messages alone that fed a shadow which is deleted.
	KeepRetained bool

	// Presence is whether it is kept which things are connected (see [Broker.Presence]).
	Presence bool

	// Version is what $SYS/broker/version tells.
	Version string

	// Origins are the hosts from which browsers may connect over WebSocket,
	// besides the host that they talk to: patterns as of path.Match, "*" for all.
	Origins []string
}

// Broker is an MQTT server. Its methods may be called at the same time.
type Broker struct {
	log       *slog.Logger
	limits    Limits             // of connections whose listener has none of its own
	listeners map[string]*Limits // by name
	profile   Profile
	quiet     *quiet.Log // for what clients can bring about as often as they like
	clock     func() time.Time
	guard     auth.Guard // nil: everything is allowed
	denied    func(p *auth.Principal, l auth.Link, a auth.Action, name, why string)
	who       auth.Authenticator // nil: everybody is anonymous
	origins   []string
	version   string
	strangers Reserve

	store      statestore.Items
	journal    *journal.Journal // nil when nothing is stored
	drained    []session.Item   // scratch of the journal's goroutine
	kept       keptMessages
	things     *things.Service
	mapper     *mapper                      // nil without mappings
	taps       atomic.Pointer[[]*Rehearsal] // nil for none; set with mu held
	present    *attendance                  // nil without presence
	native     bool
	keepGhosts bool
	listener   *listener.Listener
	clients    registry
	quotas     *quota.Book
	timed      clientSet // those that may be shut out because time goes on
	index      *topic.Index[*client]
	retained   *retained.Store
	system     system

	lifecycle atomic.Int64 // last versionNumber of an event
	count     counters
	held      atomic.Int64 // bytes of messages that all sessions hold
	spilled   atomic.Int64 // of them those that are only in the store
	routes    sync.Pool    // of *[]topic.Entry[*client]
	buffers   bufferPool

	tasks    sync.WaitGroup // requests and timers under way
	mu       sync.Mutex     // guards what follows
	closing  bool
	greeting map[*conn]struct{} // connections whose CONNECT is not yet accepted
	expiry   *time.Timer        // of the next retained message
}

// New returns a broker. Its order of life: New, [things.New] with the broker as
// Publisher, SetService, Restore, the service's Start, Start, ServeTCP, Shutdown,
// the service's Close, Close.
func New(o Options) (*Broker, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Denied == nil {
		o.Denied = func(*auth.Principal, auth.Link, auth.Action, string, string) {}
	}
	limits, err := o.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Broker{
		log:      o.Log,
		quiet:    quiet.New(o.Log, o.Now),
		limits:   limits,
		profile:  o.Profile,
		clock:    o.Now,
		guard:    o.Guard,
		denied:   o.Denied,
		who:      o.Authenticator,
		origins:  o.Origins,
		version:  o.Version,
		clients:  registry{m: map[string]*client{}},
		greeting: map[*conn]struct{}{},
		index:    topic.NewIndex[*client](limits.TopicLevels),
		retained: retained.New(retained.Limits{
			Messages: limits.RetainedMessages, Bytes: limits.RetainedBytes,
			OwnerMessages: limits.PrincipalRetained, OwnerBytes: limits.PrincipalRetainedBytes,
		}),
		strangers: o.Strangers,
		quotas:    o.Quotas,
		listeners: map[string]*Limits{},
	}
	for name, l := range o.Listeners {
		if l, err = l.withDefaults(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		b.listeners[name] = &l
	}
	if o.Store != nil {
		b.store, b.kept.b = o.Store, b
		b.retained.Record()
		b.journal = journal.New(journal.Options{Store: o.Store, Log: o.Log, Timeout: o.StoreTimeout})
	}
	b.native, b.keepGhosts = o.NativeTopics, o.KeepRetained
	b.mapper = newMapper(b, o.Mappings)
	if o.Presence {
		b.present = newAttendance(b, limits.PresenceThings)
	}
	b.index.NoParent = o.Profile.NoParent
	b.routes.New = func() any { return new([]topic.Entry[*client]) }
	b.listener = listener.New(listener.Options{Handle: b.handle, Log: o.Log, FirstRead: limits.ConnectTimeout})
	b.system.store, b.system.started = retained.New(retained.Limits{}), b.clock()
	if limits.SystemInterval > 0 {
		b.keepSystem()
	}
	return b, nil
}

// SetService gives the broker the service that answers shadow requests. It is
// called once, before the first connection: the service needs the broker as its
// Publisher, so one of them has to come first.
func (b *Broker) SetService(s *things.Service) { b.things = s }

// ServeTCP accepts MQTT connections from l until Shutdown, and then returns nil.
// It closes l.
func (b *Broker) ServeTCP(l net.Listener) error {
	if err := b.listener.Serve(l); !errors.Is(err, listener.ErrClosed) {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// WebSocket returns the handler of MQTT over WebSocket.
func (b *Broker) WebSocket() http.Handler {
	return b.listener.WebSocket(listener.WebSocketOptions{Origins: b.origins})
}

// Shutdown accepts no more connections and ends those that there are: clients of
// MQTT 5 are told so (0x8B), what waits for a client is written, wills are sent
// [MQTT-3.1.2-8]. It waits for all of that until ctx ends, and then cuts what is
// left and returns the error of ctx.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.listener.Close()
	b.system.stop()
	b.mu.Lock()
	b.closing = true
	if b.expiry != nil {
		b.expiry.Stop()
	}
	for c := range b.greeting {
		c.cut(cause{reason: reasonShutdown})
	}
	b.mu.Unlock()
	for _, c := range b.clients.all() {
		c.shutDown()
	}
	err := b.listener.Wait(ctx)
	for _, c := range b.clients.all() { // all offline now
		c.end()
	}
	err = errors.Join(err, b.waitTasks(ctx))
	b.mapper.close()
	return err
}

// limitsOf returns the limits of a connection.
func (b *Broker) limitsOf(raw net.Conn) *Limits {
	if peer, ok := raw.(auth.Peer); ok && len(b.listeners) > 0 {
		var shown auth.Credentials
		peer.Complete(&shown)
		if own := b.listeners[shown.Listener]; own != nil {
			return own
		}
	}
	return &b.limits
}

// greet counts c among the connections that no client id has yet.
func (b *Broker) greet(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.greeting[c] = struct{}{}
	if b.closing {
		c.cut(cause{reason: reasonShutdown})
	}
}

// greeted ends what greet began; false when the server is shutting down.
func (b *Broker) greeted(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.greeting, c)
	return !b.closing
}

// begin counts a task that Shutdown has to wait for; false when it is too late for it.
func (b *Broker) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return false
	}
	b.tasks.Add(1)
	return true
}

func (b *Broker) waitTasks(ctx context.Context) error {
	idle := make(chan struct{})
	go func() {
		b.tasks.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("broker: tasks under way: %w", context.Cause(ctx))
	}
}

func (b *Broker) isClosing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closing
}

// now is the time in ms since the epoch.
func (b *Broker) now() int64 { return b.clock().UnixMilli() }
