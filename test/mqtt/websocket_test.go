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

// TestWebSocketEndsWithAReason has the server end connections in every way: clients of MQTT 5 get the DISCONNECT packet that
// they get over TCP, and all of them a close frame.
func TestWebSocketEndsWithAReason(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		end  func(t *testing.T, s *server, ws *websocket.Conn)
		code byte
	}{
		"silence":        {func(*testing.T, *server, *websocket.Conn) {}, 0x8D},
		"half a packet":  {func(t *testing.T, _ *server, ws *websocket.Conn) { sendWeb(t, ws, "\x30\x09\x00") }, 0x8D},
		"second CONNECT": {func(t *testing.T, _ *server, ws *websocket.Conn) { sendWeb(t, ws, "\x10\x00", "\xC0\x00", "\xC0\x00") }, 0x82},
		"DISCONNECT":     {func(t *testing.T, _ *server, ws *websocket.Conn) { sendWeb(t, ws, "\xE0\x00") }, 0},
		"operator":       {func(_ *testing.T, s *server, _ *websocket.Conn) { s.Disconnect("c", broker.DisconnectOptions{}) }, 0x98},
		"takeover":       {func(t *testing.T, s *server, _ *websocket.Conn) { s.connect(t, v5, "c") }, 0x8E},
		"shutdown":       {func(t *testing.T, s *server, _ *websocket.Conn) { go func() { _ = s.Shutdown(t.Context()) }() }, 0x8B},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBoth(t, func(t *testing.T, version byte) {
				s := start(t, broker.Options{})
				ws := s.dialWeb(t, "mqtt")
				properties := map[byte]string{v5: "\x00"}[version]
				sendWeb(t, ws, "\x10"+string([]byte{byte(13 + len(properties))})+"\x00\x04MQTT"+string([]byte{version})+"\x02\x00\x01"+properties+"\x00\x01c")
				if _, err := readWeb(t, ws); err != nil {
					t.Fatalf("no CONNACK: %v", err)
				}
				tt.end(t, s, ws)
				var got []byte
				last, err := readWeb(t, ws)
				for ; err == nil; last, err = readWeb(t, ws) {
					got = append(got, last...)
				}
				if status := websocket.CloseStatus(err); status != websocket.StatusNormalClosure {
					t.Errorf("the WebSocket ends with %v, want a close frame", err)
				}
				if version < v5 || tt.code == 0 {
					if len(got) > 0 {
						t.Errorf("before the close frame comes %x, want nothing", got)
					}
				} else if len(got) < 3 || got[0] != 0xE0 || got[2] != tt.code {
					t.Errorf("before the close frame comes %x, want DISCONNECT with %#x", got, tt.code)
				}
			})
		})
	}
}

func sendWeb(t *testing.T, ws *websocket.Conn, frames ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, f := range frames {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(f)); err != nil {
			t.Fatal(err)
		}
	}
}

func readWeb(t *testing.T, ws *websocket.Conn) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, b, err := ws.Read(ctx)
	return b, err
}

func dialWeb(t *testing.T, protocol string) *websocket.Conn {
	t.Helper()
	return start(t, broker.Options{}).dialWeb(t, protocol)
}

func (s *server) dialWeb(t *testing.T, protocol string) *websocket.Conn {
	t.Helper()
	web := httptest.NewServer(s.WebSocket())
	t.Cleanup(web.Close)
	o := &websocket.DialOptions{Subprotocols: strings.Fields(protocol)}
	ws, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}
