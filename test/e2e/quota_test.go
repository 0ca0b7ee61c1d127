package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/umbra-iot/umbra/test/mqtttest"
)

// TestQuotasOfHTTP: requests above the rate are refused as AWS throttles, and event streams count as connections, with
// those over MQTT.
func TestQuotasOfHTTP(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--principal-request-rate=10", "--principal-connections=2", "--store=memory")
	alice := func(r *http.Request) { r.SetBasicAuth("alice", l.userPassword) }
	var throttled, others int
	for range 40 {
		switch status, body := l.do(t, http.MethodGet, "/things/lamp/shadow", "", alice); {
		case status == http.StatusTooManyRequests && strings.Contains(body, "Too Many Requests"):
			throttled++
		case status != http.StatusNotFound:
			others++
		}
	}
	if throttled == 0 || others > 0 {
		t.Errorf("of 40 requests at once %d were refused with 429, %d answered with what was not expected", throttled, others)
	}
	if status, _ := l.do(t, http.MethodGet, "/things/lamp/shadow", "", l.root); status != http.StatusNotFound {
		t.Errorf("a request of somebody else: %d", status)
	}

	stream := l.stream(t)
	c := dial(t, l.MQTT(), l.asRoot("one"))
	if resp := l.stream(t); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a third one, an event stream: %s", resp.Status)
	}
	if _, err := mqtttest.Dial(wait(t), l.MQTT(), l.asRoot("two")); refusedWith(err) != 0x97 {
		t.Errorf("a third one over MQTT: %v, want it to be refused with 0x97", err)
	}
	c.Close()
	eventually(t, func() error {
		if resp := l.stream(t); resp.StatusCode != http.StatusOK {
			return fmt.Errorf("event stream: %s", resp.Status)
		}
		return nil
	})
	_ = stream.Body.Close()
	eventually(t, func() error {
		c, err := mqtttest.Dial(wait(t), l.MQTT(), l.asRoot("two"))
		if err == nil {
			c.Close()
		}
		return err
	})
}

// TestListenersHaveOwnLimits: what a listener has of its own counts for its connections, those over WebSocket included.
func TestListenersHaveOwnLimits(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory", "--subscriptions=1", "--principal-sessions=1", "--connect-timeout=5m",
		"--listeners=mqtt://127.0.0.1:0?subscriptions=2&principal-sessions=0&connect-timeout=100ms ws://127.0.0.1:0?subscriptions=3&principal-sessions=0")
	first := dial(t, l.MQTT(), l.asRoot("first"))
	webSocket := l.asRoot("ws")
	webSocket.Dial = func(ctx context.Context) (net.Conn, error) {
		ws, _, err := websocket.Dial(ctx, "ws://"+l.Addr("ws")+"/mqtt", &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary), nil
	}
	for name, tt := range map[string]struct {
		c    *mqtttest.Client
		most int
	}{
		"of all": {first, 1},
		"mqtt":   {dial(t, l.Addr("mqtt"), l.asRoot("own")), 2},
		"ws":     {dial(t, "", webSocket), 3},
	} {
		for i := range tt.most {
			subscribe(t, tt.c, fmt.Sprint("a/", i))
		}
		if ack, err := tt.c.Subscribe(wait(t), "a/more"); err != nil || ack.Code != 0x97 {
			t.Errorf("%s: one more than %d: SUBACK = %#x, %v, want 0x97", name, tt.most, ack.Code, err)
		}
	}
	silent := open(t, l.Addr("mqtt"))
	_ = silent.SetReadDeadline(time.Now().Add(patience))
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a connection that says nothing: %v, want its end after the connect-timeout of its listener", err)
	}
	if _, err := mqtttest.Dial(wait(t), l.MQTT(), l.asRoot("second")); refusedWith(err) != 0x97 {
		t.Errorf("a further session on the listener that bounds them: %v, want 0x97", err)
	}
}

// stream begins an event stream of root.
func (l *login) stream(t *testing.T) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(wait(t), http.MethodGet, l.URL()+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	l.root(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func (l *login) asRoot(clientID string) mqtttest.Options {
	return mqtttest.Options{Version: mqtttest.V5, ClientID: clientID, Username: "root", Password: l.adminPassword}
}

// refusedWith returns the code of a CONNACK that is the error, 0 for others.
func refusedWith(err error) byte {
	if refused, ok := errors.AsType[*mqtttest.Refused](err); ok {
		return refused.Code
	}
	return 0
}
