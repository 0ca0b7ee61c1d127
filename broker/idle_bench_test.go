package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/test/mqtttest"
	"github.com/umbra-iot/umbra/things"
)

// How long a broker is idle before it is measured, and while it is.
const (
	idleSettle = 5 * time.Second
	idleTime   = 20 * time.Second
)

// BenchmarkIdleInMemory measures what 100,000 connections cost that say nothing but PINGREQ, each of a session with five
// subscriptions of the shadow of its thing. It needs no file descriptors, of which a system may allow fewer: the connections
// are pieces of memory of the same process.
//
// So it counts the clients' ends too, some 300 bytes each, and the work of sending the pings. It does not count what a system has
// besides for a socket: its structures in the kernel (some 3 KB while its buffers are empty) and in the poller of the
// runtime, and the system calls of reading and writing, some 5 us for each ping and its answer. BenchmarkIdle of package bench has real
// sockets.
func BenchmarkIdleInMemory(b *testing.B) {
	const n = 100_000
	engine, err := authz.New(authz.Options{Default: []string{"device"}})
	if err != nil {
		b.Fatal(err)
	}
	for _, keepAlive := range []time.Duration{20 * time.Minute, time.Minute} {
		for name, o := range map[string]broker.Options{"open": {}, "guarded": {Authenticator: namedAs{}, Guard: engine}} {
			b.Run(fmt.Sprintf("%d/keepalive=%v/%s", n, keepAlive, name), func(b *testing.B) {
				if b.N > 1 {
					return // one round says it all
				}
				idleInMemory(b, o, n, keepAlive)
			})
		}
	}
}

func idleInMemory(b *testing.B, o broker.Options, n int, keepAlive time.Duration) {
	_, l := startInMemory(b, o)
	debug.FreeOSMemory() // what the last one has left
	before := residentMemory(b)
	conns := make([]*memoryConn, n)
	for i := range conns {
		conns[i] = l.connectIdle(b, i, keepAlive)
	}
	runtime.GC() // which comes within two minutes; stacks that grew while connecting shrink
	<-time.After(idleSettle)
	ctx, cancel := context.WithTimeout(b.Context(), idleTime)
	defer cancel()
	began, cpu := time.Now(), cpuTime(b)
	sent := pingInTurn(ctx, conns, keepAlive)
	share := (cpuTime(b) - cpu).Seconds() / time.Since(began).Seconds()
	after := residentMemory(b)
	answered := 0
	for _, c := range conns {
		answered += c.received() - connectedBytes
	}
	if answered < 2*(sent-1) { // the last one may be on its way
		b.Fatalf("%d bytes of PINGRESP for %d PINGREQ, want 2 for each", answered, sent)
	}
	b.ReportMetric(0, "ns/op") // says nothing here
	b.ReportMetric(float64(after-before)/float64(n)/1024, "KB/conn")
	b.ReportMetric(float64(after)/(1<<20), "MB")
	b.ReportMetric(share*100, "%core")
	b.ReportMetric(float64(sent)/idleTime.Seconds(), "pings/s")
}

// pingInTurn sends PINGREQ for one connection after the other, so that each has its turn once in a keep-alive interval, and
// returns how many it has sent.
func pingInTurn(ctx context.Context, conns []*memoryConn, keepAlive time.Duration) (sent int) {
	const step = 20 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return sent
		case <-tick.C:
		}
		for due := int(float64(len(conns)) * float64(time.Since(began)) / float64(keepAlive)); sent < due; sent++ {
			conns[sent%len(conns)].send([]byte{0xC0, 0})
		}
	}
}

// startInMemory runs a broker on connections in memory.
func startInMemory(b *testing.B, o broker.Options) (*broker.Broker, *memoryListener) {
	b.Helper()
	store := memstore.New(statestore.Options{})
	o.Store = store
	br, err := broker.New(o)
	if err != nil {
		b.Fatal(err)
	}
	service := things.New(things.Options{Store: store, Publisher: br})
	br.SetService(service)
	if err := errors.Join(br.Restore(b.Context()), service.Start(b.Context())); err != nil {
		b.Fatal(err)
	}
	br.Start()
	l := &memoryListener{conns: make(chan net.Conn), done: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- br.ServeTCP(l) }()
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.Context()), time.Minute)
		defer cancel()
		if err := errors.Join(br.Shutdown(ctx), <-served, service.Close(ctx), br.Close(ctx)); err != nil {
			b.Errorf("shutdown: %v", err)
		}
	})
	return br, l
}

// memoryListener accepts connections in memory.
type memoryListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// Accept implements net.Listener.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (*memoryListener) Addr() net.Addr { return memoryAddr{} }

// connectedBytes is the size of CONNACK and of SUBACK for five filters.
const connectedBytes = 4 + 4 + 5

// connectIdle connects a client that subscribes to the topics of its shadow.
func (l *memoryListener) connectIdle(b *testing.B, i int, keepAlive time.Duration) *memoryConn {
	b.Helper()
	thing := "idle-" + strconv.Itoa(i)
	packet := mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: thing, KeepAlive: keepAlive, Username: thing, Password: "secret"})
	var filters []string
	for _, topic := range []string{"update/accepted", "update/rejected", "update/delta", "get/accepted", "get/rejected"} {
		filters = append(filters, "$aws/things/"+thing+"/shadow/"+topic)
	}
	c := &memoryConn{}
	c.moved.L = &c.mu
	c.send(mqtttest.AppendSubscribe(packet, mqtttest.V311, 1, filters...))
	l.conns <- c
	if got := c.awaitBytes(connectedBytes); got != connectedBytes {
		b.Fatalf("connection %d was answered with %d bytes, want CONNACK and SUBACK of %d", i, got, connectedBytes)
	}
	return c
}

// memoryConn is the server's end of a connection in memory. What the server writes is counted.
type memoryConn struct {
	mu      sync.Mutex // guards what follows
	moved   sync.Cond
	in      []byte
	out     int
	closed  bool
	expired bool
	timer   *time.Timer // of the read deadline
}

// send has the server read p.
func (c *memoryConn) send(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, p...)
	c.moved.Broadcast()
}

// received returns how many bytes the server has written.
func (c *memoryConn) received() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out
}

// awaitBytes waits until the server has written n bytes, or has closed the connection, and returns how many it has written.
func (c *memoryConn) awaitBytes(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out < n && !c.closed {
		c.moved.Wait()
	}
	return c.out
}

// Read implements net.Conn.
func (c *memoryConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.in) == 0 && !c.closed && !c.expired {
		c.moved.Wait()
	}
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.expired:
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, c.in)
	if c.in = c.in[n:]; len(c.in) == 0 {
		c.in = nil
	}
	return n, nil
}

// Write implements net.Conn.
func (c *memoryConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.out += len(p)
	c.moved.Broadcast()
	return len(p), nil
}

// Close implements net.Conn.
func (c *memoryConn) Close() error {
	_ = c.SetReadDeadline(time.Time{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.moved.Broadcast()
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if c.expired = false; !t.IsZero() {
		c.timer = time.AfterFunc(time.Until(t), c.expire)
	}
	return nil
}

func (c *memoryConn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expired = true
	c.moved.Broadcast()
}

// SetDeadline implements net.Conn. Writing takes no time.
func (c *memoryConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (*memoryConn) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr implements net.Conn.
func (*memoryConn) LocalAddr() net.Addr { return memoryAddr{} }

// RemoteAddr implements net.Conn.
func (*memoryConn) RemoteAddr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

// Network implements net.Addr.
func (memoryAddr) Network() string { return "memory" }

// String implements net.Addr.
func (memoryAddr) String() string { return "memory" }

// namedAs lets everybody in whose name is the client id, as a certificate would that is valid for a year.
type namedAs struct{}

func (namedAs) Recall(*auth.Principal) {}

func (namedAs) Authenticate(_ context.Context, c *auth.Credentials) (*auth.Principal, error) {
	return &auth.Principal{
		ID: auth.NewID(auth.User, c.ClientID), Kind: auth.User, Name: c.ClientID, Expires: time.Now().AddDate(1, 0, 0),
	}, nil
}

// residentMemory returns that of this process in bytes.
func residentMemory(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb << 10
}
