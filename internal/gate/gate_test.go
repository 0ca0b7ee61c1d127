package gate_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/gate"
	"github.com/umbra-iot/umbra/internal/pki"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

const patience = 20 * time.Second

// open starts a gate with one listener. What comes out of its doors is greeted by the door's name, and then echoed; who
// says "!" has proved who it is.
func open(t *testing.T, o gate.Options, s gate.Spec) (g *gate.Gate, addr string) {
	t.Helper()
	g = gate.New(o)
	s.Address = "127.0.0.1:0"
	a, err := g.Listen(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 3)
	go func() { served <- g.Serve() }()
	go echo(g.MQTT(), "mqtt\n", served)
	go echo(g.HTTP(), "http\n", served)
	t.Cleanup(func() {
		g.Close()
		_, _ = g.MQTT().Close(), g.HTTP().Close()
		for range 3 {
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})
	return g, a.String()
}

func echo(l net.Listener, name string, ended chan<- error) {
	for {
		c, err := l.Accept()
		if err != nil {
			ended <- nil
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(c, name)
			_, _ = io.Copy(c, io.TeeReader(c, known{c.(*gate.Conn)}))
		}()
	}
}

// known admits a connection whose client says "!".
type known struct{ c *gate.Conn }

func (k known) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("!")) {
		k.c.Admit()
	}
	return len(b), nil
}

// prove says who a client is.
func prove(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// hello reads the greeting.
func hello(c net.Conn) string {
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		return err.Error()
	}
	return string(b[:4])
}

func isOpen(c net.Conn) bool {
	if _, err := c.Write([]byte("x")); err != nil {
		return false
	}
	_, err := c.Read(make([]byte, 1))
	return err == nil
}

// withTLS makes the TLS settings of a server, and those of a client that trusts it.
func withTLS(t *testing.T, k gate.Kind) (*tlsfiles.Config, *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.Init(dir, pki.Options{})
	if err == nil {
		_, err = ca.Issue(pki.Request{Name: "server", Hosts: []string{"localhost"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	server, err := tlsfiles.Load(tlsfiles.Files{
		Cert: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server.key"), Protocols: k.Protocols(),
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, pki.CACert))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	return server, &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

func TestProtocolNegotiation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind  gate.Kind
		offer []string
		want  string // "" for a refusal
	}{
		{gate.MQTTS, nil, "mqtt"},
		{gate.MQTTS, []string{"x-amzn-mqtt-ca"}, "mqtt"},
		{gate.MQTTS, []string{"mqtt"}, "mqtt"},
		{gate.MQTTS, []string{"http/1.1"}, ""},
		{gate.HTTPS, nil, "http"},
		{gate.HTTPS, []string{"h2", "http/1.1"}, "http"},
		{gate.HTTPS, []string{"x-amzn-http-ca"}, "http"},
		{gate.HTTPS, []string{"x-amzn-mqtt-ca"}, "mqtt"},
		{gate.HTTPS, []string{"mqtt"}, "mqtt"},
		{gate.WSS, []string{"http/1.1"}, "http"},
		{gate.WSS, []string{"mqtt"}, ""},
	} {
		t.Run(fmt.Sprint(tt.kind, tt.offer), func(t *testing.T) {
			t.Parallel()
			server, client := withTLS(t, tt.kind)
			_, addr := open(t, gate.Options{}, gate.Spec{Kind: tt.kind, TLS: server})
			client.NextProtos = tt.offer
			c := tls.Client(dial(t, addr), client)
			err := c.Handshake()
			if (err == nil) != (tt.want != "") {
				t.Fatalf("handshake = %v", err)
			}
			if err == nil {
				if got := hello(c); got != tt.want {
					t.Errorf("got to %s, want %s", got, tt.want)
				}
			}
		})
	}
}

func TestSilentHandshakeEnds(t *testing.T) {
	t.Parallel()
	server, _ := withTLS(t, gate.MQTTS)
	g, addr := open(t, gate.Options{Handshake: 50 * time.Millisecond}, gate.Spec{Kind: gate.MQTTS, TLS: server})
	c := dial(t, addr)
	if b, err := io.ReadAll(c); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %q, %v; want the end", b, err)
	}
	eventually(t, "no connection", func() bool { return g.Stats().Open == 0 })
	if n := g.Stats().HandshakesFailed; n != 1 {
		t.Errorf("%d handshakes have failed, want 1", n)
	}
}

// proxyHeader is a PROXY header of version 2 for 192.0.2.7:4711 to 192.0.2.1:1883.
func proxyHeader() []byte {
	return append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), 192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0x07, 0x5b)
}

func TestProxyHeader(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, tt := range []struct {
		name    string
		proxies []netip.Prefix
		send    []byte
		want    string // address that the server sees, "" for a refusal
	}{
		{"trusted", trusted, proxyHeader(), "192.0.2.7:4711"},
		{"local", trusted, []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"), "127.0.0.1"},
		{"no header", trusted, []byte("\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x03web"), ""},
		{"version 1", trusted, []byte("PROXY TCP4 192.0.2.7 192.0.2.1 4711 1883\r\n"), ""},
		{"too long", trusted, append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"), make([]byte, 65535)...), ""},
		{"not trusted", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, proxyHeader(), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := gate.New(gate.Options{Handshake: time.Second})
			a, err := g.Listen(t.Context(), gate.Spec{Name: "here", Kind: gate.MQTT, Address: "127.0.0.1:0", Proxies: tt.proxies})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- g.Serve() }()
			t.Cleanup(func() {
				g.Close()
				<-done
			})
			c := dial(t, a.String())
			_, _ = c.Write(append(bytes.Clone(tt.send), "rest"...))
			if tt.want == "" {
				if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("read: %v, want the end", err)
				}
				return
			}
			in, err := g.MQTT().Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			var cr auth.Credentials
			in.(auth.Peer).Complete(&cr)
			if got := in.RemoteAddr().String(); got[:len(tt.want)] != tt.want || cr.Listener != "here" || !cr.Remote.IsValid() {
				t.Errorf("the server sees %s and %+v, want %s", got, cr, tt.want)
			}
			b := make([]byte, 4)
			if _, err := io.ReadFull(in, b); err != nil || string(b) != "rest" {
				t.Errorf("after the header comes %q, %v", b, err)
			}
		})
	}
}

// TestOldestStrangerMakesRoom fills the budget with clients that never say who they are.
func TestOldestStrangerMakesRoom(t *testing.T) {
	t.Parallel()
	g, addr := open(t, gate.Options{Budget: gate.NewBudget(3 * 32 << 10)}, gate.Spec{Kind: gate.MQTT})
	var all []net.Conn
	for range 5 {
		c := dial(t, addr)
		if hello(c) != "mqtt" {
			t.Fatal("a new client does not get in")
		}
		all = append(all, c)
	}
	for i, c := range all {
		if got, want := isOpen(c), i >= 2; got != want {
			t.Errorf("stranger %d is open: %v, want %v", i, got, want)
		}
	}
	if s := g.Stats(); s.Strangers != 3 || s.PushedOut != 2 {
		t.Errorf("Stats() = %+v", s)
	}
}

// listen opens a gate with one listener, whose connections the test takes.
func listen(t *testing.T, o gate.Options, kind gate.Kind) (g *gate.Gate, addr string) {
	t.Helper()
	g = gate.New(o)
	a, err := g.Listen(t.Context(), gate.Spec{Kind: kind, Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Serve() }()
	t.Cleanup(func() {
		g.Close()
		<-done
	})
	return g, a.String()
}

// TestKnownClientsBecomeStrangers has clients that are known reserve more than there is: each makes room for the next, and
// who proves itself again stays.
func TestKnownClientsBecomeStrangers(t *testing.T) {
	t.Parallel()
	const body = 1 << 20
	g, addr := listen(t, gate.Options{Budget: gate.NewBudget(2 * (body + 32<<10))}, gate.HTTP)
	enter := func() *gate.Conn {
		dial(t, addr)
		c, err := g.HTTP().Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.(*gate.Conn).Admit()
		return c.(*gate.Conn)
	}
	proved := enter()
	for range 4 {
		if !proved.Reserve(t.Context(), body) {
			t.Fatal("nothing is left of what was given back")
		}
		proved.Admit()
		if !enter().Reserve(t.Context(), body) {
			t.Fatal("who has reserved the budget does not make room")
		}
	}
	if s := g.Stats(); s.Open != 3 || s.Strangers != 2 || s.PushedOut != 2 {
		t.Errorf("Stats() = %+v, want two strangers and one who is known", s)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if proved.Reserve(gone, body) || proved.Reserve(t.Context(), 3*body) {
		t.Error("more is reserved than there is")
	}
}

func TestThoseWhoAreKnownStay(t *testing.T) {
	t.Parallel()
	g, addr := listen(t, gate.Options{Budget: gate.NewBudget(32 << 10)}, gate.MQTT)
	for range 3 {
		dial(t, addr)
		c, err := g.MQTT().Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.(*gate.Conn).Admit()
	}
	if s := g.Stats(); s.Open != 3 || s.Strangers != 0 || s.PushedOut != 0 {
		t.Errorf("Stats() = %+v, want three clients that are known", s)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		o gate.Options
		s gate.Spec
	}{
		"of the listener":    {s: gate.Spec{Connections: 2}},
		"of the one address": {o: gate.Options{PerAddress: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.s.Kind = gate.MQTT
			g, addr := open(t, tt.o, tt.s)
			first := dial(t, addr)
			second := dial(t, addr)
			if hello(first) != "mqtt" || hello(second) != "mqtt" {
				t.Fatal("two clients do not get in")
			}
			prove(t, first)
			prove(t, second)
			if third := dial(t, addr); hello(third) == "mqtt" {
				t.Error("a third client gets in")
			}
			_ = first.Close()
			eventually(t, "one connection", func() bool { return g.Stats().Open == 1 })
			if hello(dial(t, addr)) != "mqtt" {
				t.Error("nobody gets the place that has become free")
			}
			if s := g.Stats(); s.Refused != 1 {
				t.Errorf("Stats() = %+v", s)
			}
		})
	}
}

// TestStrangersLeaveTheirPlaces has strangers take all places of a listener or an address, again and again: who comes gets
// the place of the oldest of them, and the client that is known keeps its own.
func TestStrangersLeaveTheirPlaces(t *testing.T) {
	t.Parallel()
	const places = 3
	for name, tt := range map[string]struct {
		o     gate.Options
		s     gate.Spec
		first []byte
		waits bool // the gate makes who comes wait until one is old enough
	}{
		"of all listeners":           {o: gate.Options{Connections: places}, waits: true},
		"of the listener":            {s: gate.Spec{Connections: places}, waits: true},
		"of the address":             {o: gate.Options{PerAddress: places}},
		"of an address by its proxy": {o: gate.Options{PerAddress: places}, s: gate.Spec{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, first: proxyHeader()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.s.Kind = gate.MQTT
			g, addr := open(t, tt.o, tt.s)
			enter := func() (c net.Conn) {
				eventually(t, "a place", func() bool {
					c = dial(t, addr)
					_, _ = c.Write(tt.first)
					in := hello(c) == "mqtt"
					if !in && tt.waits {
						t.Fatal("a client is refused, although a stranger leaves its place soon")
					}
					return in
				})
				return c
			}
			who := enter()
			prove(t, who)
			strangers := []net.Conn{enter(), enter(), enter(), enter(), enter()}
			for i, c := range strangers {
				if got, want := isOpen(c), i >= 3; got != want {
					t.Errorf("stranger %d is open: %v, want %v", i, got, want)
				}
			}
			prove(t, enter())
			if !isOpen(who) {
				t.Error("a client that is known has lost its place")
			}
			s := g.Stats()
			s.Refused = 0
			if want := (gate.Stats{Open: places, Strangers: 1, PushedOut: 4}); s != want {
				t.Errorf("Stats() = %+v, want %+v", s, want)
			}
			prove(t, enter())
			last := dial(t, addr)
			_, _ = last.Write(tt.first)
			if hello(last) == "mqtt" {
				t.Error("a client gets in where all places are of those who are known")
			}
		})
	}
}

// TestRate lets ten clients a second in: of thirty the last waits.
func TestRate(t *testing.T) {
	t.Parallel()
	_, addr := open(t, gate.Options{}, gate.Spec{Kind: gate.MQTT, Rate: 10})
	began := time.Now()
	for range 21 {
		if hello(dial(t, addr)) != "mqtt" {
			t.Fatal("a client does not get in")
		}
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("21 clients took %v, want a second for those after the first ten", took)
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// TestBoundOfAnAddressBehindAProxy counts the address that the header tells, and not that of the proxy.
func TestBoundOfAnAddressBehindAProxy(t *testing.T) {
	t.Parallel()
	spec := gate.Spec{Kind: gate.MQTT, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	g, addr := open(t, gate.Options{PerAddress: 2}, spec)
	enter := func(header []byte) net.Conn {
		c := dial(t, addr)
		_, _ = c.Write(header)
		return c
	}
	other := bytes.Replace(proxyHeader(), []byte{192, 0, 2, 7}, []byte{192, 0, 2, 8}, 1)
	first := enter(proxyHeader())
	for _, c := range []net.Conn{first, enter(proxyHeader()), enter(other)} {
		if hello(c) != "mqtt" {
			t.Fatal("two clients of an address and one of another do not get in")
		}
		prove(t, c)
	}
	if hello(enter(proxyHeader())) == "mqtt" {
		t.Error("a third client of an address gets in")
	}
	if s := g.Stats(); s.Open != 3 || s.Refused != 1 || s.HandshakesFailed != 0 {
		t.Errorf("Stats() = %+v", s)
	}
	_ = first.Close()
	eventually(t, "two connections", func() bool { return g.Stats().Open == 2 })
	if hello(enter(proxyHeader())) != "mqtt" {
		t.Error("nobody gets the place that has become free")
	}
	local := []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
	for range 3 {
		if hello(enter(local)) != "mqtt" {
			t.Error("what the proxy asks for itself counts")
		}
	}
}

// TestBoundOfANetwork counts the addresses of a network of IPv6 together, as who has one of them has them all.
func TestBoundOfANetwork(t *testing.T) {
	t.Parallel()
	spec := gate.Spec{Kind: gate.MQTT, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	g, addr := open(t, gate.Options{PerAddress: 2}, spec)
	enter := func(from string) net.Conn {
		header := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24")
		for _, a := range []string{from, "2001:db8::1"} {
			b := netip.MustParseAddr(a).As16()
			header = append(header, b[:]...)
		}
		c := dial(t, addr)
		_, _ = c.Write(append(header, 0x12, 0x67, 0x07, 0x5b))
		return c
	}
	first := enter("2001:db8:1:2::1")
	for _, c := range []net.Conn{first, enter("2001:db8:1:2:ffff::2"), enter("2001:db8:1:3::1")} {
		if hello(c) != "mqtt" {
			t.Fatal("two clients of a network and one of another do not get in")
		}
		prove(t, c)
	}
	if hello(enter("2001:db8:1:2::3")) == "mqtt" {
		t.Error("a third client of a network gets in")
	}
	_ = first.Close()
	eventually(t, "two connections", func() bool { return g.Stats().Open == 2 })
	if hello(enter("2001:db8:1:2::4")) != "mqtt" {
		t.Error("nobody gets the place that has become free")
	}
}
