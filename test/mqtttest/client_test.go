package mqtttest_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/test/mqtttest"
)

// allowAll lets everybody in, but nobody called "refused".
type allowAll struct{ mqtt.HookBase }

func (*allowAll) ID() string { return "allow-all" }

func (*allowAll) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck
}

func (*allowAll) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	return cl.ID != "refused"
}

func (*allowAll) OnACLCheck(_ *mqtt.Client, topic string, _ bool) bool { return topic != "forbidden" }

// broker runs a bare broker and returns its address.
func broker(t *testing.T) string {
	t.Helper()
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(allowAll), nil); err != nil {
		t.Fatal(err)
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := server.AddListener(tcp); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return tcp.Address()
}

func dial(t *testing.T, addr string, o mqtttest.Options) *mqtttest.Client {
	t.Helper()
	c, err := mqtttest.Dial(t.Context(), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestClient(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	for _, version := range []byte{mqtttest.V311, mqtttest.V5} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		t.Cleanup(cancel)
		c := dial(t, addr, mqtttest.Options{Version: version})
		if ack, err := c.Subscribe(ctx, "a/#"); err != nil || ack.Code != 0 {
			t.Fatalf("version %d: Subscribe() = %+v, %v", version, ack, err)
		}
		for qos := range byte(3) {
			sent := mqtttest.Message{Topic: "a/b", Payload: []byte("hello"), QoS: qos}
			if version == mqtttest.V5 {
				sent.ResponseTopic, sent.Correlation = "answers", []byte{0, 1}
			}
			if ack, err := c.Publish(ctx, sent); err != nil || ack.Code != 0 {
				t.Fatalf("version %d: Publish() with QoS %d = %+v, %v", version, qos, ack, err)
			}
			got, err := c.Receive(ctx)
			if err != nil || got.Topic != "a/b" || string(got.Payload) != "hello" || got.QoS != min(qos, 1) {
				t.Errorf("version %d: Receive() = %+v, %v", version, got, err)
			}
			if got.ResponseTopic != sent.ResponseTopic || string(got.Correlation) != string(sent.Correlation) {
				t.Errorf("version %d: Receive() = %+v, want the properties of %+v", version, got, sent)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	_, err := mqtttest.Dial(t.Context(), addr, mqtttest.Options{Version: mqtttest.V5, ClientID: "refused"})
	var refused *mqtttest.Refused
	if !errors.As(err, &refused) || refused.Code < 0x80 {
		t.Errorf("Dial() = %v, want a Refused with a code", err)
	}
	c := dial(t, addr, mqtttest.Options{Version: mqtttest.V5})
	if ack, err := c.Subscribe(t.Context(), "a", "forbidden"); err != nil || ack.Code < 0x80 {
		t.Errorf("Subscribe() to a forbidden topic = %+v, %v, want a code", ack, err)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	first := dial(t, addr, mqtttest.Options{Version: mqtttest.V5, ClientID: "same"})
	dial(t, addr, mqtttest.Options{Version: mqtttest.V5, ClientID: "same"})
	<-first.Done()
	var end *mqtttest.Disconnected
	if !errors.As(first.Err(), &end) || end.Code != 0x8E {
		t.Errorf("Err() after a takeover = %v, want code 0x8e", first.Err())
	}
	if _, err := first.Publish(t.Context(), mqtttest.Message{Topic: "a", QoS: 1}); err == nil {
		t.Error("Publish() on an ended connection gave no error")
	}
	if _, err := first.Receive(t.Context()); !errors.As(err, &end) {
		t.Errorf("Receive() on an ended connection = %v", err)
	}
}

func TestWillAndSession(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, version := range []byte{mqtttest.V311, mqtttest.V5} {
		kept := mqtttest.Options{Version: version, ClientID: "kept", Keep: true}
		c := dial(t, addr, kept)
		if c.SessionPresent {
			t.Errorf("version %d: SessionPresent on the first connection", version)
		}
		if ack, err := c.Subscribe(ctx, "will"); err != nil || ack.Code != 0 {
			t.Fatalf("version %d: Subscribe() = %+v, %v", version, ack, err)
		}
		c.Close()
		watcher := dial(t, addr, mqtttest.Options{Version: version})
		if _, err := watcher.Subscribe(ctx, "will"); err != nil {
			t.Fatalf("version %d: Subscribe() = %v", version, err)
		}
		dying := dial(t, addr, mqtttest.Options{Version: version, Will: &mqtttest.Message{Topic: "will", Payload: []byte("gone"), QoS: 1}})
		dying.Abort()
		if _, err := watcher.Receive(ctx); err != nil { // this server loses what it routes while a session is resumed
			t.Fatalf("version %d: Receive() = %v, want the will", version, err)
		}
		watcher.Close()
		again := dial(t, addr, kept)
		if !again.SessionPresent {
			t.Errorf("version %d: SessionPresent = false on the second connection", version)
		}
		if m, err := again.Receive(ctx); err != nil || string(m.Payload) != "gone" {
			t.Errorf("version %d: Receive() = %+v, %v, want the will", version, m, err)
		}
		again.Abort()
		clean := dial(t, addr, mqtttest.Options{Version: version, ClientID: "kept"})
		if clean.SessionPresent {
			t.Errorf("version %d: SessionPresent after a clean start", version)
		}
		clean.Close()
	}
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	if _, err := mqtttest.Dial(t.Context(), "127.0.0.1:1", mqtttest.Options{}); err == nil {
		t.Error("Dial() to a closed port gave no error")
	}
	addr := broker(t)
	c := dial(t, addr, mqtttest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive() = %v, want the deadline", err)
	}
	if err := c.Write([]byte{0xF0, 0}); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if c.Err() == nil {
		t.Errorf("Err() after bytes that are no packet = %v", c.Err())
	}
}
