package gate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

// Conn is a connection that came through the gate. It is an [auth.Peer].
type Conn struct {
	net.Conn // of TLS, where there is TLS

	raw      net.Conn
	gate     *Gate
	entrance *entrance
	source   netip.Addr           // who is at the other end of the socket
	remote   net.Addr             // who a proxy says it is, nil for none
	tls      *tls.ConnectionState // nil without TLS
	peer     *auth.Principal      // by its certificate, nil for nobody
	forHTTP  bool

	reading reading
	counts  atomic.Bool // what is read is of a client that has to prove who it is

	through  bool                            // guarded by Gate.mu, as what follows
	recheck  func(tls.ConnectionState) error // that the handshake has not asked; nil while there is none
	standing standing                        // of a stranger counts in the budget
	since    time.Time                       // it has that standing
	reserved int                             // of the budget, beside what each stranger costs
	paid     int                             // the same, for what was read
	places   []place                         // in the crowds that it is of
}

// begin does what comes before the first byte of the client's protocol.
func (c *Conn) begin(ctx context.Context) (forMQTT bool, err error) {
	if len(c.entrance.Proxies) > 0 {
		if err := c.readProxyHeader(); err != nil {
			return false, err
		}
		if !c.gate.recount(c) {
			return false, errTooMany
		}
	}
	forMQTT = c.entrance.Kind == MQTT || c.entrance.Kind == MQTTS
	if c.entrance.TLS == nil {
		return forMQTT, nil
	}
	conn := tls.Server(&beneath{c.Conn, c}, c.entrance.TLS.TLS())
	if err := conn.HandshakeContext(ctx); err != nil {
		c.tell(refusedCertificate(conn, err), err)
		return false, fmt.Errorf("gate: TLS: %w", err)
	}
	state := conn.ConnectionState()
	c.tls, c.Conn = &state, conn
	switch state.NegotiatedProtocol {
	case alpnMQTT, alpnAWS:
		forMQTT = true
	case alpnHTTP, alpnAWSHTTP:
		forMQTT = false
	}
	if c.entrance.Identify != nil && len(state.PeerCertificates) > 0 {
		p, err := c.entrance.Identify(state)
		if err != nil {
			c.tell(state.PeerCertificates[0], err)
			return false, fmt.Errorf("gate: client certificate: %w", err)
		}
		c.peer = p
	}
	return forMQTT, nil
}

// tell tells of a certificate that does not count, nil for none.
func (c *Conn) tell(cert *x509.Certificate, why error) {
	if c.gate.Refused != nil && cert != nil {
		c.gate.Refused(c.entrance.Name, addrOf(c.RemoteAddr()), cert, why)
	}
}

// refusedCertificate returns the certificate because of which a handshake has failed; nil when it was something else.
func refusedCertificate(conn *tls.Conn, err error) *x509.Certificate {
	var list []*x509.Certificate
	if unverified, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		list = unverified.UnverifiedCertificates
	} else if errors.Is(err, tlsfiles.ErrRevoked) {
		list = conn.ConnectionState().PeerCertificates
	}
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// maxProxyHeader is the longest PROXY header: 16 bytes, 216 of addresses, and what TLVs a proxy may add.
const maxProxyHeader = 4 << 10

// readProxyHeader takes the header of a trusted proxy; nobody else may use the listener.
func (c *Conn) readProxyHeader() error {
	trusted := false
	for _, p := range c.entrance.Proxies {
		trusted = trusted || p.Contains(c.source)
	}
	if !trusted {
		return fmt.Errorf("gate: %v is no trusted proxy", c.source)
	}
	r := bufio.NewReaderSize(io.LimitReader(c.raw, maxProxyHeader), maxProxyHeader)
	start, err := r.Peek(len(proxyproto.SIGV2))
	if err != nil || !bytes.Equal(start, proxyproto.SIGV2) {
		return errProxy
	}
	h, err := proxyproto.Read(r)
	if err != nil {
		return fmt.Errorf("%w: %w", errProxy, err)
	}
	if h.Command.IsProxy() {
		c.remote = h.SourceAddr
	}
	rest, _ := r.Peek(r.Buffered()) // never fails
	c.Conn = &prefixed{Conn: c.raw, first: bytes.Clone(rest)}
	return nil
}

// prefixed is a connection of which something was read already.
type prefixed struct {
	net.Conn
	first []byte
}

// Read implements [net.Conn].
func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.first)
	p.first = p.first[n:]
	return n, nil
}

// CloseWrite tells the other end that nothing more comes.
func (p *prefixed) CloseWrite() error { return closeWrite(p.Conn) }

// CloseWrite tells the other end that nothing more comes.
func (c *Conn) CloseWrite() error { return closeWrite(c.Conn) }

// NetConn returns the socket.
func (c *Conn) NetConn() net.Conn { return c.raw }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}

// RemoteAddr implements [net.Conn]: behind a trusted proxy it is the client's address.
func (c *Conn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.raw.RemoteAddr()
}

// Listener returns the name of the listener that accepted the connection.
func (c *Conn) Listener() string { return c.entrance.Name }

// Kind returns what the listener speaks that accepted the connection.
func (c *Conn) Kind() Kind { return c.entrance.Kind }

// IsTLS reports whether the connection is encrypted.
func (c *Conn) IsTLS() bool { return c.tls != nil }

// Peer returns who the connection itself says that the client is: by its certificate, nil for nobody.
func (c *Conn) Peer() *auth.Principal { return c.peer }

// Complete implements [auth.Peer].
func (c *Conn) Complete(to *auth.Credentials) {
	to.Listener, to.Remote, to.Peer = c.entrance.Name, addrOf(c.RemoteAddr()), c.peer
	if c.tls != nil {
		to.Secure, to.Domain = true, c.tls.ServerName
	}
}

// Admit says that the client has proved who it is, or needs not to: it is no stranger any more.
func (c *Conn) Admit() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.admit()
}

// admit is Admit for those who hold Gate.mu.
func (c *Conn) admit() {
	g := c.gate
	c.counts.Store(false)
	g.Budget.Give(c.reserved + c.paid)
	c.reserved, c.paid = 0, 0
	if c.standing == stranger {
		g.Budget.Give(strangerBytes)
	}
	if c.standing != known {
		c.become(known)
	}
}

// Reserve takes n bytes of the budget for what the client sends to prove who it is. Until Admit the connection is a
// stranger: if it was none any more, one that has just come. The bytes are given back by Release, by Admit, and when
// the connection is pushed out or closed. False means that it is, that there never is so much, or that ctx has ended
// before there was room.
func (c *Conn) Reserve(ctx context.Context, n int) bool {
	c.Release()
	return c.owe(ctx, &c.reserved, n)
}

// Release gives back what Reserve has taken. The connection stays a stranger.
func (c *Conn) Release() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.gate.Budget.Give(c.reserved)
	c.reserved = 0
}

// Close implements [net.Conn].
func (c *Conn) Close() error {
	if !c.leave() {
		return c.raw.Close() // a handshake may be under way
	}
	return c.Conn.Close()
}

// cut is Close for those who must not wait for the other end to take the last bytes of TLS.
func (c *Conn) cut() {
	c.leave()
	_ = c.raw.Close()
}

// leave takes c out of all counts, and reports whether it had come through.
func (c *Conn) leave() (through bool) {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.quit()
	return c.through
}

// quit takes c out of all counts, for those who hold Gate.mu.
func (c *Conn) quit() {
	c.admit()
	delete(c.gate.open, c)
	for _, p := range c.places {
		if p.open--; p.open == 0 && p.crowd.source.IsValid() {
			delete(c.gate.from, p.crowd.source)
		}
	}
	c.places = nil
}
