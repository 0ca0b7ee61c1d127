// Package gate is where connections come in: it accepts them from any number of
// listeners, believes the PROXY header of those proxies that are trusted, does
// the TLS handshake, and hands each connection to MQTT or HTTP.
//
// A connection is a stranger until [Conn.Admit] says that its client has proved
// who it is. What strangers may cost is bounded for all of them together by one
// [Budget]. When it is used up, new connections wait in the kernel's queue until
// the oldest stranger is a second old, and then push it out: one that means it
// has proved itself by then, one that only wants to occupy a place is always the
// oldest. A client of HTTP proves itself with each request: while it does, what
// it sends is that of a stranger, its headers as soon as they are more than every
// connection may cost, see [Follow] and [Conn.Reserve]. So nobody has a part of the
// budget who cannot be pushed out. It is the same with the places of a listener and
// of an address, where those are bounded: the oldest stranger there makes room for
// who comes, or, when all are known, the connection of HTTP that has been idle for the
// longest. Others that are known keep their places.
package gate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-iot/umbra/broker/listener"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

// Kind is what a listener speaks.
type Kind string

// The kinds of listeners.
const (
	MQTT  Kind = "mqtt"
	MQTTS Kind = "mqtts"
	WS    Kind = "ws"  // HTTP that serves nothing but MQTT over WebSocket
	WSS   Kind = "wss" // the same over TLS
	HTTP  Kind = "http"
	HTTPS Kind = "https" // also MQTT, when the client asks for it by ALPN
)

// IsTLS reports whether connections are encrypted.
func (k Kind) IsTLS() bool { return k == MQTTS || k == WSS || k == HTTPS }

// Names of ALPN: those of AWS IoT beside the registered ones.
const (
	alpnMQTT    = "mqtt"
	alpnAWS     = "x-amzn-mqtt-ca"
	alpnHTTP    = "http/1.1"
	alpnAWSHTTP = "x-amzn-http-ca"
)

// Protocols returns what a listener of the kind offers by ALPN. Clients that ask for nothing get what the kind says.
func (k Kind) Protocols() []string {
	switch k {
	case MQTTS:
		return []string{alpnAWS, alpnMQTT}
	case WSS:
		return []string{alpnHTTP}
	case HTTPS:
		return []string{alpnHTTP, alpnAWSHTTP, alpnAWS, alpnMQTT}
	}
	return nil
}

// Spec describes a listener.
type Spec struct {
	Name    string // for the log and for Credentials.Listener
	Kind    Kind
	Address string           // host:port
	TLS     *tlsfiles.Config // of the kinds with TLS
	Proxies []netip.Prefix   // who sends a PROXY header of version 2; from others it is an error
	// Identify returns who the certificate of a client says that it is. It is
	// called after a handshake with one; nil for nobody.
	Identify func(tls.ConnectionState) (*auth.Principal, error)
	// Connections and Rate bound the connections at a time and the new ones per
	// second, 0 for no bound. What is above the first takes the place of the
	// oldest stranger, waits for it to be old enough, or is closed when all
	// clients are known; what is above the second waits.
	Connections int
	Rate        int
}

// Options of a Gate.
type Options struct {
	Log       *slog.Logger  // default: discard
	Handshake time.Duration // for PROXY header and TLS, and the longest wait for memory; default 10 s
	Budget    *Budget       // default: no bound
	// HandshakeBytes is how many bytes a client may send for a TLS handshake, its certificates among them; default 64 KiB.
	HandshakeBytes int
	// Connections bounds those of all listeners together, as Spec.Connections those of one; 0 for no bound.
	Connections int
	// PerAddress bounds the connections at a time from one address, of IPv6 from one
	// network of 64 bits, behind proxies that of the client; 0 for no bound. What is above it takes the place of the
	// oldest stranger, or is closed when there is none that is old enough: who
	// comes from other addresses is not to wait.
	PerAddress int
	// Refused is told of each client that could not connect because of its certificate, which need not be verified,
	// and returns at once; nil for nobody.
	Refused func(listener string, remote netip.Addr, cert *x509.Certificate, why error)
}

// strangerBytes is what a stranger is counted as: its buffers, its goroutine, and a little that it has sent.
const strangerBytes = 32 << 10

// youth is how long a stranger cannot be pushed out.
const youth = time.Second

// Gate accepts connections. Its methods may be called at the same time.
type Gate struct {
	Options

	mqtt, http *door
	done       chan struct{} // closed by Close
	arriving   sync.WaitGroup

	refused, pushedOut, failed, unfinished atomic.Int64
	told                                   atomic.Int64 // when a refusal was logged last, in ns

	mu        sync.Mutex // guards what follows
	closed    bool
	listeners []*entrance
	open      map[*Conn]struct{}
	all       crowd
	from      map[netip.Addr]*crowd // with PerAddress, by source
}

// entrance is a listener that is open.
type entrance struct {
	Spec
	crowd

	ln   net.Listener
	rate rate
}

// New returns a gate without listeners.
func New(o Options) *Gate {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Handshake == 0 {
		o.Handshake = 10 * time.Second
	}
	if o.HandshakeBytes == 0 {
		o.HandshakeBytes = 64 << 10
	}
	g := &Gate{Options: o, done: make(chan struct{}), open: map[*Conn]struct{}{}, from: map[netip.Addr]*crowd{}}
	g.all.bound = o.Connections
	g.mqtt, g.http = newDoor(), newDoor()
	return g
}

// MQTT returns where the connections for MQTT come out. It is closed by its own Close, not by that of the gate.
func (g *Gate) MQTT() net.Listener { return g.mqtt }

// HTTP returns where the connections for HTTP come out, as [Gate.MQTT]. They are for an [http.Server] that [Follow] sees.
func (g *Gate) HTTP() net.Listener { return g.http }

// Listen opens a listener. Its connections wait for Serve.
func (g *Gate) Listen(ctx context.Context, s Spec) (net.Addr, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Address)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = ln.Close()
		return nil, net.ErrClosed
	}
	g.listeners = append(g.listeners, &entrance{Spec: s, crowd: crowd{bound: s.Connections}, ln: ln, rate: rate{perSecond: s.Rate}})
	return ln.Addr(), nil
}

// Serve accepts connections until Close, and then returns nil.
func (g *Gate) Serve() error {
	g.mu.Lock()
	list := g.listeners
	g.mu.Unlock()
	var all errgroup.Group
	for _, e := range list {
		all.Go(func() error {
			failed := func(err error, pause time.Duration) {
				g.failed.Add(1)
				g.Log.Error("cannot accept a connection", "listener", e.Name, "error", err, "pause", pause)
			}
			if err := listener.Loop(e.ln, g.done, failed, func(c net.Conn) { g.enter(e, c) }); err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
			return nil
		})
	}
	err := all.Wait()
	g.arriving.Wait()
	return err
}

// Close stops accepting, and ends the connections that have not come through yet.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	close(g.done)
	for _, e := range g.listeners {
		_ = e.ln.Close()
	}
	for c := range g.open {
		if !c.through {
			_ = c.raw.Close()
		}
	}
}

// Stats are counts since the start, and gauges of now.
type Stats struct {
	Open             int64 // connections now
	Strangers        int64 // of them those that have not proved who they are
	Idle             int64 // of them those that are between two requests of HTTP
	Refused          int64 // above a bound
	PushedOut        int64 // those that made room
	HandshakesFailed int64 // of TLS, or PROXY headers
	AcceptErrors     int64
}

// Stats returns a snapshot.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{
		Open: int64(g.all.open), Strangers: int64(g.all.lines[stranger].Len()), Idle: int64(g.all.lines[idle].Len()),
		Refused: g.refused.Load(), PushedOut: g.pushedOut.Load(), HandshakesFailed: g.unfinished.Load(), AcceptErrors: g.failed.Load(),
	}
}

// Recheck ends the connections of a listener whose TLS state is not valid any more, those too whose handshake is still
// under way. It is called when valid says something else than before.
func (g *Gate) Recheck(listenerName string, valid func(tls.ConnectionState) error) {
	g.mu.Lock()
	var list []*Conn
	for c := range g.open {
		if c.entrance.Name != listenerName {
			continue
		}
		if c.recheck = valid; c.through && c.tls != nil {
			list = append(list, c)
		}
	}
	g.mu.Unlock()
	for _, c := range list {
		g.check(c, valid)
	}
}

// check ends c if its TLS state is not valid, and reports whether it is.
func (g *Gate) check(c *Conn, valid func(tls.ConnectionState) error) bool {
	err := valid(*c.tls)
	if err != nil {
		g.Log.Warn("connection ended: its certificate does not count any more", "listener", c.entrance.Name, "remote", c.RemoteAddr().String(), "error", err)
		c.cut()
	}
	return err == nil
}

// enter takes in a connection, as soon as there is room for it.
func (g *Gate) enter(e *entrance, raw net.Conn) {
	if !e.rate.wait(g.done) || !g.makeRoom(strangerBytes, nil, nil) {
		_ = raw.Close()
		return
	}
	c := &Conn{Conn: raw, raw: raw, gate: g, entrance: e, source: addrOf(raw.RemoteAddr())}
	if !g.register(c) {
		g.Budget.Give(strangerBytes)
		g.refuse(c)
		return
	}
	if e.TLS == nil && len(e.Proxies) == 0 {
		g.pass(c, e.Kind == MQTT)
		return
	}
	g.arriving.Go(func() { g.greet(c) })
}

// refuse closes a connection for which there is no place, and says so once a second at most.
func (g *Gate) refuse(c *Conn) {
	g.refused.Add(1)
	_ = c.raw.Close()
	now := time.Now().UnixNano()
	if last := g.told.Load(); now-last > int64(time.Second) && g.told.CompareAndSwap(last, now) {
		g.Log.Warn("connections are refused: too many", "listener", c.entrance.Name, "remote", addrOf(c.RemoteAddr()), "refused", g.refused.Load())
	}
}

// greet reads the PROXY header and does the handshake.
func (g *Gate) greet(c *Conn) {
	defer func() {
		if p := recover(); p != nil {
			g.Log.Error("panic while greeting a connection", "panic", fmt.Sprint(p), "remote", c.source, "stack", string(debug.Stack()))
			_ = c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), g.Handshake)
	defer cancel()
	deadline, _ := ctx.Deadline()
	_ = c.raw.SetDeadline(deadline)
	forMQTT, err := c.begin(ctx)
	if errors.Is(err, errTooMany) {
		c.leave()
		g.refuse(c)
		return
	}
	if err != nil {
		g.unfinished.Add(1)
		g.Log.Debug("connection refused", "listener", c.entrance.Name, "remote", c.RemoteAddr().String(), "error", err)
		_ = c.Close()
		return
	}
	_ = c.raw.SetDeadline(time.Time{})
	g.pass(c, forMQTT)
}

// pass hands c on.
func (g *Gate) pass(c *Conn, forMQTT bool) {
	g.mu.Lock()
	c.through = true
	valid := c.recheck
	g.mu.Unlock()
	if valid != nil && c.tls != nil && !g.check(c, valid) {
		return
	}
	c.forHTTP, c.reading.headers = !forMQTT, !forMQTT
	d := g.http
	if forMQTT {
		d = g.mqtt
	}
	if !d.give(c, g.done) {
		_ = c.Close()
	}
}

// door is a listener whose connections the gate gives it.
type door struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newDoor() *door { return &door{conns: make(chan net.Conn), done: make(chan struct{})} }

func (d *door) give(c net.Conn, closed <-chan struct{}) bool {
	select {
	case d.conns <- c:
		return true
	case <-d.done:
	case <-closed:
	}
	return false
}

// Accept implements [net.Listener].
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (d *door) Close() error {
	d.once.Do(func() { close(d.done) })
	return nil
}

// Addr implements [net.Listener]: a door has none of its own.
func (d *door) Addr() net.Addr { return &net.TCPAddr{} }

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

var (
	errProxy   = errors.New("gate: PROXY header expected")
	errTooMany = errors.New("gate: too many connections from one address")
)
