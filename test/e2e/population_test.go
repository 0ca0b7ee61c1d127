package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

const (
	fullThing   = "$aws/things/lamp/shadow/"
	fullText    = "The thing has as many named shadows as it may have (1)"
	fullPayload = `{"state":{"reported":{"a":1}}}`
)

// full is a umbrad whose thing "lamp" has as many named shadows as it may have.
type full struct {
	*umbradtest.Umbrad
	listener *mqtttest.Client
}

// TestNamedShadows: whatever would make one more shadow than a thing may have is refused, over kill -9 too; what is there
// is changed and deleted as ever, and a delete makes room.
func TestNamedShadows(t *testing.T) {
	t.Parallel()
	f := &full{Umbrad: umbradtest.Start(t, "--named-shadows=1")}
	f.listener = dial(t, f.MQTT(), mqtttest.Options{ClientID: "listener"})
	subscribe(t, f.listener, "$aws/things/#")
	f.publish(t, mqtttest.V311, "update", 0)
	f.publish(t, mqtttest.V5, "name/a/update", 0)
	f.refuses(t)
	f.publish(t, mqtttest.V5, "name/a/update", 0)
	f.publish(t, mqtttest.V311, "update", 0)
	f.publish(t, mqtttest.V5, "name/a/delete", 0)
	f.rest(t, http.MethodPost, "b", http.StatusOK)
	f.rest(t, http.MethodPost, "a", http.StatusTooManyRequests)

	f.Kill()
	f.Restart()
	f.rest(t, http.MethodPost, "a", http.StatusTooManyRequests)
	f.rest(t, http.MethodDelete, "b", http.StatusOK)
	f.rest(t, http.MethodPost, "a", http.StatusOK)
	f.rest(t, http.MethodPost, "b", http.StatusTooManyRequests)
}

// refuses makes requests for further shadows in all ways that there are.
func (f *full) refuses(t *testing.T) {
	t.Helper()
	f.publish(t, mqtttest.V311, "name/three/update", 0)
	f.rejects(t, "three")
	f.publish(t, mqtttest.V5, "name/five/update", 0x97)
	f.rejects(t, "five")
	f.rest(t, http.MethodPost, "rest", http.StatusTooManyRequests)

	c := dial(t, f.MQTT(), mqtttest.Options{Will: &mqtttest.Message{Topic: fullThing + "name/will/update", QoS: 1, Payload: []byte(fullPayload)}})
	ack, err := c.Publish(wait(t), mqtttest.Message{Topic: fullThing + "name/kept/update", QoS: 1, Retain: true, Payload: []byte(fullPayload)})
	if err != nil {
		t.Errorf("retained: %#x, %v", ack.Code, err)
	}
	f.rejects(t, "kept")
	c.Abort()
	f.rejects(t, "will")
	for _, name := range []string{"three", "five", "rest", "kept", "will"} {
		f.rest(t, http.MethodGet, name, http.StatusNotFound)
	}
}

// publish publishes a request of a client of its own, and looks at the reason code.
func (f *full) publish(t *testing.T, version byte, request string, want byte) {
	t.Helper()
	c := dial(t, f.MQTT(), mqtttest.Options{Version: version})
	defer c.Close()
	ack, err := c.Publish(wait(t), mqtttest.Message{Topic: fullThing + request, QoS: 1, Payload: []byte(fullPayload)})
	if refused := ack.Code >= 0x80; err != nil || refused != (want != 0) || refused && (ack.Code != want || ack.Reason != "429 "+fullText) {
		t.Errorf("%s: %#x %q, %v, want %#x", request, ack.Code, ack.Reason, err, want)
	}
}

// rejects waits until a shadow's update is rejected.
func (f *full) rejects(t *testing.T, name string) {
	t.Helper()
	d := mustParse(t, receive(t, f.listener, fullThing+"name/"+name+"/update/rejected"))
	if d.Code != http.StatusTooManyRequests || d.Message != fullText {
		t.Errorf("%s: rejected with %d %q", name, d.Code, d.Message)
	}
}

// rest makes a request for a named shadow over HTTP.
func (f *full) rest(t *testing.T, method, name string, want int) {
	t.Helper()
	res := rest(t, method, fmt.Sprintf("%s?name=%s", shadowURL(f.URL(), "lamp"), name), fullPayload)
	if res.status != want {
		t.Errorf("%s of %s: %d %s, want %d", method, name, res.status, res.body, want)
	}
	if want == http.StatusTooManyRequests && (res.errorType() != "ThrottlingException" || !strings.Contains(string(res.body), fullText)) {
		t.Errorf("%s of %s: %s %s", method, name, res.errorType(), res.body)
	}
}
