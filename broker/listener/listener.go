// Package listener accepts the network connections of an MQTT server, over TCP
// and over WebSocket, and outlives their faults: an Accept that fails is tried
// again, a client that does not begin to talk is cut off, and a panic while
// serving one connection ends that connection only.
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is what Serve returns after Close.
var ErrClosed = errors.New("listener: closed")

// Pauses between attempts to accept while Accept fails, for instance because
// the process is out of file descriptors.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// Options of a Listener.
type Options struct {
	// Handle serves one connection in a goroutine of its own. The connection
	// is closed when it returns.
	Handle func(net.Conn)
	Log    *slog.Logger // default: discard

	// FirstRead is the time from the accept to the end of the first packet:
	// it is set as read deadline on every new connection, and Handle moves it
	// on. Default 10 s.
	FirstRead time.Duration
}

// Listener runs the connections of one server. All methods may be called at the
// same time.
type Listener struct {
	handle    func(net.Conn)
	log       *slog.Logger
	firstRead time.Duration

	panics       atomic.Int64
	acceptErrors atomic.Int64
	done         chan struct{} // closed by Close
	running      sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	open   map[net.Conn]struct{}
	from   map[net.Listener]struct{}
}

// New returns a listener that serves nothing yet.
func New(o Options) *Listener {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FirstRead == 0 {
		o.FirstRead = 10 * time.Second
	}
	return &Listener{
		handle:    o.Handle,
		log:       o.Log,
		firstRead: o.FirstRead,
		done:      make(chan struct{}),
		open:      map[net.Conn]struct{}{},
		from:      map[net.Listener]struct{}{},
	}
}

// Serve accepts connections from ln until Close, and then returns ErrClosed.
// It closes ln. An Accept that fails is repeated after a growing pause.
func (l *Listener) Serve(ln net.Listener) error {
	if !l.attach(ln) {
		_ = ln.Close()
		return ErrClosed
	}
	defer l.detach(ln)
	failed := func(err error, pause time.Duration) {
		l.acceptErrors.Add(1)
		l.log.Error("cannot accept a connection", "error", err, "pause", pause)
	}
	if err := Loop(ln, l.done, failed, l.start); err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	return ErrClosed
}

// Loop calls take with each connection that ln accepts, until done is closed;
// then it returns nil. An Accept that fails is repeated after a growing pause,
// of which failed is told: a process that is out of file descriptors gets some
// back. Only the error of a listener that somebody else has closed is returned.
func Loop(ln net.Listener, done <-chan struct{}, failed func(error, time.Duration), take func(net.Conn)) error {
	pause := firstPause
	for {
		c, err := ln.Accept()
		if err == nil {
			pause = firstPause
			take(c)
			continue
		}
		select {
		case <-done:
			return nil
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		failed(err, pause)
		if !sleep(pause, done) {
			return nil
		}
		pause = min(2*pause, lastPause)
	}
}

// Close stops accepting. Connections go on.
func (l *Listener) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	close(l.done)
	for ln := range l.from {
		_ = ln.Close()
	}
}

// Wait waits until all connections have ended. When ctx ends first, it cuts the
// remaining ones and returns the error of ctx.
func (l *Listener) Wait(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		l.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	for c := range l.open {
		_ = c.Close()
	}
	l.mu.Unlock()
	<-ended
	return ctx.Err()
}

// Panics returns how many connections ended in a panic.
func (l *Listener) Panics() int64 { return l.panics.Load() }

// AcceptErrors returns how often Accept failed.
func (l *Listener) AcceptErrors() int64 { return l.acceptErrors.Load() }

func (l *Listener) attach(ln net.Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.from[ln] = struct{}{}
	l.running.Add(1)
	return true
}

func (l *Listener) detach(ln net.Listener) {
	l.mu.Lock()
	delete(l.from, ln)
	l.mu.Unlock()
	_ = ln.Close()
	l.running.Done()
}

// sleep pauses, and reports false when done ended the pause.
func sleep(d time.Duration, done <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-done:
		return false
	}
}

// start serves c in a goroutine.
func (l *Listener) start(c net.Conn) {
	if l.begin(c) {
		go l.serve(c)
	}
}

// begin admits c, or closes it after Close.
func (l *Listener) begin(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close()
		return false
	}
	l.open[c] = struct{}{}
	l.running.Add(1)
	return true
}

func (l *Listener) serve(c net.Conn) {
	defer l.end(c)
	defer l.rescue(c)
	_ = c.SetReadDeadline(time.Now().Add(l.firstRead))
	l.handle(c)
}

func (l *Listener) rescue(c net.Conn) {
	if p := recover(); p != nil {
		l.panics.Add(1)
		l.log.Error("panic while serving a connection", "panic", fmt.Sprint(p), "remote", c.RemoteAddr().String(), "stack", string(debug.Stack()))
	}
}

func (l *Listener) end(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	delete(l.open, c)
	l.mu.Unlock()
	l.running.Done()
}
