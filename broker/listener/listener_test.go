package listener_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/broker/listener"
)

const patience = 10 * time.Second

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func dial(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// serve runs l on ln and checks how it ends.
func serve(t *testing.T, l *listener.Listener, ln net.Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- l.Serve(ln) }()
	t.Cleanup(func() {
		l.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := l.Wait(ctx); err != nil {
			t.Errorf("Wait: %v", err)
		}
		if err := <-done; !errors.Is(err, listener.ErrClosed) {
			t.Errorf("Serve: %v, want ErrClosed", err)
		}
	})
}

// flaky fails to accept for a while.
type flaky struct {
	net.Listener
	failures atomic.Int64
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failures.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestAcceptErrorsAreOutlived(t *testing.T) {
	t.Parallel()
	ln := &flaky{Listener: listen(t)}
	ln.failures.Store(3)
	l := listener.New(listener.Options{Handle: func(c net.Conn) { _, _ = c.Write([]byte("hi")) }})
	serve(t, l, ln)
	if b, err := io.ReadAll(dial(t, ln)); err != nil || string(b) != "hi" {
		t.Errorf("read %q, %v", b, err)
	}
	if n := l.AcceptErrors(); n != 3 {
		t.Errorf("AcceptErrors() = %d, want 3", n)
	}
}

func TestPanicEndsOneConnection(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	l := listener.New(listener.Options{Handle: func(c net.Conn) {
		b := make([]byte, 1)
		_, _ = c.Read(b)
		if b[0] == 'p' {
			panic("boom")
		}
		_, _ = c.Write(b)
	}})
	serve(t, l, ln)
	bad, good := dial(t, ln), dial(t, ln)
	_, _ = bad.Write([]byte("p"))
	if b, err := io.ReadAll(bad); err != nil || len(b) != 0 {
		t.Errorf("read %q, %v", b, err)
	}
	_, _ = good.Write([]byte("x"))
	if b, err := io.ReadAll(good); err != nil || string(b) != "x" {
		t.Errorf("read %q, %v", b, err)
	}
	if n := l.Panics(); n != 1 {
		t.Errorf("Panics() = %d, want 1", n)
	}
}

func TestSilentConnectionIsCutOff(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	l := listener.New(listener.Options{FirstRead: 20 * time.Millisecond, Handle: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }})
	serve(t, l, ln)
	if b, err := io.ReadAll(dial(t, ln)); err != nil || len(b) != 0 {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestWaitCutsWhatIsLeft(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	began := make(chan bool)
	l := listener.New(listener.Options{Handle: func(c net.Conn) { began <- true; _, _ = io.Copy(io.Discard, c) }})
	done := make(chan error, 1)
	go func() { done <- l.Serve(ln) }()
	_ = dial(t, ln)
	<-began
	l.Close()
	if err := <-done; !errors.Is(err, listener.ErrClosed) {
		t.Errorf("Serve: %v, want ErrClosed", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v, want the deadline", err)
	}
	if err := l.Serve(listen(t)); !errors.Is(err, listener.ErrClosed) {
		t.Errorf("Serve after Close: %v, want ErrClosed", err)
	}
}
