package e2e_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// upgrade is the request that begins a WebSocket, with more headers.
func upgrade(headers string) string {
	return "GET /mqtt HTTP/1.1\r\nHost: umbra.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n" + headers + "\r\n"
}

// webSocket opens a WebSocket on which a test writes frames as it likes.
func webSocket(t *testing.T, addr string) net.Conn {
	t.Helper()
	c := open(t, addr)
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, upgrade(""))
	if head := readHead(t, c); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("the answer to the upgrade is %s", head)
	}
	return c
}

// readHead reads the head of an HTTP answer and nothing beyond.
func readHead(t *testing.T, c net.Conn) string {
	t.Helper()
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, one[0]) {
		if _, err := io.ReadFull(c, one); err != nil {
			t.Fatalf("after %q: %v", head, err)
		}
	}
	return string(head)
}

// frame is a WebSocket frame with a mask of zeros: the first byte, and the length in 64 bits.
func frame(first byte, announced uint64, payload string) string {
	head := binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, announced)
	return string(head) + "\x00\x00\x00\x00" + payload
}

// TestWebSocketFrames sends frames that are wrong, too large or in pieces, before CONNECT: each ends its connection at
// most, costs no memory by what it announces, and hurts nobody else.
func TestWebSocketFrames(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--connect-timeout=2s")
	h := newHealth(t, u, mqtttest.Options{})
	before := rss(t, u.PID())
	const binaryFrame = 0x82
	connect := string(mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: "web"}))
	for name, bytes := range map[string]string{
		"not masked":                    "\x82\x02\xC0\x00",
		"reserved bits":                 frame(0xF2, 2, "\xC0\x00"),
		"reserved opcode":               frame(0x83, 2, "\xC0\x00"),
		"text":                          frame(0x81, 2, "\xC0\x00"),
		"continuation of nothing":       frame(0x80, 2, "\xC0\x00"),
		"large ping":                    frame(0x89, 200, strings.Repeat("x", 200)),
		"ping in pieces":                frame(0x09, 2, "xx"),
		"negative length":               frame(binaryFrame, 1<<63, "x"),
		"4 EiB":                         frame(binaryFrame, 1<<62, "x"),
		"2 GiB":                         frame(binaryFrame, 1<<31, connect),
		"close with half a code":        frame(0x88, 1, "x"),
		"close with an invalid code":    frame(0x88, 2, "\x03\xED"),
		"no MQTT":                       frame(binaryFrame, 5, "GET /"),
		"a packet larger than allowed":  frame(binaryFrame, 12, "\x10\xFF\xFF\xFF\x7F\x00\x04MQTT\x05"),
		"a second message in pieces":    frame(0x02, 1, "\x10") + frame(0x02, 1, "\x10"),
		"nothing but frames of nothing": strings.Repeat(frame(binaryFrame, 0, ""), 1000),
	} {
		c := webSocket(t, u.HTTP())
		_, _ = io.WriteString(c, bytes)
		rest, err := io.ReadAll(c)                                   // the server ends the connection
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // of the socket
			t.Errorf("%s: the connection stays, after %x", name, rest)
		}
	}
	if grown := rss(t, u.PID()) - before; grown > 64<<20 {
		t.Errorf("frames cost %d MiB", grown>>20)
	}
	h.check(t)
	if strings.Contains(u.Log(), "panic") {
		t.Error("a frame makes the server panic: see the log")
	}
}

// TestWebSocketOrigin refuses browsers that another site sends, unless the settings name it.
func TestWebSocketOrigin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		origins string
		accepts map[string]bool // by the header Origin
	}{
		{"", map[string]bool{
			"": true, "http://umbra.localhost": true, "https://evil.example": false, "null": false, "http://umbra.localhost.evil": false,
		}},
		{"https://app.example,*.friends.example:8443", map[string]bool{
			"": true, "http://umbra.localhost": true, "https://app.example": true, "http://app.example": false, "https://app.example.evil": false,
			"https://a.friends.example:8443": true, "https://a.friends.example": false, "null": false,
		}},
		{"*", map[string]bool{"https://evil.example": true, "null": true}},
	} {
		u := umbradtest.Start(t, "--store=memory:", "--websocket-origins="+tt.origins)
		for origin, accepted := range tt.accepts {
			header, want := "Origin: "+origin+"\r\n", "403"
			if origin == "" {
				header = ""
			}
			if accepted {
				want = "101"
			}
			c := open(t, u.HTTP())
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(c, upgrade(header))
			if head := readHead(t, c); !strings.HasPrefix(head, "HTTP/1.1 "+want+" ") {
				t.Errorf("with the origins %q and a page of %q the answer is %s, want %s", tt.origins, origin, head, want)
			}
		}
	}
}

// members is a JSON object of n members in no order, with a prefix of their names.
func members(n int, prefix string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%s%x":1`, prefix, uint32(i)*2654435761)
	}
	return "{" + b.String()[1:] + "}"
}

// TestManyKeys sends documents of 2,000 and 20,000 keys in each section: what a key costs does not grow with their number.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--document-bytes=4MiB", "--request-bytes=4MiB", "--payload-bytes=4MiB")
	const all = 60_000 // enough for the clock of CPU times
	cost := func(n int, prefix string) time.Duration {
		t.Helper()
		keys := members(n, prefix)
		body := `{"state":{"desired":` + keys + `,"reported":` + strings.ReplaceAll(keys, ":1", ":2") + `}}`
		before := cpuTime(t, u.PID())
		for i := range all / n {
			res := rest(t, http.MethodPost, fmt.Sprintf("%s/things/keys-%d-%d-%d/shadow", u.URL(), n, len(prefix), i), body)
			if res.status != http.StatusOK {
				t.Fatalf("%d keys: %d %.200s", n, res.status, res.body)
			}
		}
		return cpuTime(t, u.PID()) - before
	}
	for _, prefix := range []string{"", strings.Repeat("x", 40)} {
		few, many := cost(2000, prefix), cost(20_000, prefix)
		t.Logf("%d keys took %v of CPU time in documents of 2,000, %v in documents of 20,000", all, few, many)
		if many > 5*max(few, 50*time.Millisecond) {
			t.Errorf("keys cost %v in documents of ten times as many, instead of %v", many, few)
		}
	}
}

// TestJSONBombs sends what is small and deep, over HTTP and MQTT: it is refused before a tree is built.
func TestJSONBombs(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--document-bytes=4MiB", "--request-bytes=4MiB", "--payload-bytes=4MiB")
	h := newHealth(t, u, mqtttest.Options{})
	c := dial(t, u.MQTT(), mqtttest.Options{ClientID: "bomber", Version: mqtttest.V5})
	subscribe(t, c, "$aws/things/bomb/shadow/update/rejected")
	before := rss(t, u.PID())
	for name, bomb := range map[string]string{
		"arrays":           strings.Repeat("[", 1<<20),
		"arrays, closed":   strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20),
		"objects":          strings.Repeat(`{"a":`, 1<<19),
		"within the state": `{"state":{"reported":{"a":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + `}}}`,
		"as a token":       `{"clientToken":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + `,"state":{}}`,
		"unknown member":   `{"x":` + strings.Repeat(`{"a":`, 1<<18) + "1" + strings.Repeat("}", 1<<18) + `,"state":{}}`,
	} {
		for _, path := range []string{"/things/bomb/shadow", "/v1/credentials/users", "/v1/policy-test"} {
			if res := rest(t, http.MethodPost, u.URL()+path, bomb); res.status < 400 || res.status >= 500 {
				t.Errorf("%s to %s: %d %.200s, want 4xx", name, path, res.status, res.body)
			}
		}
		if _, err := c.Publish(wait(t), mqtttest.Message{Topic: "$aws/things/bomb/shadow/update", Payload: []byte(bomb), QoS: 1}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := mustParse(t, receive(t, c, "$aws/things/bomb/shadow/update/rejected")); d.Code != 400 {
			t.Errorf("%s over MQTT: %+v, want 400", name, d)
		}
		h.check(t)
	}
	if grown := rss(t, u.PID()) - before; grown > 200<<20 {
		t.Errorf("bombs of 2 MiB cost %d MiB", grown>>20)
	}
}

// TestErrorsTellNothing looks at what clients are told while the store is gone: no address, no name of a technology.
func TestErrorsTellNothing(t *testing.T) {
	t.Parallel()
	redis := storetest.Redis(t)
	u := umbradtest.Start(t, "--store="+redis.URL, "--request-timeout=2s", "--commit-timeout=1s")
	redis.Kill()
	failed := 0
	for _, r := range []struct{ method, path, body string }{
		{http.MethodGet, "/things/lamp/shadow", ""},
		{http.MethodPost, "/things/lamp/shadow", `{"state":{"reported":{"a":1}}}`},
		{http.MethodDelete, "/things/lamp/shadow", ""},
		{http.MethodGet, "/api/things/shadow/ListNamedShadowsForThing/lamp", ""},
		{http.MethodGet, "/v1/things", ""},
		{http.MethodGet, "/v1/things/lamp", ""},
		{http.MethodGet, "/v1/things/lamp/events", ""},
		{http.MethodPut, "/v1/policies/p", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`},
		{http.MethodPost, "/v1/credentials/tokens", `{"name":"x"}`},
		{http.MethodPost, "/topics/a?qos=1&retain=true", "x"},
		{http.MethodGet, "/readyz?verbose", ""},
	} {
		res := rest(t, r.method, u.URL()+r.path, r.body)
		failed += res.status / 500
		text := strings.ToLower(fmt.Sprint(res.header) + string(res.body))
		for _, secret := range []string{"redis", "127.0.0.1", "dial", "refused", "connection", "goroutine", ".go:", "umbra/internal"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s %s tells %q: %d %s", r.method, r.path, secret, res.status, res.body)
			}
		}
	}
	if failed < 8 {
		t.Errorf("%d requests fail without the store, want nearly all", failed)
	}
}

// TestForgedServiceMessages has a client that may do everything speak for the service: no subscriber gets that, and
// no shadow changes.
func TestForgedServiceMessages(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:") // alice has the policy admin
	admin := func(id string, will *mqtttest.Message) *mqtttest.Client {
		return dial(t, l.MQTT(), mqtttest.Options{Version: mqtttest.V5, ClientID: id, Username: "alice", Password: l.userPassword, Will: will})
	}
	app, forger := admin("app", nil), admin("forger", nil)
	subscribe(t, app, "$aws/#", "end")
	payload := []byte(`{"state":{"on":true},"version":9,"timestamp":1}`)
	for _, shadow := range []string{"$aws/things/lamp/shadow", "$aws/things/lamp/shadow/name/cfg"} {
		for _, end := range []string{
			"update/accepted", "update/rejected", "update/delta", "update/documents", "get/accepted", "get/rejected", "delete/accepted", "delete/rejected", "update/x",
		} {
			topic := shadow + "/" + end
			for qos := range byte(3) {
				ack, err := forger.Publish(wait(t), mqtttest.Message{Topic: topic, Payload: payload, QoS: qos, Retain: qos == 1})
				if err != nil || qos > 0 && ack.Code < 0x80 {
					t.Errorf("publish to %s with QoS %d: %#x, %v, want a refusal", topic, qos, ack.Code, err)
				}
			}
			if status, body := l.do(t, http.MethodPost, "/topics/"+topic+"?qos=1", string(payload), l.root); status < 400 || status >= 500 {
				t.Errorf("POST /topics/%s = %d %s, want 4xx", topic, status, body)
			}
			willing, err := mqtttest.Dial(wait(t), l.MQTT(), mqtttest.Options{
				Version: mqtttest.V5, ClientID: "willing", Username: "alice", Password: l.userPassword, Will: &mqtttest.Message{Topic: topic, Payload: payload},
			})
			if err == nil {
				willing.Abort()
			}
		}
	}
	for _, topic := range []string{"$aws/events/presence/connected/lamp", "$SYS/broker/version"} {
		if ack, err := forger.Publish(wait(t), mqtttest.Message{Topic: topic, Payload: payload, QoS: 1}); err != nil || ack.Code < 0x80 {
			t.Errorf("publish to %s: %#x, %v, want a refusal", topic, ack.Code, err)
		}
	}
	if _, err := forger.Publish(wait(t), mqtttest.Message{Topic: "end", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := app.Receive(wait(t))
		if err != nil {
			t.Fatal(err)
		}
		if m.Topic == "end" {
			break
		}
		if !strings.HasPrefix(m.Topic, "$aws/events/") || bytes.Equal(m.Payload, payload) {
			t.Errorf("a subscriber gets %s %s", m.Topic, m.Payload)
		}
	}
	if status, _ := l.do(t, http.MethodGet, "/things/lamp/shadow", "", l.root); status != http.StatusNotFound {
		t.Errorf("GET shadow = %d, want 404: nothing has been stored", status)
	}
}
