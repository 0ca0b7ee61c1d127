package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

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
		ws, err := websocket.Accept(w, r, accept)
		if err != nil { // Accept has answered the client
			l.log.Debug("websocket refused", "error", err, "remote", r.RemoteAddr)
			return
		}
		c := &webConn{
			Conn: websocket.NetConn(context.Background(), ws, websocket.MessageBinary), ws: ws,
			under: ConnOf(r.Context()), who: auth.FromContext(r.Context()),
		}
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
// on, for [http.Server.ConnContext]: a WebSocket shows what that one knows of
// its client.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, underKey{}, c)
}

// ConnOf returns the connection that a request came on, nil when nobody has told.
func ConnOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(underKey{}).(net.Conn)
	return c
}

// webConn is a WebSocket as a net.Conn whose Close does not wait for the other
// side to agree.
type webConn struct {
	net.Conn
	ws    *websocket.Conn
	under net.Conn        // nil when it is not known
	who   *auth.Principal // of the request that began it, nil when that has shown nothing
}

// Complete implements [auth.Peer].
func (c *webConn) Complete(to *auth.Credentials) {
	if p, ok := c.under.(auth.Peer); ok {
		p.Complete(to)
	}
	if c.who != nil {
		to.Peer = c.who
	}
}

// Admit passes on that the client has proved who it is.
func (c *webConn) Admit() { Admit(c.under) }

// Admit tells c, if it wants to know, that its client has proved who it is.
func Admit(c net.Conn) {
	if a, ok := c.(interface{ Admit() }); ok {
		a.Admit()
	}
}

// RemoteAddr implements [net.Conn].
func (c *webConn) RemoteAddr() net.Addr {
	if c.under != nil {
		return c.under.RemoteAddr()
	}
	return c.Conn.RemoteAddr()
}

// Read reports errors as a TCP connection would.
func (c *webConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return n, err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // the deadline ends a context
		return n, os.ErrDeadlineExceeded
	default:
		return n, fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
}

// Close cuts the connection. What was written before has left already.
func (c *webConn) Close() error { return c.ws.CloseNow() }
