package broker

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Sizes of the outbox, in bytes.
const (
	firstBuffer  = 1 << 10  // capacity of a new buffer
	pooledBuffer = 64 << 10 // larger ones are left to the garbage collector
	writeChunk   = 64 << 10 // of which something has to move within the write timeout
)

// Bounds of the end of a connection.
const (
	drainTimeout  = 2 * time.Second // of the writing of what is left
	lingerTimeout = 2 * time.Second // of the wait for the client to close, see linger
)

// outbox collects what has to be written to a connection, so that everything
// that waits leaves in one write, and nobody who has something to say to a
// client waits for the client's socket. While there is nothing to write there is
// neither a goroutine nor a buffer. The reading goroutine writes before it waits
// for more (flush); for what comes from elsewhere a goroutine is started.
type outbox struct {
	raw     net.Conn
	pool    *bufferPool
	timeout time.Duration // of one write without any progress
	limit   int           // bytes from which a client counts as slow
	drained func()        // called when there is room again after room said no
	written func(int)     // counts bytes

	writers sync.WaitGroup
	armed   time.Time // write deadline that is set; belongs to whoever writes

	mu      sync.Mutex // guards what follows
	space   *sync.Cond // there is room again, or nothing will be written any more
	buf     *buffer    // what nobody has begun to write, nil for nothing
	taken   int        // bytes that are being written
	writing bool       // somebody is writing, and will take what comes
	wanted  bool       // room said no
	closing bool       // nothing is taken in any more; what is left is written
	err     error      // of a write: what is left is dropped
}

type buffer struct{ b []byte }

// bufferPool keeps buffers of moderate size.
type bufferPool struct{ sync.Pool }

func (p *bufferPool) get() *buffer {
	if b, ok := p.Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, 0, firstBuffer)}
}

func (p *bufferPool) put(b *buffer) {
	if cap(b.b) <= pooledBuffer {
		b.b = b.b[:0]
		p.Put(b)
	}
}

func (o *outbox) init() { o.space = sync.NewCond(&o.mu) }

// open locks the outbox and returns the buffer to append to; shut takes it back.
func (o *outbox) open() []byte {
	o.mu.Lock()
	if o.buf == nil {
		o.buf = o.pool.get()
	}
	return o.buf.b
}

// shut ends what open began. With later set, the caller is the reading
// goroutine, which flushes before it waits.
func (o *outbox) shut(b []byte, later bool) {
	defer o.mu.Unlock()
	if o.closing || o.err != nil {
		return
	}
	o.buf.b = b
	if later || o.writing || len(b) == 0 {
		return
	}
	o.writing = true
	o.writers.Go(o.write)
}

// add appends bytes.
func (o *outbox) add(p []byte, later bool) { o.shut(append(o.open(), p...), later) }

// room reports whether the client keeps up. If not, drained is called as soon as it does.
func (o *outbox) room() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pending() < o.limit {
		return true
	}
	o.wanted = true
	return false
}

// pending is the number of bytes that have not left. mu is held.
func (o *outbox) pending() int {
	if o.buf == nil {
		return o.taken
	}
	return o.taken + len(o.buf.b)
}

// flush writes what waits, unless somebody is at it already, and then waits
// until the client keeps up: who does not read is not read from. It reports
// whether that may have taken a while.
func (o *outbox) flush() (late bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.writing && !o.closing && o.waits() {
		o.writing, late = true, true
		o.writers.Add(1)
		o.writeNext()
		if o.writing = o.waits(); o.writing { // it has come from elsewhere
			o.writers.Go(o.write)
		}
		o.writers.Done()
	}
	for o.pending() >= 2*o.limit && o.err == nil && !o.closing {
		late = true
		o.space.Wait()
	}
	return late
}

// waits reports whether there is something to write. mu is held.
func (o *outbox) waits() bool { return o.err == nil && o.buf != nil && len(o.buf.b) > 0 }

// write writes until nothing is left. The caller has set writing.
func (o *outbox) write() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.waits() {
		o.writeNext()
	}
	o.writing = false
}

// writeNext writes what waits now. mu is held, and unlocked meanwhile.
func (o *outbox) writeNext() {
	buf := o.buf
	o.buf, o.taken = nil, len(buf.b)
	o.mu.Unlock()
	err := o.writeAll(buf.b)
	o.pool.put(buf)
	o.mu.Lock()
	o.taken = 0
	if o.err == nil && err != nil {
		o.err = err
		stuck := o.stuck()
		o.mu.Unlock()
		if stuck {
			cut(o.raw)
		}
		_ = o.raw.Close() // wakes the reader; with TLS it may take a while
		o.mu.Lock()
	}
	o.announceRoom()
}

// stuck reports whether the client took no bytes for the write timeout. mu is held.
func (o *outbox) stuck() bool { return !o.closing && errors.Is(o.err, os.ErrDeadlineExceeded) }

// cutOff is stuck for who does not hold mu.
func (o *outbox) cutOff() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stuck()
}

// cut closes the socket of a connection whose other end takes nothing, and lets the system drop what it has not taken,
// which would be kept for minutes.
func cut(conn net.Conn) {
	for {
		wrapped, ok := conn.(interface{ NetConn() net.Conn }) // WebSocket, gate, TLS
		if !ok {
			break
		}
		conn = wrapped.NetConn()
	}
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
		_ = conn.Close()
	}
}

// announceRoom wakes those who wait for room. mu is held, and unlocked while drained runs.
func (o *outbox) announceRoom() {
	if o.err == nil && o.pending() > o.limit/2 {
		return
	}
	o.space.Broadcast()
	if o.wanted && o.err == nil && !o.closing {
		o.wanted = false
		o.mu.Unlock()
		o.drained()
		o.mu.Lock()
	}
}

// writeAll writes b, and fails when for the write timeout not a byte has moved.
func (o *outbox) writeAll(b []byte) error {
	for len(b) > 0 {
		closing := o.arm()
		n, err := o.raw.Write(b[:min(len(b), writeChunk)])
		o.written(n)
		b = b[n:]
		switch {
		case err == nil:
		case n > 0 && !closing && errors.Is(err, os.ErrDeadlineExceeded):
			o.armed = time.Time{}
		default:
			return err
		}
	}
	return nil
}

// arm moves the write deadline on when it is getting near, unless the outbox is
// closing: then the deadline is that of close.
func (o *outbox) arm() (closing bool) {
	now := time.Now()
	if o.armed.Sub(now) >= o.timeout/2 {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing {
		return true
	}
	o.armed = now.Add(o.timeout)
	_ = o.raw.SetWriteDeadline(o.armed)
	return false
}

// webSocket is a connection whose end the other end has to agree to.
type webSocket interface{ CloseWithin(time.Duration) }

// close takes last as the last bytes, writes what is left within drainTimeout
// and closes the connection, which wakes the reader. It waits for all that.
// It may be called more than once.
func (o *outbox) close(last []byte) {
	o.drain(last)
	if web, ok := o.raw.(webSocket); ok {
		web.CloseWithin(0)
	}
	_ = o.raw.Close()
}

// linger is close for the reading goroutine of a client that has to read why
// its connection ends. Closing a TCP connection while bytes of the other end
// are unread resets it, and what was written last is lost. So what the client
// goes on sending is thrown away until it closes too, or lingerTimeout is over.
func (o *outbox) linger(last []byte) {
	o.drain(last)
	if web, ok := o.raw.(webSocket); ok {
		web.CloseWithin(lingerTimeout)
	} else if half, ok := o.raw.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = o.raw.SetReadDeadline(time.Now().Add(lingerTimeout))
		_, _ = io.Copy(io.Discard, o.raw)
	}
	_ = o.raw.Close()
}

// drain takes last as the last bytes and waits until everything is written.
func (o *outbox) drain(last []byte) {
	o.mu.Lock()
	if !o.closing {
		o.beginClose(last)
	}
	o.mu.Unlock()
	o.writers.Wait()
}

// beginClose is the part of close that is done once. mu is held.
func (o *outbox) beginClose(last []byte) {
	if len(last) > 0 {
		if o.buf == nil {
			o.buf = o.pool.get()
		}
		o.buf.b = append(o.buf.b, last...)
	}
	o.closing = true
	_ = o.raw.SetWriteDeadline(time.Now().Add(drainTimeout))
	o.space.Broadcast()
	if !o.writing {
		o.writing = true
		o.writers.Go(o.write)
	}
}
