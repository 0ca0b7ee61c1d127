package listener

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/umbra-iot/umbra/internal/auth"
)

// WebSocketOptions of a handler made by [Listener.WebSocket].
type WebSocketOptions struct {
	// Origins are the hosts besides the request's own from which browsers may
	// connect, as patterns of path.Match; "*" allows every one.
	Origins []string
}

// WebSocket returns a handler that serves MQTT over WebSocket [MQTT-6.0.0-1 to
// MQTT-6.0.0-4]: binary frames whose borders mean nothing, subprotocol "mqtt",
// or "mqttv3.1" for clients of MQTT 3.1. The handler returns when the
// connection has ended. A request that carries a principal, see
// [auth.FromContext], proves for its WebSocket who the client is.
func (l *Listener) WebSocket(o WebSocketOptions) http.Handler {
	accept := &websocket.AcceptOptions{
		Subprotocols:    []string{"mqtt", "mqttv3.1"},
		OriginPatterns:  o.Origins,
		CompressionMode: websocket.CompressionDisabled,
	}
	for _, origin := range o.Origins {
		if origin == "*" {
			accept.InsecureSkipVerify = true
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := &hijacker{ResponseWriter: w}
		ws, err := websocket.Accept(h, r, accept)
		if err != nil { // Accept has answered the client
			l.log.Debug("websocket refused", "error", err, "remote", r.RemoteAddr)
			return
		}
		ws.SetReadLimit(-1) // the packets in it have one
		c := &webConn{Conn: h.conn, ws: ws, who: auth.FromContext(r.Context())}
		if ws.Subprotocol() == "" { // [MQTT-6.0.0-3]
			_ = ws.Close(websocket.StatusPolicyViolation, "subprotocol mqtt is required")
			return
		}
		if l.begin(c) {
			l.serve(c)
		}
	})
}

type underKey struct{}

// WithConn returns a context that carries the connection that a request came
// on, for [http.Server.ConnContext].
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, underKey{}, c)
}

// ConnOf returns the connection that a request came on, nil when nobody has told.
func ConnOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(underKey{}).(net.Conn)
	return c
}

// hijacker keeps the connection that a WebSocket takes over.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements [http.Hijacker].
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	return conn, rw, err //nolint:wrapcheck // it is for package websocket
}

// webConn is a WebSocket as a net.Conn. Its deadlines are those of the connection below: unlike that of a context, a read
// deadline that has passed leaves a WebSocket that can be written to. Close does not wait for the other side to agree.
type webConn struct {
	net.Conn // below the WebSocket
	ws       *websocket.Conn
	who      *auth.Principal // of the request that began it, nil when that has shown nothing
	message  io.Reader       // what is left of the message in hand, nil for none; of the reading goroutine

	mu     sync.Mutex // guards what follows
	ending bool       // the read deadline is that of CloseWithin
}

// NetConn returns the connection below.
func (c *webConn) NetConn() net.Conn { return c.Conn }

// Complete implements [auth.Peer].
func (c *webConn) Complete(to *auth.Credentials) {
	if p, ok := c.Conn.(auth.Peer); ok {
		p.Complete(to)
	}
	if c.who != nil {
		to.Peer = c.who
	}
}

// Admit passes on that the client has proved who it is.
func (c *webConn) Admit() { Admit(c.Conn) }

// Admit tells c, if it wants to know, that its client has proved who it is.
func Admit(c net.Conn) {
	if a, ok := c.(interface{ Admit() }); ok {
		a.Admit()
	}
}

// Read reports errors as a TCP connection would.
func (c *webConn) Read(p []byte) (int, error) {
	for {
		n, err := c.read(p)
		switch status := websocket.CloseStatus(err); {
		case err == nil && n == 0:
		case err == nil:
			return n, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return n, os.ErrDeadlineExceeded
		case status == websocket.StatusNormalClosure, status == websocket.StatusGoingAway:
			return n, io.EOF
		default:
			return n, fmt.Errorf("%w: %w", net.ErrClosed, err)
		}
	}
}

// read reads from the message in hand, or from the next one.
func (c *webConn) read(p []byte) (int, error) {
	if c.message == nil {
		kind, message, err := c.ws.Reader(context.Background())
		if err != nil {
			return 0, err //nolint:wrapcheck // Read does
		}
		if kind != websocket.MessageBinary { // [MQTT-6.0.0-1]
			c.end(textPatience, websocket.StatusUnsupportedData, "MQTT comes in binary frames")
			return 0, net.ErrClosed
		}
		c.message = message
	}
	n, err := c.message.Read(p)
	if errors.Is(err, io.EOF) {
		c.message, err = nil, nil
	}
	return n, err //nolint:wrapcheck // Read does
}

// Write implements [net.Conn].
func (c *webConn) Write(p []byte) (int, error) {
	if err := c.ws.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		return 0, fmt.Errorf("listener: %w", err)
	}
	return len(p), nil
}

// SetReadDeadline implements [net.Conn].
func (c *webConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return nil
	}
	return c.Conn.SetReadDeadline(t) //nolint:wrapcheck // it stands for it
}

// SetDeadline implements [net.Conn].
func (c *webConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// textPatience is how long a client that sends text may take to agree that the connection ends.
const textPatience = time.Second

// CloseWithin closes the WebSocket with a close frame, and then the connection, as soon as the other end has answered
// with one, or patience is over. It ends a Read that is under way, within the same time. What was written before has left.
func (c *webConn) CloseWithin(patience time.Duration) {
	c.end(patience, websocket.StatusNormalClosure, "")
}

func (c *webConn) end(patience time.Duration, status websocket.StatusCode, reason string) {
	c.mu.Lock()
	if !c.ending {
		c.ending = true
		_ = c.Conn.SetReadDeadline(time.Now().Add(patience))
	}
	c.mu.Unlock()
	_ = c.ws.Close(status, reason)
}

// Close cuts the connection. What was written before has left already.
func (c *webConn) Close() error {
	err := c.Conn.Close() // so that nothing is waited for
	_ = c.ws.CloseNow()
	return err //nolint:wrapcheck // it stands for it
}
