package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// lampPassword is that of the user "lamp", whose policies are the default ones.
const lampPassword = "lamp's password"

// startWithLamp is a umbrad with an administrator and a device.
func startWithLamp(t *testing.T, args ...string) *login {
	t.Helper()
	l := &login{file: filepath.Join(t.TempDir(), "users.yaml"), adminPassword: "admin's password"}
	admin, lamp := credential.User{Grant: all()}, credential.User{}
	if err := errors.Join(admin.SetPassword([]byte(l.adminPassword)), lamp.SetPassword([]byte(lampPassword))); err != nil {
		t.Fatal(err)
	}
	l.write(t, &credential.File{Users: map[string]credential.User{"root": admin, "lamp": lamp}})
	l.Umbrad = umbradtest.Start(t, append([]string{"--users=" + l.file}, args...)...)
	return l
}

func asLamp(id string) mqtttest.Options {
	return mqtttest.Options{Version: mqtttest.V5, ClientID: id, Username: "lamp", Password: lampPassword}
}

// umbra runs the operators' program as root and returns what it prints and its exit code.
func (l *login) umbra(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	program := umbradtest.Build(t, "./cmd/umbra")
	cmd := exec.CommandContext(wait(t), program, args...)
	cmd.Env = append(os.Environ(), "UMBRA_SERVER="+l.URL(), "UMBRA_USER=root", "UMBRA_PASSWORD="+l.adminPassword, "XDG_CONFIG_HOME="+t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func (l *login) mustUmbra(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, code := l.umbra(t, stdin, args...)
	if code != 0 {
		t.Fatalf("umbra %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// TestDevicePolicy holds a device to its own shadows, over MQTT and HTTP.
func TestDevicePolicy(t *testing.T) {
	t.Parallel()
	l := startWithLamp(t, "--store=memory:")
	for _, id := range []string{"door", "lamp2", "+"} {
		if c, err := mqtttest.Dial(wait(t), l.MQTT(), asLamp(id)); err == nil {
			c.Close()
			t.Errorf("lamp connects as %q", id)
		}
	}
	lamp := dial(t, l.MQTT(), asLamp("lamp"))
	const own, other = "$aws/things/lamp/shadow/", "$aws/things/door/shadow/"
	for topic, want := range map[string]byte{
		own + "update": 0, own + "name/cfg/get": 0, other + "update": 0x87, "news": 0x87, own + "update/accepted": 0x87, "$SYS/x": 0x87,
	} {
		ack, err := lamp.Publish(wait(t), mqtttest.Message{Topic: topic, Payload: []byte(`{"state":{"reported":{"a":1}}}`), QoS: 1})
		if err != nil || ack.Code != want && want != 0 || ack.Code == 0x87 && want == 0 {
			t.Errorf("publish to %s: %#x, %v, want %#x", topic, ack.Code, err, want)
		}
	}
	filters := map[string]bool{own + "#": true, own + "update/delta": true, other + "#": false, "#": false, "$share/g/news": false, "$SYS/#": false}
	for filter, want := range filters {
		ack, err := lamp.Subscribe(wait(t), filter)
		if err != nil || (ack.Code < 0x80) != want {
			t.Errorf("subscribe %s: %#x, %v, want %t", filter, ack.Code, err, want)
		}
	}
	if out := l.mustUmbra(t, "", "whoami"); !strings.Contains(out, "user:root") || !strings.Contains(out, "admin") {
		t.Errorf("whoami says %s", out)
	}
	asUser := func(r *http.Request) { r.SetBasicAuth("lamp", lampPassword) }
	for path, want := range map[string]int{
		"/things/lamp/shadow": 200, "/things/door/shadow": 403, "/v1/things/lamp": 200, "/v1/things": 403, "/v1/policies": 403, "/v1/audit": 403,
		"/metrics": 403, "/v1/credentials/users": 403, "/retainedMessage": 403, "/connections/lamp": 403, "/v1/version": 200, "/v1/whoami": 200,
	} {
		if status, body := l.do(t, http.MethodGet, path, "", asUser); status != want {
			t.Errorf("GET %s = %d %s, want %d", path, status, body, want)
		}
	}
}

// TestPolicyChangesActOnConnections gives and takes permissions while a device is connected.
func TestPolicyChangesActOnConnections(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	l := startWithLamp(t, "--store=memory:", "--audit-file="+file)
	const doc = `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/${umbra:Name}"},
		{"Effect": "Allow", "Action": ["iot:Subscribe", "iot:Receive"], "Resource": ["arn:aws:iot:*:*:topicfilter/news", "arn:aws:iot:*:*:topic/news"]}]}`
	l.mustUmbra(t, doc, "policy", "put", "news", "-")
	l.mustUmbra(t, "", "policy", "attach", "news", "user:lamp")
	if out := l.mustUmbra(t, "", "policy", "test", "--as", "user:lamp", "--client-id", "lamp", "iot:Receive", "topic/news"); !strings.Contains(out, `statement 2 of policy "news"`) {
		t.Errorf("policy test says %s", out)
	}
	if out, code := l.umbra(t, "", "policy", "test", "--as", "user:lamp", "iot:Publish", "topic/news"); code != 1 || !strings.HasPrefix(out, "denied") {
		t.Errorf("policy test exits with %d: %s", code, out)
	}
	if out := l.mustUmbra(t, "", "policy", "test", "--as", "user:lamp", "--client-id", "lamp", "iot:Receive", "topic/news"); strings.Contains(out, "knows no") {
		t.Errorf("policy test does not know a user of the file: %s", out)
	}
	if out, _ := l.umbra(t, "", "policy", "test", "--as", "user:lmap", "iot:Publish", "topic/news"); !strings.Contains(out, "knows no user:lmap") {
		t.Errorf("policy test says of a user that there is not: %s", out)
	}
	if out, code := l.umbra(t, `{"Statement": 1}`, "policy", "put", "bad", "-"); code == 0 || !strings.Contains(out, "line 1") {
		t.Errorf("a policy that is none exits with %d: %s", code, out)
	}
	lamp := dial(t, l.MQTT(), asLamp("lamp"))
	if ack, err := lamp.Subscribe(wait(t), "news"); err != nil || ack.Code >= 0x80 {
		t.Fatalf("subscribe: %v, %v", ack, err)
	}
	publish := func(payload string) {
		t.Helper()
		if status, body := l.do(t, http.MethodPost, "/topics/news?qos=1", payload, l.root); status != http.StatusOK {
			t.Fatalf("publish: %d %s", status, body)
		}
	}
	publish("1")
	if m, err := lamp.Receive(wait(t)); err != nil || string(m.Payload) != "1" {
		t.Fatalf("received %s, %v", m.Payload, err)
	}
	l.mustUmbra(t, strings.Replace(doc, `"iot:Receive"`, `"iot:Publish"`, 1), "policy", "put", "news", "-")
	publish("2")
	l.mustUmbra(t, doc, "policy", "put", "news", "-")
	publish("3")
	if m, err := lamp.Receive(wait(t)); err != nil || string(m.Payload) != "3" {
		t.Errorf("received %s, %v, want 3: 2 was not allowed", m.Payload, err)
	}
	began := time.Now()
	l.mustUmbra(t, strings.Replace(doc, "client/${umbra:Name}", "client/none", 1), "policy", "put", "news", "-")
	select {
	case <-lamp.Done():
		t.Logf("disconnected after %v", time.Since(began))
	case <-wait(t).Done():
		t.Error("the connection outlives its permission")
	}
	records := l.mustUmbra(t, "", "audit", "-o", "csv")
	for _, want := range []string{"user:root,umbra:PutPolicy,policy/news,done", "user:root,umbra:AttachPolicy,policy/news,done,attach to user:lamp", "user:lamp,iot:Connect,client/lamp,denied", "policy/bad,failed"} {
		if !strings.Contains(records, want) {
			t.Errorf("no record %q in\n%s", want, records)
		}
	}
	l.Stop()
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), lampPassword) || strings.Contains(string(text), l.adminPassword) {
		t.Errorf("the file of records has a secret, or: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

// TestPermissionEndsWithItsTime has a device connected whose policy lets it be for some seconds more.
func TestPermissionEndsWithItsTime(t *testing.T) {
	t.Parallel()
	l := startWithLamp(t, "--store=memory:")
	lamp, other := dial(t, l.MQTT(), asLamp("lamp")), dial(t, l.MQTT(), mqtttest.Options{Username: "root", Password: l.adminPassword})
	doc := `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*", "Condition": {"DateLessThan": {"aws:CurrentTime": "` +
		time.Now().Add(3*time.Second).UTC().Format(time.RFC3339) + `"}}}}`
	for _, put := range [][2]string{{"/v1/policies/soon", doc}, {"/v1/policies/soon/targets/user:lamp", ""}} {
		if status, text := l.do(t, http.MethodPut, put[0], put[1], l.root); status >= http.StatusBadRequest {
			t.Fatalf("PUT %s = %d %s", put[0], status, text)
		}
	}
	select {
	case <-lamp.Done():
	case <-wait(t).Done():
		t.Error("the connection outlives its permission")
	}
	subscribe(t, other, "news")
}

// TestPoliciesSurviveKill finds policies and attachments again after a crash.
func TestPoliciesSurviveKill(t *testing.T) {
	t.Parallel()
	l := startWithLamp(t, "--data="+t.TempDir())
	l.mustUmbra(t, "", "policy", "attach", "app", "user:lamp")
	l.Kill()
	l.Restart()
	asUser := func(r *http.Request) { r.SetBasicAuth("lamp", lampPassword) }
	if status, body := l.do(t, http.MethodGet, "/v1/things", "", asUser); status != http.StatusOK {
		t.Errorf("GET /v1/things = %d %s", status, body)
	}
	if out := l.mustUmbra(t, "", "policy", "ls"); !strings.Contains(out, "user:lamp") {
		t.Errorf("the policies are\n%s", out)
	}
}

// TestPolicyFilesAreReadAgain changes files under a client that is connected. Bad ones leave the old ones in force.
func TestPolicyFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "device.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const may = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish"],
		"Resource": ["arn:aws:iot:*:*:client/${umbra:Name}", "arn:aws:iot:*:*:topic/news"]}}`
	write(may)
	l := startWithLamp(t, "--store=memory:", "--policies="+dir)
	lamp := dial(t, l.MQTT(), asLamp("lamp"))
	publish := func() byte {
		t.Helper()
		ack, err := lamp.Publish(wait(t), mqtttest.Message{Topic: "news", Payload: []byte("x"), QoS: 1})
		if err != nil {
			t.Fatal(err)
		}
		return ack.Code
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !holds(); {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come", what)
			}
		}
	}
	until("the right to publish", func() bool { return publish() < 0x80 })
	write(may[:len(may)-1])
	const complaint = "files of policies cannot be used"
	until("the problem", func() bool {
		_, body := l.do(t, http.MethodGet, "/readyz?verbose", "", l.root)
		return strings.Contains(body, complaint)
	})
	if code := publish(); code >= 0x80 {
		t.Errorf("with a bad file a publish is refused with %#x", code)
	}
	write(strings.Replace(may, "topic/news", "topic/other", 1))
	until("the denial", func() bool { return publish() == 0x87 })
	if _, body := l.do(t, http.MethodGet, "/readyz?verbose", "", l.root); strings.Contains(body, complaint) {
		t.Errorf("the problem stays: %s", body)
	}
	write(strings.Replace(may, "client/${umbra:Name}", "client/none", 1))
	select {
	case <-lamp.Done():
	case <-wait(t).Done():
		t.Error("a connection outlives the right to connect")
	}
}

// TestDenialsDoNotFloodTheLog has a client denied again and again, in all ways. All denials are counted or recorded; the log
// gets the first ones.
func TestDenialsDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	const times, lines = 30, 5
	l := startWithLamp(t, "--store=memory:")
	lamp := dial(t, l.MQTT(), asLamp("lamp"))
	asUser := func(r *http.Request) { r.SetBasicAuth("lamp", lampPassword) }
	will := asLamp("lamp")
	will.ClientID, will.Will = "lamp", &mqtttest.Message{Topic: "news"}
	for range times {
		for _, o := range []mqtttest.Options{asLamp("door"), will} {
			if c, err := mqtttest.Dial(wait(t), l.MQTT(), o); err == nil {
				c.Close()
				t.Fatal("a connection is not denied")
			}
		}
		if _, err := lamp.Subscribe(wait(t), "#"); err != nil {
			t.Fatal(err)
		}
		if status, _ := l.do(t, http.MethodGet, "/things/door/shadow", "", asUser); status != http.StatusForbidden {
			t.Fatalf("a request is answered with %d", status)
		}
	}
	log := l.Log()
	for _, message := range []string{"connection denied", "connection denied for its will", "subscription denied", "request denied"} {
		if n := strings.Count(log, `"`+message+`"`); n != lines {
			t.Errorf("%d denials make %d lines %q, want %d", times, n, message, lines)
		}
	}
}

// TestQuestionsKnowCredentials asks what somebody may do whose credential brings policies, groups and scopes of its own, of the
// file and of the store.
func TestQuestionsKnowCredentials(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:")
	l.mustUmbra(t, "", "policy", "attach", "read-only", "group:watchers")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("bob's password"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.mustUmbra(t, "", "user", "add", "bob", "--group", "watchers", "--new-password-file", password)
	l.mustUmbra(t, "", "user", "add", "old", "--policy", "admin", "--valid", "1ms", "--new-password-file", password)
	var confined struct{ ID string }
	if err := json.Unmarshal([]byte(l.mustUmbra(t, "", "token", "add", "--policy", "admin", "--scope", "iot:Get*", "-o", "json")), &confined); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		question string
		want     bool
	}{
		{"--as user:root umbra:Administer *", true},
		{"--as key:" + l.keyID + " umbra:Administer *", true},
		{"--as token:" + l.tokenID + " umbra:Administer *", true},
		{"--as user:bob iot:GetThingShadow thing/x", true},
		{"--as user:bob iot:UpdateThingShadow thing/x", false},
		{"--as token:" + confined.ID + " iot:GetThingShadow thing/x", true},
		{"--as token:" + confined.ID + " iot:UpdateThingShadow thing/x", false},
		{"--as user:old umbra:Administer *", false},
		{"--as user:nobody iot:GetThingShadow thing/x", false},
		{"--as user:nobody --group watchers iot:GetThingShadow thing/x", true},
		{"--as cert:00 iot:GetThingShadow thing/lamp", false},
		{"--as cert:00 --name lamp iot:GetThingShadow thing/lamp", true},
	} {
		want := map[bool]int{true: 0, false: 1}[test.want]
		if out, code := l.umbra(t, "", append([]string{"policy", "test"}, strings.Fields(test.question)...)...); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s", test.question, code, want, out)
		}
	}
}
