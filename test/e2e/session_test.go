package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/schemas"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// TestPresence connects and disconnects a client in several ways and reads what is told of it.
func TestPresence(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	validator, err := schemas.Compile()
	if err != nil {
		t.Fatal(err)
	}
	watcher := dial(t, u.MQTT(), mqtttest.Options{ClientID: "watcher"})
	subscribe(t, watcher, "$aws/events/+/+/lamp")
	var got []string
	session := ""
	event := func(kind string) {
		t.Helper()
		m, err := watcher.Receive(wait(t))
		if err != nil {
			t.Fatalf("waiting for %s: %v", kind, err)
		}
		levels := strings.Split(m.Topic, "/")
		name := map[string]string{"connected": "presence-connected", "disconnected": "presence-disconnected", "subscribed": "subscription-event"}[levels[3]]
		if err := validator.Validate(name, m.Payload); err != nil {
			t.Errorf("%s %s: %v", m.Topic, m.Payload, err)
		}
		var e struct {
			ClientID          string
			SessionIdentifier string
			DisconnectReason  string
			Topics            []string
		}
		if err := json.Unmarshal(m.Payload, &e); err != nil {
			t.Fatal(err)
		}
		if levels[3] == "connected" {
			session = e.SessionIdentifier
		}
		if e.ClientID != "lamp" || e.SessionIdentifier != session || session == "" {
			t.Errorf("%s %s: client %q, session %q, want lamp, %q", m.Topic, m.Payload, e.ClientID, e.SessionIdentifier, session)
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s%s", levels[3], e.DisconnectReason, strings.Join(e.Topics, ","))))
	}
	connect := func() *mqtttest.Client {
		c := dial(t, u.MQTT(), mqtttest.Options{ClientID: "lamp"})
		event("connected")
		return c
	}

	c := connect()
	subscribe(t, c, "a", "b/#")
	event("subscribed")
	c.Close()
	event("disconnected")
	connect().Abort()
	event("disconnected")
	connect()
	if res := rest(t, http.MethodDelete, u.URL()+"/connections/lamp", ""); res.status != http.StatusOK {
		t.Errorf("DELETE of the connection = %d %s", res.status, res.body)
	}
	event("disconnected")
	want := []string{
		"connected", "subscribed a,b/#", "disconnected CLIENT_INITIATED_DISCONNECT",
		"connected", "disconnected CONNECTION_LOST",
		"connected", "disconnected API_INITIATED_DISCONNECT",
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("events:\n%s\nwant:\n%s", g, w)
	}
}

// TestDeltaOnResume leaves with a subscription to a delta and comes back: what was missed comes from the
// queue, and the current delta once.
func TestDeltaOnResume(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	for _, version := range []byte{mqtttest.V311, mqtttest.V5} {
		thing := fmt.Sprintf("lamp-%d", version)
		topic := "$aws/things/" + thing + "/shadow/update/delta"
		o := mqtttest.Options{Version: version, ClientID: thing, Keep: true}
		set := func(n int) {
			t.Helper()
			payload := fmt.Sprintf(`{"state":{"desired":{"n":%d}}}`, n)
			if res := rest(t, http.MethodPost, shadowURL(u.URL(), thing), payload); res.status != http.StatusOK {
				t.Fatalf("POST = %d %s", res.status, res.body)
			}
		}
		deltas := func(c *mqtttest.Client) (versions []uint64) {
			t.Helper()
			// By a second client: what the first gets of its own doing could overtake.
			end := dial(t, u.MQTT(), mqtttest.Options{})
			publish(t, end, "end-"+thing, "{}")
			for {
				m, err := c.Receive(wait(t))
				if err != nil {
					t.Fatal(err)
				}
				if m.Topic != topic {
					return versions
				}
				versions = append(versions, mustParse(t, m.Payload).Version)
			}
		}
		c := dial(t, u.MQTT(), o)
		subscribe(t, c, topic, "end-"+thing)
		set(1)
		if got := fmt.Sprint(deltas(c)); got != "[1]" {
			t.Errorf("version %d: deltas while connected %s, want [1]", version, got)
		}
		c.Close()
		set(2)
		set(3)
		c = dial(t, u.MQTT(), o)
		if got := fmt.Sprint(deltas(c)); got != "[2 3]" || !c.SessionPresent {
			t.Errorf("version %d: deltas after coming back %s, want [2 3]", version, got)
		}
		c.Close()
		c = dial(t, u.MQTT(), o)
		receiveDelta(t, c, topic, 3)
		if got := fmt.Sprint(deltas(c)); got != "[]" {
			t.Errorf("version %d: deltas after the current one %s, want none", version, got)
		}
	}
}

// receiveDelta waits for a delta, which may come a moment after the connection.
func receiveDelta(t *testing.T, c *mqtttest.Client, topic string, version uint64) {
	t.Helper()
	if d := mustParse(t, receive(t, c, topic)); d.Version != version {
		t.Errorf("delta has version %d, want %d", d.Version, version)
	}
}

// TestRetainedRequest publishes a request with the retain flag: it is done, and nothing is retained.
func TestRetainedRequest(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	const topic = "$aws/things/lamp/shadow/update"
	for i, version := range []byte{mqtttest.V311, mqtttest.V5} {
		c := dial(t, u.MQTT(), mqtttest.Options{Version: version})
		ack, err := c.Publish(wait(t), mqtttest.Message{Topic: topic, QoS: 1, Retain: true, Payload: []byte(`{"state":{"reported":{"on":true}}}`)})
		if err != nil || ack.Code >= 0x80 {
			t.Fatalf("version %d: Publish() = %+v, %v", version, ack, err)
		}
		if d := fetch(t, u.URL(), "lamp"); d.Version != uint64(i+1) {
			t.Errorf("version %d: shadow = %+v, want version %d", version, d, i+1)
		}
	}
	res := rest(t, http.MethodGet, u.URL()+"/retainedMessage/$aws%2Fthings%2Flamp%2Fshadow%2Fupdate", "")
	if res.status != http.StatusNotFound {
		t.Errorf("retained message on a request topic: %d %s, want 404", res.status, res.body)
	}
	late := dial(t, u.MQTT(), mqtttest.Options{})
	subscribe(t, late, "$aws/things/#", "end")
	publish(t, late, "end", "")
	if m, err := late.Receive(wait(t)); err != nil || m.Topic != "end" {
		t.Errorf("a late subscriber hears %s %s, %v", m.Topic, m.Payload, err)
	}
}
