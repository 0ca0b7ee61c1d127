package mqtt_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/umbra-iot/umbra/broker"
)

func TestWebSocketEndsAtATextFrame(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", "\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"} {
		ws := dialWeb(t, "mqtt")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if first != "" {
			if err := ws.Write(ctx, websocket.MessageBinary, []byte(first)); err != nil {
				t.Fatal(err)
			}
			if _, b, err := ws.Read(ctx); err != nil || string(b) != "\x20\x02\x00\x00" {
				t.Fatalf("answer to CONNECT = %x, %v", b, err)
			}
		}
		if err := ws.Write(ctx, websocket.MessageText, []byte("\xC0\x00")); err != nil {
			t.Fatal(err)
		}
		if _, b, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
			t.Errorf("after a text frame: read %x, %v, want the end", b, err)
		}
	}
}

func TestWebSocketNeedsTheSubprotocol(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"", "stomp"} {
		ws := dialWeb(t, protocol)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, b, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
			t.Errorf("with the subprotocol %q: read %x, %v, want the end", protocol, b, err)
		}
	}
}

func dialWeb(t *testing.T, protocol string) *websocket.Conn {
	t.Helper()
	web := httptest.NewServer(start(t, broker.Options{}).WebSocket())
	t.Cleanup(web.Close)
	o := &websocket.DialOptions{Subprotocols: strings.Fields(protocol)}
	ws, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}
