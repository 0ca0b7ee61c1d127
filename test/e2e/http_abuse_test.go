package e2e_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// basic is the header with a user and a password.
func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

// exchange makes one request after another on one connection.
type exchange struct {
	net.Conn
	r *bufio.Reader
}

func exchangeWith(t *testing.T, addr string) *exchange {
	t.Helper()
	c := open(t, addr)
	_ = c.SetDeadline(time.Now().Add(patience))
	return &exchange{c, bufio.NewReader(c)}
}

// do sends a request without a body and returns the status of its answer.
func (e *exchange) do(t *testing.T, line, headers string) int {
	t.Helper()
	_, _ = io.WriteString(e, line+" HTTP/1.1\r\nHost: localhost\r\n"+headers+"\r\n")
	resp, err := http.ReadResponse(e.r, nil)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return resp.StatusCode
}

// TestWhatARequestShowsCountsForItAlone makes a request without credentials on a connection where others have shown some.
func TestWhatARequestShowsCountsForItAlone(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:")
	root := basic("root", l.adminPassword)
	e := exchangeWith(t, l.HTTP())
	for _, tt := range []struct {
		line, headers string
		want          int
	}{
		{"GET /mqtt", root, http.StatusUpgradeRequired},
		{"GET /things/lamp/shadow", "", http.StatusUnauthorized},
		{"GET /things/lamp/shadow", root, http.StatusNotFound},
		{"GET /things/lamp/shadow", "", http.StatusUnauthorized},
		{"GET /v1/credentials/users", "", http.StatusUnauthorized},
	} {
		if got := e.do(t, tt.line, tt.headers); got != tt.want {
			t.Errorf("%s with the headers %q = %d, want %d", tt.line, tt.headers, got, tt.want)
		}
	}
	connect := string(mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: "web"}))
	for headers, accepted := range map[string]bool{root: true, "": false} {
		e := exchangeWith(t, l.HTTP())
		if got := e.do(t, "GET /mqtt", root); got != http.StatusUpgradeRequired {
			t.Errorf("GET /mqtt = %d", got)
		}
		_, _ = io.WriteString(e, upgrade(headers))
		if head := readHead(t, e); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
			t.Fatalf("the answer to the upgrade is %s", head)
		}
		_, _ = io.WriteString(e, frame(0x82, uint64(len(connect)), connect))
		connack := make([]byte, 6) // two bytes of the frame, four of the packet
		if _, err := io.ReadFull(e, connack); err != nil || (connack[5] == 0) != accepted {
			t.Errorf("a WebSocket with the headers %q is answered with %x, %v", headers, connack, err)
		}
	}
}

// ends reads until the server closes the connection, and returns what it has said.
func ends(t *testing.T, c net.Conn) string {
	t.Helper()
	said, err := io.ReadAll(c)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // of the socket
		t.Errorf("the connection stays, after %.100q", said)
	}
	return string(said)
}

// TestBodiesThatDoNotCome announces bodies, with credentials and without, and never sends them. The connections end, and
// do not keep others out for longer.
func TestBodiesThatDoNotCome(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:", "--request-timeout=500ms", "--listeners=http://127.0.0.1:0?max-connections=4")
	root := "Authorization: Bearer " + l.token + "\r\n"
	slow := map[string]string{ // by the first line and headers: the status
		"POST /things/x/shadow\n":          "401",
		"POST /things/x/shadow\n" + root:   "400",
		"POST /mqtt\n":                     "426",
		"GET /metrics\n":                   "401",
		"GET /metrics\n" + root:            "200",
		"GET /livez\n":                     "200",
		"POST /v1/mapping-events\n" + root: "400",
		"GET /v1/events\n" + root:          "200", // it ends as soon as it has begun
	}
	for _, length := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
		conns := map[string]net.Conn{}
		for request := range slow {
			c := exchangeWith(t, l.HTTP())
			line, headers, _ := strings.Cut(request, "\n")
			_, _ = io.WriteString(c, line+" HTTP/1.1\r\nHost: localhost\r\n"+headers+length+"\r\n\r\n")
			conns[request] = c
		}
		c := exchangeWith(t, l.HTTP())
		_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-") // nor does the end of the headers
		if said := ends(t, c); said != "" && !strings.HasPrefix(said, "HTTP/1.1 400 ") {
			t.Errorf("headers without an end are answered with %.100q", said)
		}
		for request, c := range conns {
			if said := ends(t, c); !strings.HasPrefix(said, "HTTP/1.1 "+slow[request]+" ") {
				t.Errorf("%q with %s and no body is answered with %.100q, want %s", request, length, said, slow[request])
			}
		}
	}
	for range 4 {
		_, _ = io.WriteString(open(t, l.Addr("http")), "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
	}
	for begin := time.Now(); ; {
		c := open(t, l.Addr("http"))
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if said, _ := io.ReadAll(c); strings.HasPrefix(string(said), "HTTP/1.1 200 ") {
			break
		}
		if time.Since(begin) > patience {
			t.Fatal("requests without bodies keep all others out")
		}
	}
}

// TestHTTPClientThatReadsNothing sends requests for ever and reads no answer: its connection ends.
func TestHTTPClientThatReadsNothing(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--request-timeout=300ms")
	for _, path := range []string{"/livez", "/v1/openapi.json", "/metrics", "/nothing"} {
		c := open(t, u.HTTP())
		_ = c.SetDeadline(time.Now().Add(patience))
		requests := strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n", 100)
		for {
			_, err := io.WriteString(c, requests)
			if err == nil {
				continue
			}
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // of the socket
				t.Errorf("%s: the connection of a client that reads nothing stays", path)
			}
			break
		}
	}
}

// TestStreamOutlivesTheTimeOfRequests reads a stream for longer than a request may take.
func TestStreamOutlivesTheTimeOfRequests(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--request-timeout=400ms")
	e := exchangeWith(t, u.HTTP())
	_, _ = io.WriteString(e, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	resp, err := http.ReadResponse(e.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for begin := time.Now(); time.Since(begin) < 1500*time.Millisecond; {
		rest(t, http.MethodGet, u.URL()+"/livez", "")
	}
	rest(t, http.MethodPost, u.URL()+"/things/lamp/shadow", `{"state":{"desired":{"on":true}}}`)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "data:") {
		continue
	}
	if lines.Err() != nil || !strings.Contains(lines.Text(), `"lamp"`) {
		t.Errorf("the stream ends with %q, %v", lines.Text(), lines.Err())
	}
}

// TestKnownClientsKeepNobodyOut has a client that is known announce signed bodies on many connections, and CONNECT packets
// on WebSockets, which it never sends: what it occupies of the budget of strangers makes room for others.
func TestKnownClientsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:", "--stranger-bytes=2MiB", "--connect-timeout=1m", "--request-timeout=1m")
	h := newHealth(t, l.Umbrad, mqtttest.Options{Username: "alice", Password: l.userPassword})
	now := time.Now().UTC().Format("20060102T150405Z")
	signed := "POST /things/x/shadow HTTP/1.1\r\nHost: localhost\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + l.keyID + "/" + now[:8] +
		"/us-east-1/iotdata/aws4_request, SignedHeaders=host;x-amz-date, Signature=00\r\nX-Amz-Date: " + now + "\r\nContent-Length: "
	known := "GET /things/lamp/shadow HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + l.token + "\r\n\r\n"
	for range 2 {
		for _, length := range []string{"100000\r\n\r\n", "30000\r\n\r\n", "30000\r\n\r\n"} { // until less is left than one more costs
			for range 22 {
				_, _ = io.WriteString(open(t, l.HTTP()), known+signed+length)
				_, _ = io.WriteString(open(t, l.HTTP()), known+upgrade("Authorization: Bearer "+l.token+"\r\n")+frame(0x82, 1000, "\x10\xa0\x9c\x01\x00\x04MQTT"))
			}
		}
		h.check(t)
	}
	if status, body := l.do(t, http.MethodPost, "/things/lamp/shadow", `{"state":{"desired":{"on":true}}}`, l.root); status != http.StatusOK {
		t.Errorf("POST shadow = %d %s", status, body)
	}
}

// TestWebSocketsBeginAsStrangers begins WebSockets on connections that are known: until their CONNECT is accepted they are
// strangers, whatever the requests have shown.
func TestWebSocketsBeginAsStrangers(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:", "--connect-timeout=1m")
	const sockets = 5
	for range sockets {
		e := exchangeWith(t, l.HTTP())
		e.do(t, "GET /things/lamp/shadow", "Authorization: Bearer "+l.token+"\r\n")
		_, _ = io.WriteString(e, upgrade("Authorization: Bearer "+l.token+"\r\n"))
		if resp, err := http.ReadResponse(e.r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("WebSocket: %v, %v", resp, err)
		}
	}
	if n := l.metric(t, "umbra_strangers"); n != sockets {
		t.Errorf("%v strangers, want %d", n, sockets)
	}
}

// TestHeadersAreBounded makes requests with headers that any token fits into, and with larger ones.
func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	for bound, fits := range map[string]int{"16KiB": 15 << 10, "64KiB": 63 << 10, "1KiB": 1000} {
		u := umbradtest.Start(t, "--store=memory:", "--http-header-bytes="+bound)
		for size, want := range map[int]int{fits: http.StatusNotFound, fits + 9<<10: http.StatusRequestHeaderFieldsTooLarge} {
			got := exchangeWith(t, u.HTTP()).do(t, "GET /things/lamp/shadow", "X-Long: "+strings.Repeat("x", size)+"\r\n")
			if got != want {
				t.Errorf("of %s: a request with %d bytes of headers is answered with %d, want %d", bound, size, got, want)
			}
		}
	}
}

// TestSilentConnectionsEnd makes no further request on a connection.
func TestSilentConnectionsEnd(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--http-idle-timeout=200ms", "--request-timeout=1m")
	e := exchangeWith(t, u.HTTP())
	e.do(t, "GET /livez", "")
	ends(t, e)
}

// TestHeadersWithoutAnEnd sends headers of many lines, of which much more memory becomes than they have bytes, and not the
// last of them: what that costs counts as what strangers cost, also of a client that was known, and makes room for others.
func TestHeadersWithoutAnEnd(t *testing.T) {
	t.Parallel()
	lines := func(size int) string {
		var all strings.Builder
		for i := 0; all.Len() < size; i++ {
			fmt.Fprintf(&all, "%x:\r\n", i)
		}
		return all.String()
	}
	for name, tt := range map[string]struct {
		isKnown bool
		bound   string
		sent    string
	}{
		"of strangers":               {false, "16KiB", lines(18 << 10)},
		"of a client that was known": {true, "16KiB", lines(18 << 10)},
		"that may be large":          {false, "1MiB", lines(256 << 10)},
		"in one line":                {false, "1MiB", "X: " + strings.Repeat("x", 1000<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := startLogin(t, "--store=memory:", "--stranger-bytes=8MiB", "--request-timeout=1m", "--http-header-bytes="+tt.bound)
			h := newHealth(t, l.Umbrad, mqtttest.Options{Username: "alice", Password: l.userPassword})
			before := l.metric(t, "go_memstats_heap_inuse_bytes")
			for range 200 {
				e := exchangeWith(t, l.HTTP())
				if tt.isKnown {
					e.do(t, "GET /things/lamp/shadow", "Authorization: Bearer "+l.token+"\r\n")
				}
				_, _ = io.WriteString(e, "GET / HTTP/1.1\r\nHost: localhost\r\n"+tt.sent)
			}
			eventually(t, func() error {
				if n := l.metric(t, "umbra_connections_pushed_out_total"); n < 50 {
					return fmt.Errorf("%v of them have made room", n)
				}
				return nil
			})
			if grown := l.metric(t, "go_memstats_heap_inuse_bytes") - before; grown > 32<<20 {
				t.Errorf("they cost %v bytes, of 8 MiB for all strangers", grown)
			}
			h.check(t)
		})
	}
}

// metric returns the value of a metric.
func (l *login) metric(t *testing.T, name string) float64 {
	t.Helper()
	_, text := l.do(t, http.MethodGet, "/metrics", "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+l.token) })
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestPagesOfOtherSites has a browser send what needs no leave of the server: a body that is plain text.
func TestPagesOfOtherSites(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--websocket-origins=https://app.example")
	for origin, want := range map[string]string{"https://evil.example": "403", "https://app.example": "200", "http://localhost": "200"} {
		e := exchangeWith(t, u.HTTP())
		_, _ = io.WriteString(e, "POST /things/lamp/shadow HTTP/1.1\r\nHost: localhost\r\nOrigin: "+origin+"\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\n"+`{"state":{}}`)
		if head := readHead(t, e); !strings.HasPrefix(head, "HTTP/1.1 "+want+" ") {
			t.Errorf("a request of a page of %s is answered with %s, want %s", origin, head, want)
		}
	}
}

// TestNamesThatLeadHere has a browser make requests for the name of another site, which leads to this server by now (DNS
// rebinding): they are refused where nobody would be asked who he is.
func TestNamesThatLeadHere(t *testing.T) {
	t.Parallel()
	open := umbradtest.Start(t, "--store=memory:", "--hosts=umbra.example,*.home", "--allow-anonymous", "--listeners=http://0.0.0.0:0 ws://127.0.0.1:0")
	guarded := startLogin(t, "--store=memory:")
	_, port, _ := net.SplitHostPort(open.Addr("http"))
	for _, tt := range []struct {
		addr, path string
		hosts      string
		want       int
	}{
		{open.HTTP(), "/v1/things", "127.0.0.1:1 localhost a.localhost [::1] umbra.example:80 Lamp.Home", http.StatusOK},
		{open.HTTP(), "/v1/things", "evil.example evil.example:8080 umbra.example.evil localhost.evil.example home", http.StatusMisdirectedRequest},
		{open.HTTP(), "/things/lamp/shadow", "evil.example", http.StatusMisdirectedRequest},
		{open.HTTP(), "/metrics", "evil.example", http.StatusMisdirectedRequest},
		{open.HTTP(), "/mqtt", "evil.example", http.StatusMisdirectedRequest},
		{open.Addr("ws"), "/mqtt", "evil.example", http.StatusMisdirectedRequest},
		{open.HTTP(), "/mqtt", "localhost", http.StatusSwitchingProtocols},
		{open.Addr("ws"), "/mqtt", "umbra.example", http.StatusSwitchingProtocols},
		{open.HTTP(), "/livez", "evil.example", http.StatusOK},
		{open.HTTP(), "/readyz", "evil.example", http.StatusOK},
		{"127.0.0.1:" + port, "/v1/things", "evil.example", http.StatusOK},
		{guarded.HTTP(), "/v1/things", "evil.example", http.StatusUnauthorized},
		{guarded.HTTP(), "/mqtt", "evil.example", http.StatusSwitchingProtocols},
	} {
		for host := range strings.FieldsSeq(tt.hosts) {
			request := strings.Replace(upgrade("Origin: http://"+host+"\r\n"), "umbra.localhost", host, 1)
			c := exchangeWith(t, tt.addr)
			_, _ = io.WriteString(c, strings.Replace(request, "/mqtt", tt.path, 1))
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("%s of %s at %s is answered with %d, want %d", tt.path, host, tt.addr, resp.StatusCode, tt.want)
			}
		}
	}
	if log := open.Log(); !strings.Contains(log, "host=umbra.example.evil") {
		t.Error("the log does not tell of requests that were refused")
	}
}

// TestStrangersKeepNobodyOutOfAListener has clients without credentials occupy all places of listeners: with requests for
// which nobody needs any, and with silence, again and again. Who proves himself gets a place, and keeps it.
func TestStrangersKeepNobodyOutOfAListener(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:", "--http=off", "--mqtt=off", "--connect-timeout=1m",
		"--listeners=http://127.0.0.1:0?max-connections=3 mqtt://127.0.0.1:0?max-connections=3")
	ctx, cancel := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	defer attackers.Wait()
	defer cancel()
	var answered, silent atomic.Int64
	for range 3 {
		attackers.Go(func() { occupy(ctx, l.HTTP(), "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", &answered) })
		attackers.Go(func() { occupy(ctx, l.MQTT(), "", &silent) })
	}
	eventually(t, func() error {
		if a, s := answered.Load(), silent.Load(); a < 3 || s < 3 {
			return fmt.Errorf("%d and %d places are taken", a, s)
		}
		return nil
	})
	known := exchangeWith(t, l.HTTP())
	bearer := "Authorization: Bearer " + l.token + "\r\n"
	if got := known.do(t, "GET /things/lamp/shadow", bearer); got != http.StatusNotFound {
		t.Errorf("GET shadow = %d", got)
	}
	// Who means it has a second. A password is checked on purpose slowly, which is more than that on a busy machine; a token is not.
	ci := mqtttest.Options{Username: "ci", Password: l.token, ClientID: "ci"}
	c := dial(t, l.MQTT(), ci)
	subscribe(t, c, "health")
	ci.ClientID = "ci-2"
	dial(t, l.MQTT(), ci)
	other := exchangeWith(t, l.HTTP())
	if got := other.do(t, "GET /things/lamp/shadow", bearer); got != http.StatusNotFound {
		t.Errorf("GET shadow of another client = %d", got)
	}
	if got := known.do(t, "GET /things/lamp/shadow", bearer); got != http.StatusNotFound {
		t.Errorf("GET shadow on the first connection = %d", got)
	}
	if _, err := c.Publish(wait(t), mqtttest.Message{Topic: "health", Payload: []byte("x"), QoS: 1}); err != nil {
		t.Errorf("a client that has proved itself is not served: %v", err)
	}
}

// occupy takes a place of a listener, and another one when it loses it, until ctx ends. It says the same again and again,
// or nothing, and counts the connections on which it was not refused.
func occupy(ctx context.Context, addr, say string, taken *atomic.Int64) {
	for ctx.Err() == nil {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		if say == "" {
			taken.Add(1)
		}
		b := make([]byte, 1024)
		for first := true; err == nil; first = false {
			_, _ = io.WriteString(c, say)
			if _, err = c.Read(b); err == nil && first {
				taken.Add(1)
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		stop()
		_ = c.Close()
	}
}
