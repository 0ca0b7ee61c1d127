package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// relays returns a mapping of what is published below a topic.
func relays(name, topic string) string {
	return "version: 1\nmapping: " + name + "\nthing: \"" + name + "-{dev}\"\nreport:\n  - {topic: \"" + topic + "/{dev}\", as: auto, to: v}\n"
}

// umbra runs the operators' program and returns what it prints.
func umbra(t *testing.T, u *umbradtest.Umbrad, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(wait(t), umbradtest.Build(t, "./cmd/umbra"), append(args, "--server", u.URL())...)
	out, err := cmd.CombinedOutput()
	return string(out), err //nolint:wrapcheck // a test
}

// maps waits until a message makes a thing.
func maps(t *testing.T, c *mqtttest.Client, u *umbradtest.Umbrad, topic, thing string) {
	t.Helper()
	eventually(t, func() error {
		publish(t, c, topic, "1")
		res, err := call(context.WithoutCancel(t.Context()), http.MethodGet, u.URL()+"/v1/things/"+thing+"/shadow", nil)
		if err == nil && res.status != http.StatusOK {
			err = fmt.Errorf("a message on %s makes no %s: %d", topic, thing, res.status)
		}
		return err
	})
}

// Files of mappings count when they change; one that cannot be used changes nothing, and is told of.
func TestMappingFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mine.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(relays("plug", "one"))
	u := umbradtest.Start(t, "--store=memory:", "--mappings="+file)
	c := dial(t, u.MQTT(), mqtttest.Options{ClientID: "plug"})
	maps(t, c, u, "one/a", "plug-a")
	write(relays("plug", "two"))
	maps(t, c, u, "two/b", "plug-b")
	write(relays("plug", "three") + "colour: red\n")
	u.Signal(syscall.SIGHUP)
	eventually(t, func() error {
		if res := rest(t, http.MethodGet, u.URL()+"/readyz?verbose", ""); !strings.Contains(string(res.body), "mine.yaml:6: colour: unknown key") {
			return fmt.Errorf("/readyz?verbose does not tell of the bad file: %s", res.body)
		}
		return nil
	})
	maps(t, c, u, "two/c", "plug-c")
	if !strings.Contains(u.Log(), "file of mappings cannot be used") {
		t.Error("the log does not tell of the bad file")
	}
	write(relays("plug", "three"))
	maps(t, c, u, "three/d", "plug-d")
	if res := rest(t, http.MethodGet, u.URL()+"/readyz?verbose", ""); strings.Contains(string(res.body), "mine.yaml") {
		t.Errorf("/readyz?verbose tells of a file that is repaired: %s", res.body)
	}
}

// TestStrangersAreNotToldOfWeaknesses asks for the state of a server that knows its users: files that cannot be used and
// settings that are weak are told to an operator, and to nobody else. Whoever asks gets the state itself.
func TestStrangersAreNotToldOfWeaknesses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mine.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(relays("plug", "one"))
	u := startWithLamp(t, "--store=memory:", "--mappings="+file, "--websocket-origins=*")
	write("colour: red\n")
	u.Signal(syscall.SIGHUP)
	eventually(t, func() error {
		status, text := u.do(t, http.MethodGet, "/readyz?verbose", "", u.root)
		if status != http.StatusOK || !strings.Contains(text, "mine.yaml:1: colour") || !strings.Contains(text, "websocket-origins: pages of every site") {
			return fmt.Errorf("an operator is told %d %s", status, text)
		}
		return nil
	})
	for who, edit := range map[string]func(*http.Request){
		"a stranger":           func(*http.Request) {},
		"a device":             func(r *http.Request) { r.SetBasicAuth("lamp", lampPassword) },
		"who guesses":          func(r *http.Request) { r.SetBasicAuth("root", "admin") },
		"who shows a nonsense": func(r *http.Request) { r.Header.Set("Authorization", "nonsense") },
	} {
		if status, text := u.do(t, http.MethodGet, "/readyz?verbose", "", edit); status != http.StatusOK || text != `{"checks":[{"name":"store","ok":true}]}` {
			t.Errorf("%s is told %d %s", who, status, text)
		}
		if status, text := u.do(t, http.MethodGet, "/readyz", "", edit); status != http.StatusOK || text != "ok\n" {
			t.Errorf("%s is told %d %s", who, status, text)
		}
	}
	for outcome, want := range map[string]int{"denied": 1, "unauthenticated": 2} { // of a stranger, who only looks, nothing is recorded
		if out := u.mustUmbra(t, "", "audit", "--outcome", outcome, "-o", "ndjson"); strings.Count(out, "\n") != want {
			t.Errorf("%d records are %s, want %d:\n%s", strings.Count(out, "\n"), outcome, want, out)
		}
	}
}

const switchMapping = `version: 1
mapping: switch
thing: "switch-{dev}"
link: {path: connected, from: [{topic: "switch/{dev}/status", map: online}]}
report: [{topic: "switch/{dev}/on", map: on_off, to: on}, {topic: "switch/{dev}/t", to: t}]
commands: [{path: "on", topic: "switch/{dev}/set", payload: {map: on_off}}]
`

// A mapping that is put at one node is in force at the other, and what is desired at one node reaches a device at the other.
func TestMappingsOfTwoNodes(t *testing.T) {
	t.Parallel()
	store := "--store=" + storetest.Redis(t).URL
	one, two := umbradtest.Start(t, store), umbradtest.Start(t, store)
	file := filepath.Join(t.TempDir(), "switch.yaml")
	if err := os.WriteFile(file, []byte(switchMapping), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := umbra(t, one, "mapping", "apply", file); err != nil {
		t.Fatalf("apply: %v, %s", err, out)
	}
	device := dial(t, two.MQTT(), mqtttest.Options{ClientID: "switch"})
	subscribe(t, device, "switch/a/set")
	maps(t, device, two, "switch/a/t", "switch-a")
	publish(t, device, "switch/a/status", "online")
	publish(t, device, "switch/a/on", "OFF")
	desire := func(on bool) {
		if out, err := umbra(t, one, "set", "switch-a", fmt.Sprintf("on=%v", on)); err != nil {
			t.Fatalf("set: %v, %s", err, out)
		}
	}
	expect := func(payload string) {
		t.Helper()
		if m, err := device.Receive(wait(t)); err != nil || m.Topic != "switch/a/set" || string(m.Payload) != payload {
			t.Fatalf("the device gets %+v, %v, want %s", m, err, payload)
		}
		publish(t, device, "switch/a/on", payload)
	}
	desire(true)
	expect("ON")
	desire(false)
	publish(t, device, "switch/a/t", "2") // whatever the device says meanwhile
	expect("OFF")
	eventually(t, func() error {
		if out, err := umbra(t, two, "mapping", "status", "switch-a"); err != nil || !strings.Contains(out, "done") {
			return fmt.Errorf("the state of the command is %s, %w", out, err)
		}
		return nil
	})
}

// What is listed for people is there for scripts too.
func TestMappingLists(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--mappings=tasmota")
	c := dial(t, u.MQTT(), mqtttest.Options{ClientID: "plug"})
	publish(t, c, "tele/plug/LWT", "Online")
	publish(t, c, "tele/plug/STATE", `{"POWER":`)
	for command, want := range map[string]string{
		"ls":                  `[{"name":"tasmota","source":"tasmota","things":1,"errors":1}]`,
		"errors":              `[{"code":"decode","mapping":"tasmota","thing":"tasmota-plug","topic":"tele/plug/STATE"}]`,
		"orphans":             `[]`,
		"status tasmota-plug": `[{"mapping":"tasmota","thing":"tasmota-plug","link":"up","commands":[]}]`,
	} {
		out, err := umbra(t, u, append(append([]string{"mapping"}, strings.Fields(command)...), "-o", "json")...)
		var got, wanted []map[string]any
		if err := errors.Join(err, json.Unmarshal([]byte(out), &got), json.Unmarshal([]byte(want), &wanted)); err != nil {
			t.Errorf("umbra mapping %s -o json: %v, %s", command, err, out)
			continue
		}
		for i := range got {
			for _, varies := range []string{"timestamp", "seen", "message"} {
				delete(got[i], varies)
			}
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("umbra mapping %s -o json (-want +got):\n%s", command, diff)
		}
	}
}

// A file is tried with the real traffic, and writes nothing.
func TestMappingLive(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	c := dial(t, u.MQTT(), mqtttest.Options{ClientID: "switch"})
	file := filepath.Join(t.TempDir(), "switch.yaml")
	if err := os.WriteFile(file, []byte(switchMapping), 0o600); err != nil {
		t.Fatal(err)
	}
	var out string
	var failed error
	over := make(chan struct{})
	go func() {
		defer close(over)
		out, failed = umbra(t, u, "mapping", "live", file, "--for", "3s", "--match", "switch/a/#")
	}()
	for n := 0; ; n++ { // from before it begins until it has ended
		publish(t, c, "switch/a/on", []string{"ON", "OFF"}[n%2])
		publish(t, c, "switch/b/on", "ON")
		publish(t, c, "other", "1")
		select {
		case <-over:
		case <-time.After(100 * time.Millisecond):
			continue
		}
		break
	}
	for _, want := range []string{"rule   switch report[0], line 5 {dev}=a", `update switch-a {"state":{"reported":{"on":true}}}`, "that no rule is about", " on other"} {
		if failed != nil || !strings.Contains(out, want) {
			t.Errorf("live: %v, %s, want %q in it", failed, out, want)
		}
	}
	if strings.Contains(out, "switch-b") {
		t.Errorf("live --match shows other topics: %s", out)
	}
	if res := rest(t, http.MethodGet, u.URL()+"/v1/things/switch-a/shadow", ""); res.status != http.StatusNotFound {
		t.Errorf("live has made a thing: %d %s", res.status, res.body)
	}
}

// Stored mappings count on all nodes within a second and are there after kill -9.
func TestStoredMappings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "mine.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u := umbradtest.Start(t, "--store=pebble:"+filepath.Join(dir, "data"))
	c := dial(t, u.MQTT(), mqtttest.Options{ClientID: "plug"})
	write(relays("plug", "one"))
	for _, step := range []struct {
		text  string
		args  []string
		fails bool
		want  string
	}{
		{"", []string{"apply", file, "--dry-run"}, false, "+mapping: plug"},
		{"", []string{"show", "plug", "--stored"}, true, "not found"},
		{"", []string{"apply", file}, false, "mapping plug created (version 1)"},
		{"", []string{"apply", file}, false, "mapping plug unchanged (version 1)"},
		{"", []string{"ls"}, false, "plug"},
		{relays("plug", "two"), []string{"apply", file, "--if-version", "7"}, true, "version is 1, not 7"},
		{"", []string{"apply", file, "--if-version", "1"}, false, "-  - {topic: \"one/{dev}\", as: auto, to: v}\n+  - {topic: \"two/{dev}\", as: auto, to: v}\nmapping plug replaced (version 2)"},
		{"", []string{"show", "plug", "--stored"}, false, "two/{dev}"},
		{relays("lamp", "lamp") + "---\n" + relays("fan", "fan"), []string{"apply", file}, false, "mapping fan created (version 1)"},
		{"", []string{"rm", "fan"}, false, "mapping fan removed"},
		{"colour: red\n", []string{"apply", file}, true, "mine.yaml:1: colour: unknown key"},
		{relays("errors", "x"), []string{"apply", file}, true, "cannot have this name"},
	} {
		if step.text != "" {
			write(step.text)
		}
		out, err := umbra(t, u, append([]string{"mapping"}, step.args...)...)
		if (err != nil) != step.fails || !strings.Contains(out, step.want) {
			t.Errorf("umbra mapping %q: %v, %q; want %q in it", step.args, err, out, step.want)
		}
	}
	publish(t, c, "two/a", "1") // no waiting: it counts when apply has returned
	if res := rest(t, http.MethodGet, u.URL()+"/v1/things/plug-a/shadow", ""); res.status != http.StatusOK {
		t.Errorf("a message on two/a makes no plug-a: %d", res.status)
	}
	u.Kill()
	u.Restart()
	c = dial(t, u.MQTT(), mqtttest.Options{ClientID: "plug"})
	publish(t, c, "lamp/a", "1")
	if res := rest(t, http.MethodGet, u.URL()+"/v1/things/lamp-a/shadow", ""); res.status != http.StatusOK {
		t.Errorf("after kill -9 a message on lamp/a makes no lamp-a: %d", res.status)
	}
}
