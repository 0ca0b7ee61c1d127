package e2e_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

var zigbee2MQTT = flag.Bool("zigbee2mqtt", false, "run TestZigbee2MQTT, which installs Zigbee2MQTT and takes minutes")

// The devices of zigbee2mqtt/radio.js, by their names in configuration.yaml.
const (
	lampThing   = "z2m-kitchen_lamp"
	sensorThing = "z2m-attic"
)

// TestZigbee2MQTT has Zigbee2MQTT itself be the client of the mapping of its name. Its radio is replaced by
// zigbee2mqtt/radio.js, with a lamp and a sensor.
func TestZigbee2MQTT(t *testing.T) {
	t.Parallel()
	if !*zigbee2MQTT {
		t.Skip("make e2e-zigbee2mqtt runs it")
	}
	n := newNode(t, "zigbee2mqtt")
	for name, version := range map[string]string{"3.1.1": "4", "5": "5"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := umbradtest.Start(t, "--store=pebble:"+filepath.Join(t.TempDir(), "db"), "--mappings=zigbee2mqtt")
			b := newBridge(t, n, u, version)
			b.start()
			b.reports()
			b.obeys()
			b.dies()
			b.outlivesUmbrad()
			b.losesTheLamp()
			b.renames()
			b.isUnderstood()
		})
	}
}

// bridge is a Zigbee2MQTT and the umbrad that it is a client of.
type bridge struct {
	t    *testing.T
	n    node
	u    *umbradtest.Umbrad
	data string
	env  []string

	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  *record
}

func newBridge(t *testing.T, n node, u *umbradtest.Umbrad, version string) *bridge {
	t.Helper()
	config, err := os.ReadFile("zigbee2mqtt/configuration.yaml")
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "configuration.yaml"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	b := &bridge{t: t, n: n, u: u, data: data, env: append(os.Environ(),
		"NODE_PATH="+filepath.Join(n.dir, "node_modules"), "ZIGBEE2MQTT_DATA="+data,
		"ZIGBEE2MQTT_CONFIG_MQTT_SERVER=mqtt://"+u.MQTT(), "ZIGBEE2MQTT_CONFIG_MQTT_VERSION="+version,
		"GIT_DIR=none", // it would compare a commit with its own, and build itself
	)}
	t.Cleanup(b.kill)
	return b
}

// start starts Zigbee2MQTT and waits until it says that it has started.
func (b *bridge) start() {
	b.t.Helper()
	script, err := filepath.Abs("zigbee2mqtt/radio.js")
	if err != nil {
		b.t.Fatal(err)
	}
	b.said = &record{}
	b.cmd = exec.Command(b.n.path, script)
	b.cmd.Dir, b.cmd.Env, b.cmd.Stdout, b.cmd.Stderr = b.data, b.env, b.said, b.said
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.says("Zigbee2MQTT started!")
}

// kill is kill -9 of Zigbee2MQTT. The log is shown when the test has failed.
func (b *bridge) kill() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Kill() // it may have ended
	_ = b.cmd.Wait()
	b.cmd = nil
	if b.t.Failed() {
		b.t.Logf("Zigbee2MQTT:\n%s", b.said)
	}
}

// radio tells the radio something.
func (b *bridge) radio(line string) {
	b.t.Helper()
	if _, err := io.WriteString(b.stdin, line+"\n"); err != nil {
		b.t.Fatal(err)
	}
}

// says waits until the output has a text, and forgets what came before.
func (b *bridge) says(text string) {
	b.t.Helper()
	eventually(b.t, func() error {
		if !b.said.cut(text) {
			return fmt.Errorf("Zigbee2MQTT does not say %q", text)
		}
		return nil
	})
}

// want waits until a thing is in sync, reports exactly this JSON, and all its commands are in a state.
func (b *bridge) want(thing, reported, state string) {
	b.t.Helper()
	var wanted any
	if err := json.Unmarshal([]byte(reported), &wanted); err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, func() error {
		var doc struct {
			State struct{ Reported, Delta any }
		}
		if err := b.get("/v1/things/"+thing+"/shadow", &doc); err != nil {
			return err
		}
		if diff := cmp.Diff(wanted, doc.State.Reported); diff != "" {
			return fmt.Errorf("%s reports not what it should (-want +got):\n%s", thing, diff)
		}
		if inSync := state == "" || state == "done"; inSync && doc.State.Delta != nil {
			return fmt.Errorf("%s has a delta: %v", thing, doc.State.Delta)
		}
		return b.state(thing, state)
	})
}

// state reports that not all commands of a thing are in a state, or that it has none.
func (b *bridge) state(thing, state string) error {
	var list struct {
		Devices []struct{ Commands []struct{ State string } }
	}
	if err := b.get("/v1/things/"+thing+"/devices", &list); err != nil || state == "" {
		return err
	}
	if len(list.Devices) != 1 || len(list.Devices[0].Commands) == 0 {
		return fmt.Errorf("%s has no commands: %+v", thing, list)
	}
	for _, c := range list.Devices[0].Commands {
		if c.State != state {
			return fmt.Errorf("a command of %s is %s, want %s", thing, c.State, state)
		}
	}
	return nil
}

func (b *bridge) get(path string, v any) error {
	res, err := call(b.t.Context(), http.MethodGet, b.u.URL()+path, nil)
	if err != nil {
		return err
	}
	if res.status != http.StatusOK {
		return fmt.Errorf("GET %s = %d", path, res.status)
	}
	return json.Unmarshal(res.body, v)
}

// set sets desired as an operator does.
func (b *bridge) set(values ...string) {
	b.t.Helper()
	if out, err := umbra(b.t, b.u, append([]string{"set", lampThing}, values...)...); err != nil {
		b.t.Fatalf("umbra set %q: %v\n%s", values, err, out)
	}
}

// ask makes a request of Zigbee2MQTT's own API.
func (b *bridge) ask(request, payload string) {
	b.t.Helper()
	c := dial(b.t, b.u.MQTT(), mqtttest.Options{})
	subscribe(b.t, c, "zigbee2mqtt/bridge/response/#")
	publish(b.t, c, "zigbee2mqtt/bridge/request/"+request, payload)
	if answer := receive(b.t, c, "zigbee2mqtt/bridge/response/"+request); !bytes.Contains(answer, []byte(`"status":"ok"`)) {
		b.t.Fatalf("%s: %s", request, answer)
	}
}

// reports has both devices join the network and say how they are.
func (b *bridge) reports() {
	b.t.Helper()
	b.radio("join")
	b.says("Successfully configured")
	b.says("Successfully configured")
	for _, line := range []string{
		"report lamp genOnOff onOff 0", "report lamp genLevelCtrl currentLevel 10",
		"report sensor msTemperatureMeasurement measuredValue 2134", "report sensor msRelativeHumidity measuredValue 4472",
	} {
		b.radio(line)
	}
	b.want(lampThing, `{"connected": true, "state": "OFF", "brightness": 10}`, "")
	b.want(sensorThing, `{"connected": true, "temperature": 21.34, "humidity": 44.72, "battery": 97, "voltage": 3000}`, "")
}

// obeys sets desired, which reaches the lamp; what somebody does at the wall is not undone.
func (b *bridge) obeys() {
	b.t.Helper()
	b.set("state=ON", "brightness=200", "--wait=30s")
	b.says(`radio: lamp genLevelCtrl.moveToLevelWithOnOff {"level":200,`)
	b.want(lampThing, `{"connected": true, "state": "ON", "brightness": 200}`, "done")
	b.radio("report lamp genOnOff onOff 0")
	b.want(lampThing, `{"connected": true, "state": "OFF", "brightness": 200}`, "settled")
}

// dies kills Zigbee2MQTT: nothing is there any more, and what is desired meanwhile is done when it is back.
func (b *bridge) dies() {
	b.t.Helper()
	b.kill()
	b.want(lampThing, `{"connected": false, "state": "OFF", "brightness": 200}`, "settled")
	b.want(sensorThing, `{"connected": false, "temperature": 21.34, "humidity": 44.72, "battery": 97, "voltage": 3000}`, "")
	b.set("brightness=100")
	b.want(lampThing, `{"connected": false, "state": "OFF", "brightness": 200}`, "held")
	b.start()
	b.says(`radio: lamp genLevelCtrl.moveToLevel`)
	b.want(lampThing, `{"connected": true, "state": "ON", "brightness": 100}`, "done")
	b.want(sensorThing, `{"connected": true, "temperature": 21.34, "humidity": 44.72, "battery": 97, "voltage": 3000}`, "")
}

// outlivesUmbrad kills umbrad, which knows all again when it is back.
func (b *bridge) outlivesUmbrad() {
	b.t.Helper()
	b.u.Kill()
	b.u.Restart()
	b.set("brightness=150")
	b.says(`radio: lamp genLevelCtrl.moveToLevelWithOnOff {"level":150,`)
	b.want(lampThing, `{"connected": true, "state": "ON", "brightness": 150}`, "done")
	b.want(sensorThing, `{"connected": true, "temperature": 21.34, "humidity": 44.72, "battery": 97, "voltage": 3000}`, "")
	// The bridge has saved nothing before it was killed; what it does not know is null.
	b.radio("report sensor msTemperatureMeasurement measuredValue 1950")
	b.want(sensorThing, `{"connected": true, "temperature": 19.5}`, "")
}

// losesTheLamp has the lamp give no answer: Zigbee2MQTT says nothing, and the command has failed.
func (b *bridge) losesTheLamp() {
	b.t.Helper()
	b.radio("unplug lamp")
	b.set("brightness=60")
	b.want(lampThing, `{"connected": true, "state": "ON", "brightness": 150}`, "failed")
	b.radio("plug lamp")
	b.set("brightness=20", "--wait=30s")
	b.want(lampThing, `{"connected": true, "state": "ON", "brightness": 20}`, "done")
}

// renames gives the sensor another name, and removes it: the things of both names are emptied.
func (b *bridge) renames() {
	b.t.Helper()
	b.ask("device/rename", `{"from": "attic", "to": "garden/shed"}`)
	b.want(sensorThing, `{"connected": false}`, "")
	b.want("z2m-garden_shed", `{"connected": true, "temperature": 19.5}`, "")
	b.ask("device/remove", `{"id": "garden/shed", "force": true}`)
	b.want("z2m-garden_shed", `{"connected": false}`, "")
}

// isUnderstood looks whether anything was not: but for the lamp that was unplugged.
func (b *bridge) isUnderstood() {
	b.t.Helper()
	var errs struct{ Counts map[string]map[string]int }
	if err := b.get("/v1/mappings/errors", &errs); err != nil {
		b.t.Fatal(err)
	}
	delete(errs.Counts["zigbee2mqtt"], "no_ack")
	if len(errs.Counts["zigbee2mqtt"]) > 0 {
		b.t.Errorf("errors of the mapping: %v", errs.Counts)
	}
	if log := b.u.Log(); strings.Contains(log, "connection ended for what the client sent") {
		b.t.Errorf("umbrad ended a connection of Zigbee2MQTT:\n%s", log)
	}
}

// record keeps what a program says.
type record struct {
	mu   sync.Mutex // guards what follows
	all  []byte
	from int // what comes before has been looked at
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, p...)
	return len(p), nil
}

// cut reports whether a text has come, and goes on behind it.
func (r *record) cut(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, rest, ok := bytes.Cut(r.all[r.from:], []byte(text))
	if ok {
		r.from = len(r.all) - len(rest)
	}
	return ok
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.all)
}
