package gate_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/gate"
	"github.com/umbra-iot/umbra/internal/pki"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

// openHTTP starts a gate with a server of HTTP. It knows who makes a request with the header Known.
func openHTTP(t *testing.T, o gate.Options) (g *gate.Gate, addr string) {
	t.Helper()
	g = gate.New(o)
	a, err := g.Listen(t.Context(), gate.Spec{Kind: gate.HTTP, Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	type key struct{}
	web := &http.Server{
		ReadHeaderTimeout: time.Minute,
		ConnState:         gate.Follow,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Known") != "" {
				r.Context().Value(key{}).(*gate.Conn).Admit()
			}
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNoContent)
		}),
	}
	served := make(chan error, 2)
	go func() { served <- g.Serve() }()
	go func() { served <- web.Serve(g.HTTP()) }()
	t.Cleanup(func() {
		g.Close()
		_ = web.Close()
		for range 2 {
			if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}
	})
	return g, a.String()
}

const byKnown = "GET / HTTP/1.1\r\nHost: x\r\nKnown: yes\r\n\r\n"

// answered sends a request and whatever comes with it, and waits for its answer.
func answered(t *testing.T, c net.Conn, request string) {
	t.Helper()
	const answer = "HTTP/1.1 204 No Content\r\n"
	go func() { _, _ = io.WriteString(c, request) }()
	b := make([]byte, 4096)
	n, err := io.ReadAtLeast(c, b, len(answer))
	if err != nil || !strings.HasPrefix(string(b[:n]), answer) {
		t.Fatalf("the answer to %.80q is %q, %v", request, b[:n], err)
	}
	for !strings.Contains(string(b[:n]), "\r\n\r\n") {
		more, err := c.Read(b[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += more
	}
}

// headers are so many lines of which net/http makes many times as many bytes.
func headers(lines int) string {
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "%x:\r\n", i)
	}
	return b.String()
}

// TestHeadersCount has five clients send headers without an end, for which there is room for two of them: those who did so
// first make room, whether they have proved before who they are or not.
func TestHeadersCount(t *testing.T) {
	t.Parallel()
	endless := "GET / HTTP/1.1\r\nHost: x\r\n" + headers(1000)
	long := "GET / HTTP/1.1\r\nHost: x\r\nLong: " + strings.Repeat("x", 60<<10)
	for name, send := range map[string]func(*testing.T, net.Conn){
		"of strangers":           func(_ *testing.T, c net.Conn) { _, _ = io.WriteString(c, endless) },
		"in one line":            func(_ *testing.T, c net.Conn) { _, _ = io.WriteString(c, long) },
		"of those who are known": func(t *testing.T, c net.Conn) { answered(t, c, byKnown); _, _ = io.WriteString(c, endless) },
		"that are sent ahead": func(t *testing.T, c net.Conn) {
			answered(t, c, byKnown+endless[:2000])
			_, _ = io.WriteString(c, endless[2000:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, addr := openHTTP(t, gate.Options{Budget: gate.NewBudget(300 << 10)})
			for range 5 {
				send(t, dial(t, addr))
			}
			eventually(t, "those who have sent much to make room", func() bool { return g.Stats().PushedOut >= 2 })
		})
	}
}

// TestRequestsThatEndCostNothing makes requests on a connection that take much more than there is, if they are counted
// together, or if their bodies are.
func TestRequestsThatEndCostNothing(t *testing.T) {
	t.Parallel()
	g, addr := openHTTP(t, gate.Options{Budget: gate.NewBudget(96 << 10)})
	body := strings.Repeat("{}", 100<<10)
	post := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", len(body))
	for name, request := range map[string]string{
		"headers of strangers":           "GET / HTTP/1.1\r\nHost: x\r\n" + headers(300) + "\r\n",
		"headers of those who are known": "GET / HTTP/1.1\r\nHost: x\r\nKnown: yes\r\n" + headers(300) + "\r\n",
		"bodies of strangers":            post + "\r\n" + body,
		"bodies of those who are known":  post + "Known: yes\r\n\r\n" + body,
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			defer c.Close()
			for range 20 {
				answered(t, c, request)
			}
		})
	}
	if s := g.Stats(); s.PushedOut > 0 {
		t.Errorf("Stats() = %+v", s)
	}
}

// TestHandshakesCount begins handshakes that take long, for which there is room for two of five.
func TestHandshakesCount(t *testing.T) {
	t.Parallel()
	server, _ := withTLS(t, gate.MQTTS)
	g, addr := open(t, gate.Options{Handshake: time.Minute, Budget: gate.NewBudget(256 << 10)}, gate.Spec{Kind: gate.MQTTS, TLS: server})
	hello := []byte{1, 0, 0xFF, 0xFF} // ClientHello of 65535 bytes
	var flight []byte
	for _, part := range [][]byte{append(hello, make([]byte, 15000)...), make([]byte, 15000), make([]byte, 15000)} {
		flight = append(flight, 0x16, 3, 1)
		flight = binary.BigEndian.AppendUint16(flight, uint16(len(part)))
		flight = append(flight, part...)
	}
	for range 5 {
		_, _ = dial(t, addr).Write(flight)
	}
	eventually(t, "those who have sent much to make room", func() bool { return g.Stats().PushedOut >= 2 })
}

// TestHandshakeIsBounded has a client show more certificates than a handshake may have bytes, and as many: only the first
// connection ends. What comes after the handshake is not bounded by it, be it sent in the largest pieces.
func TestHandshakeIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := pki.Init(dir, pki.Options{})
	if err == nil {
		_, err = ca.Issue(pki.Request{Name: "server", Hosts: []string{"localhost"}})
	}
	if err == nil {
		_, err = ca.Issue(pki.Request{Name: "lamp"})
	}
	if err != nil {
		t.Fatal(err)
	}
	server, err := tlsfiles.Load(tlsfiles.Files{
		Cert: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server.key"), ClientCA: filepath.Join(dir, pki.CACert), ClientCert: "required",
	})
	if err != nil {
		t.Fatal(err)
	}
	lamp, err := tls.LoadX509KeyPair(filepath.Join(dir, "lamp.pem"), filepath.Join(dir, "lamp.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		bound, certificates int // of the second about so many bytes
		want                bool
	}{{0, 40 << 10, true}, {0, 80 << 10, false}, {96 << 10, 80 << 10, true}, {8 << 10, 4 << 10, true}, {8 << 10, 12 << 10, false}} {
		shown := tls.Certificate{PrivateKey: lamp.PrivateKey}
		for size := 0; size < tt.certificates; size += len(lamp.Certificate[0]) {
			shown.Certificate = append(shown.Certificate, lamp.Certificate[0])
		}
		_, addr := open(t, gate.Options{Handshake: time.Minute, HandshakeBytes: tt.bound}, gate.Spec{Kind: gate.MQTTS, TLS: server})
		client := tls.Client(dial(t, addr), &tls.Config{
			InsecureSkipVerify:   true, //nolint:gosec // it is about the client
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil },
		})
		const sent = 1 << 20
		go func() { _, _ = client.Write(make([]byte, sent)) }()
		got, err := io.CopyN(io.Discard, client, int64(len("mqtt\n")+sent))
		if (err == nil) != tt.want || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a handshake with certificates of %d bytes, of which there may be %d: %d bytes come back, %v", tt.certificates, tt.bound, got, err)
		}
	}
}

// TestIdleConnectionsMakeRoom has known clients of HTTP take all places: the one that has been silent for the longest makes
// room for who comes, and not the one whose request is under way, although that began first.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	g, addr := openHTTP(t, gate.Options{Connections: 3})
	busy, first, second := dial(t, addr), dial(t, addr), dial(t, addr)
	_, _ = io.WriteString(busy, "POST / HTTP/1.1\r\nHost: x\r\nKnown: yes\r\nContent-Length: 2\r\n\r\na")
	for i, c := range []net.Conn{first, second} {
		answered(t, c, byKnown)
		eventually(t, "its client to be between two requests", func() bool { return g.Stats().Idle == int64(i+1) })
	}
	eventually(t, "all are known", func() bool { return g.Stats().Strangers == 0 })
	answered(t, dial(t, addr), byKnown)
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection that was silent for the longest: %v, want its end", err)
	}
	answered(t, second, byKnown)
	answered(t, busy, "b")
	if s := g.Stats(); s.Open != 3 || s.PushedOut != 1 || s.Refused != 0 {
		t.Errorf("Stats() = %+v", s)
	}
}
