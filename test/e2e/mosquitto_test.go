package e2e_test

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// mosquitto runs the mosquitto programs against one broker.
type mosquitto struct {
	t          *testing.T
	host, port string
	events     *mqtttest.Client // hears of subscriptions
}

func newMosquitto(t *testing.T, u *umbradtest.Umbrad) *mosquitto {
	t.Helper()
	host, port, _ := strings.Cut(u.MQTT(), ":")
	m := &mosquitto{t: t, host: host, port: port, events: dial(t, u.MQTT(), mqtttest.Options{})}
	subscribe(t, m.events, "$aws/events/subscriptions/subscribed/+")
	return m
}

func (m *mosquitto) command(name string, args ...string) *exec.Cmd {
	m.t.Helper()
	return exec.CommandContext(wait(m.t), umbradtest.Tool(m.t, name), append([]string{"-h", m.host, "-p", m.port}, args...)...)
}

// run runs a program to its end and returns what it printed.
func (m *mosquitto) run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.command(name, args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sub starts mosquitto_sub, waits until it has subscribed, and returns a function that gives its
// next line.
func (m *mosquitto) sub(clientID string, args ...string) (line func() string) {
	m.t.Helper()
	cmd := m.command("mosquitto_sub", append([]string{"-i", clientID}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	receive(m.t, m.events, "$aws/events/subscriptions/subscribed/"+clientID)
	lines := bufio.NewScanner(out)
	return func() string {
		m.t.Helper()
		if !lines.Scan() {
			m.t.Fatalf("mosquitto_sub %s: no line: %v", clientID, lines.Err())
		}
		return lines.Text()
	}
}

// TestMosquitto goes through the commands that the README shows, in both versions of the protocol.
func TestMosquitto(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	m := newMosquitto(t, u)
	for _, version := range []string{"311", "5"} {
		t.Run("version "+version, func(t *testing.T) {
			m := &mosquitto{t: t, host: m.host, port: m.port, events: m.events}
			thing := "lamp-" + version
			base := "$aws/things/" + thing + "/shadow/"
			line := m.sub("sub-"+version, "-V", version, "-t", base+"update/#", "-v")
			m.run("mosquitto_pub", "-V", version, "-q", "1", "-t", base+"update", "-m", `{"state":{"reported":{"on":false}}}`)
			wantLines(t, line, base+"update", base+"update/accepted", base+"update/documents")

			if res := rest(t, "POST", shadowURL(u.URL(), thing), `{"state":{"desired":{"on":true}}}`); res.status != 200 {
				t.Fatalf("POST = %d %s", res.status, res.body)
			}
			wantLines(t, line, base+"update/accepted", base+"update/delta", base+"update/documents")

			m.run("mosquitto_pub", "-V", version, "-q", "2", "-t", base+"update", "-m", `{"state":{"reported":{"on":true}}}`)
			if d := fetch(t, u.URL(), thing); d.Version != 3 || d.State.Delta != nil {
				t.Errorf("after a QoS 2 publish: %+v", d)
			}
		})
	}
}

// wantLines reads a line for each topic, in any order. A request topic may or may not be heard by
// subscribers of it, so a line with the first topic is optional.
func wantLines(t *testing.T, line func() string, topics ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, topic := range topics {
		if !strings.HasSuffix(topic, "/update") {
			missing[topic] = true
		}
	}
	for len(missing) > 0 {
		topic, body, _ := strings.Cut(line(), " ")
		if strings.HasSuffix(topic, "/update") {
			continue
		}
		if !missing[topic] || !json.Valid([]byte(body)) {
			t.Fatalf("line %s %s, want one of %v", topic, body, missing)
		}
		delete(missing, topic)
	}
}

// TestMosquittoRequestResponse asks for a shadow as an MQTT 5 request with a response topic.
func TestMosquittoRequestResponse(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	m := newMosquitto(t, u)
	topic := "$aws/things/lamp/shadow/get"
	out := m.run("mosquitto_rr", "-q", "1", "-t", topic, "-e", "answers/rr", "-m", `{"clientToken":"rr"}`, "-W", "30")
	if d := mustParse(t, []byte(out)); d.Code != 404 || d.Token != "rr" {
		t.Errorf("mosquitto_rr gave %s, want a 404", out)
	}
	m.run("mosquitto_pub", "-q", "1", "-t", "$aws/things/lamp/shadow/update", "-m", `{"state":{"reported":{"on":true}}}`)
	out = m.run("mosquitto_rr", "-q", "1", "-t", topic, "-e", "answers/rr", "-m", `{"clientToken":"rr"}`, "-W", "30")
	if d := mustParse(t, []byte(out)); d.Version != 1 || d.State.Reported["on"] != true || d.Token != "rr" {
		t.Errorf("mosquitto_rr gave %s, want version 1", out)
	}
}

// TestMosquittoDeltaOnSubscribe subscribes to a delta that is already there.
func TestMosquittoDeltaOnSubscribe(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	m := newMosquitto(t, u)
	if res := rest(t, "POST", shadowURL(u.URL(), "lamp"), `{"state":{"desired":{"on":true}}}`); res.status != 200 {
		t.Fatalf("POST = %d %s", res.status, res.body)
	}
	out := m.run("mosquitto_sub", "-q", "1", "-t", "$aws/things/lamp/shadow/update/delta", "-C", "1", "-W", "30")
	var delta struct {
		State   map[string]any
		Version uint64
	}
	if err := json.Unmarshal([]byte(out), &delta); err != nil || delta.Version != 1 || delta.State["on"] != true {
		t.Errorf("delta on subscribe = %s, %v", out, err)
	}
}
