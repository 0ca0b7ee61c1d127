package examples_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/umbra-iot/umbra/internal/umbradtest"
)

const patience = 30 * time.Second

// TestGo runs the lamp and the app in Go: the app gets what it wants from a lamp that is there and
// from one that comes later, and the will of a lamp that dies says so.
func TestGo(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	lamp, app := umbradtest.Build(t, "./examples/lamp"), umbradtest.Build(t, "./examples/app")
	server := "-server=mqtt://" + u.MQTT()

	device := start(t, exec.Command(lamp, server))
	out := output(t, exec.Command(app, server, "-timeout=30s", "on=true", "brightness=40"))
	if !strings.Contains(out, "set, version ") || !strings.Contains(out, "done, version ") {
		t.Errorf("app printed %q, want that it is set and done", out)
	}
	waitReported(t, u, "on", true)
	waitReported(t, u, "brightness", 40.0)

	device.kill(t)
	waitReported(t, u, "connected", false)

	request(t, http.MethodPost, u.URL()+"/things/lamp/shadow", `{"state":{"desired":{"on":false}}}`)
	device = start(t, exec.Command(lamp, server))
	waitReported(t, u, "on", false)
	waitReported(t, u, "connected", true)
	device.stop(t, syscall.SIGTERM)
	waitReported(t, u, "connected", false)
}

func TestAppFails(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	app := umbradtest.Build(t, "./examples/app")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"on"}, "not key=JSON"},
		{[]string{"-timeout=1s", "on=true"}, "has not done it"},
		{[]string{"-timeout=10s", "-thing=no spaces", "on=true"}, "subscription failed"},
	} {
		out, err := exec.Command(app, append([]string{"-server=mqtt://" + u.MQTT()}, tt.args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("app %q = %v, %q; want an error with %q", tt.args, err, out, tt.want)
		}
	}
}

// TestShell runs the lamp and the app made of mosquitto's tools.
func TestShell(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub", "mosquitto_sub", "mosquitto_rr")
	u := umbradtest.Start(t, "--store=memory:")
	host, port, err := net.SplitHostPort(u.MQTT())
	if err != nil {
		t.Fatal(err)
	}
	script := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "MQTT_HOST="+host, "MQTT_PORT="+port)
		return cmd
	}
	device := start(t, script("shell/lamp.sh"))
	waitReported(t, u, "connected", true)
	for _, on := range []bool{true, false} {
		text, err := json.Marshal(on)
		if err != nil {
			t.Fatal(err)
		}
		if out := output(t, script("shell/app.sh", string(text))); !strings.HasSuffix(out, "done\n") {
			t.Errorf("app.sh %s printed %q, want done at the end", text, out)
		}
		waitReported(t, u, "on", on)
	}
	device.kill(t)
	waitReported(t, u, "connected", false)

	device = start(t, script("shell/lamp.sh"))
	waitReported(t, u, "connected", true)
	device.stop(t, syscall.SIGTERM)
	waitReported(t, u, "connected", false)
}

// need skips the test unless the programs are installed; CI has to have them.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		umbradtest.Tool(t, tool)
	}
}

// TestReadme runs the commands that the README begins with, all but "make run".
func TestReadme(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub", "mosquitto_sub", "aws", "timeout")
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```sh\n")
	if len(blocks) < 3 {
		t.Fatal("README.md has no second block of commands")
	}
	commands, _, _ := strings.Cut(blocks[2], "```")
	u := umbradtest.Start(t, "--store=memory:")
	host, port, err := net.SplitHostPort(u.MQTT())
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	for _, name := range []string{"mosquitto_pub", "mosquitto_sub"} { // their settings files
		if err := os.WriteFile(filepath.Join(home, name), []byte("-h "+host+"\n-p "+port+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	umbra := umbradtest.Build(t, "./cmd/umbra")
	commands = strings.NewReplacer(
		"$PWD/bin", filepath.Dir(umbra),
		"http://127.0.0.1:8080", u.URL(),
		"umbra watch lamp\n", "timeout 1 umbra watch lamp || test $? = 124\n",
	).Replace(commands)
	var out bytes.Buffer
	sh := exec.Command("sh", "-ec", commands)
	sh.Env = append(os.Environ(), "XDG_CONFIG_HOME="+home, "UMBRA_SERVER="+u.URL())
	sh.Stdout, sh.Stderr = &out, &out
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	sh.WaitDelay = time.Second // mosquitto_sub stays in the background
	if err := sh.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		t.Errorf("the commands of the README: %v\n%s\nprinted\n%s", err, commands, &out)
	}
	if err := syscall.Kill(-sh.Process.Pid, syscall.SIGKILL); err != nil {
		t.Errorf("ending mosquitto_sub: %v", err)
	}
	var d struct {
		State map[string]map[string]bool
	}
	if err := json.Unmarshal(request(t, http.MethodGet, u.URL()+"/things/lamp/shadow", ""), &d); err != nil {
		t.Fatal(err)
	}
	if !d.State["desired"]["on"] || d.State["reported"]["on"] {
		t.Errorf("shadow after the commands of the README = %v, want on to be desired", d.State)
	}
}

// TestCompose checks what can be checked without Docker: the settings that the file gives umbrad.
func TestCompose(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Build       struct{ Dockerfile string }
			Environment map[string]string
		}
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	service := file.Services["umbrad"]
	if _, err := os.Stat("../" + service.Build.Dockerfile); err != nil {
		t.Error(err)
	}
	args := []string{"--check"}
	for name, value := range service.Environment {
		args = append(args, name+"="+value)
	}
	if r := umbradtest.Run(t, args...); r.Code != 0 || len(args) < 5 {
		t.Errorf("umbrad %q: exit code %d\n%s", args, r.Code, r.Stderr)
	}
}

// TestSystemd checks that umbrad takes the settings file of the unit.
func TestSystemd(t *testing.T) {
	t.Parallel()
	if r := umbradtest.Run(t, "--check", "--config=systemd/umbrad.yaml", "UMBRA_DATA=/var/lib/umbra"); r.Code != 0 || r.Stderr != "" {
		t.Errorf("umbrad --check: exit code %d\n%s", r.Code, r.Stderr)
	}
}

// device is a running program and its children.
type device struct {
	cmd  *exec.Cmd
	once sync.Once
}

func start(t *testing.T, cmd *exec.Cmd) *device {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &device{cmd: cmd}
	t.Cleanup(func() {
		d.kill(t)
		if t.Failed() {
			t.Logf("%s printed\n%s", cmd, &out)
		}
	})
	return d
}

// kill ends the program as a power cut would.
func (d *device) kill(t *testing.T) {
	t.Helper()
	d.once.Do(func() {
		if err := syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL); err != nil {
			t.Errorf("kill %s: %v", d.cmd, err)
		}
		_ = d.cmd.Wait() // it was killed
	})
}

// stop asks the program to end, and waits until it has.
func (d *device) stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	d.once.Do(func() {
		if err := d.cmd.Process.Signal(sig); err != nil {
			t.Errorf("signal %s: %v", d.cmd, err)
		}
		late := time.AfterFunc(patience, func() { _ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) })
		defer late.Stop()
		if err := d.cmd.Wait(); err != nil {
			t.Errorf("%s after %v: %v", d.cmd, sig, err)
		}
	})
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// waitReported waits until the shadow of the lamp reports the value.
func waitReported(t *testing.T, u *umbradtest.Umbrad, key string, want any) {
	t.Helper()
	var body []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		body = request(t, http.MethodGet, u.URL()+"/things/lamp/shadow", "")
		var d struct {
			State struct{ Reported map[string]any }
		}
		if err := json.Unmarshal(body, &d); err != nil {
			t.Fatalf("shadow of the lamp: %v in %s", err, body)
		}
		if d.State.Reported[key] == want {
			return
		}
	}
	t.Fatalf("shadow of the lamp = %s, want reported.%s = %v", body, key, want)
}

func request(t *testing.T, method, url, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestMapping has plain devices of three kinds obey their shadows, and their wills say that they are gone.
func TestMapping(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--mappings=tasmota,esphome,zigbee2mqtt")
	program := umbradtest.Build(t, "./examples/mapping")
	for _, tt := range []struct{ kind, thing, before, desired, after, gone string }{
		{"tasmota", "tasmota-plug", `"power":false`, `{"power":true}`, `"power":true`, `"connected":false`},
		{"esphome", "esp-board", `"temperature":21.5`, `{"switch":{"relay":true}}`, `"relay":true`, `"connected":false`},
		{"zigbee2mqtt", "z2m-lamp", `"brightness":128`, `{"brightness":40}`, `"brightness":40`, `"connected":false`},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			t.Parallel()
			path := u.URL() + "/things/" + tt.thing + "/shadow"
			reports := func(want string) {
				t.Helper()
				var body []byte
				for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
					body = request(t, http.MethodGet, path, "")
					_, reported, _ := bytes.Cut(body, []byte(`"reported":`))
					if reported, _, _ = bytes.Cut(reported, []byte(`"metadata":`)); bytes.Contains(reported, []byte(want)) {
						return
					}
				}
				t.Fatalf("shadow = %s, want %s in reported", body, want)
			}
			d := start(t, exec.Command(program, "-server=mqtt://"+u.MQTT(), "-kind="+tt.kind))
			reports(tt.before)
			request(t, http.MethodPost, path, `{"state":{"desired":`+tt.desired+`}}`)
			reports(tt.after)
			d.kill(t)
			reports(tt.gone)
		})
	}
}
