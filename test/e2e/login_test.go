package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// login is a umbrad that wants to know who somebody is, and a file with one of each kind of credentials.
type login struct {
	*umbradtest.Umbrad
	file                        string
	keyID, secret               string
	token, tokenID              string
	adminPassword, userPassword string
}

func startLogin(t *testing.T, args ...string) *login {
	t.Helper()
	l := &login{file: filepath.Join(t.TempDir(), "users.yaml"), adminPassword: "admin's password", userPassword: "alice's password"}
	admin, alice := credential.User{Grant: all()}, credential.User{Grant: all()}
	if err := errors.Join(admin.SetPassword([]byte(l.adminPassword)), alice.SetPassword([]byte(l.userPassword))); err != nil {
		t.Fatal(err)
	}
	id, key := credential.NewAccessKey("backend", all())
	tokenID, text, token := credential.NewToken("ci", nil, all())
	l.keyID, l.secret, l.tokenID, l.token = id, key.Secret, tokenID, text
	l.write(t, &credential.File{
		Users: map[string]credential.User{"root": admin, "alice": alice}, Keys: map[string]credential.AccessKey{id: key},
		Tokens: map[string]credential.Token{tokenID: token},
	})
	l.Umbrad = umbradtest.Start(t, append([]string{"--users=" + l.file}, args...)...)
	return l
}

// all is a grant of everything.
func all() credential.Grant { return credential.Grant{Policies: []string{"admin"}} }

func (l *login) write(t *testing.T, f *credential.File) {
	t.Helper()
	if err := f.Write(l.file); err != nil {
		t.Fatal(err)
	}
}

// do makes a request and returns its status and body.
func (l *login) do(t *testing.T, method, path, body string, edit func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(wait(t), method, l.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	edit(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (l *login) root(r *http.Request) { r.SetBasicAuth("root", l.adminPassword) }

// TestAWSCLISigns has the AWS CLI sign with an access key of Umbra.
func TestAWSCLISigns(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:")
	aws := newAWSCLI(t, l.URL())
	aws.fails("ForbiddenException", "get-thing-shadow", "--thing-name", "lamp", "/dev/null")
	aws.id, aws.secret = l.keyID, "wrong"
	aws.fails("ForbiddenException", "get-thing-shadow", "--thing-name", "lamp", "/dev/null")
	aws.secret = l.secret
	d := aws.document("update-thing-shadow", "--thing-name", "lamp", "--shadow-name", "cfg:1", "--payload", aws.payload(`{"state":{"desired":{"on":true}}}`))
	if d.Version != 1 || d.State.Desired["on"] != true {
		t.Errorf("update-thing-shadow gave %+v", d)
	}
	aws.run("publish", "--topic", "home/ä b~c*", "--qos", "1", "--retain", "--payload", aws.payload("hello"))
	aws.run("get-retained-message", "--topic", "home/ä b~c*")
}

func TestLogin(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:")
	for name, tt := range map[string]struct {
		o    mqtttest.Options
		code map[byte]byte // by version; 0 is accepted
	}{
		"nothing":        {mqtttest.Options{}, map[byte]byte{4: 4, 5: 0x86}},
		"password":       {mqtttest.Options{Username: "alice", Password: l.userPassword}, map[byte]byte{4: 0, 5: 0}},
		"wrong password": {mqtttest.Options{Username: "alice", Password: "x"}, map[byte]byte{4: 4, 5: 0x86}},
		"nobody":         {mqtttest.Options{Username: "bob", Password: l.userPassword}, map[byte]byte{4: 4, 5: 0x86}},
		"changed token":  {mqtttest.Options{Username: "any", Password: l.token + "x"}, map[byte]byte{4: 4, 5: 0x86}},
		"token":          {mqtttest.Options{Username: "any", Password: l.token}, map[byte]byte{4: 0, 5: 0}},
	} {
		for version, want := range tt.code {
			o := tt.o
			o.Version, o.ClientID = version, fmt.Sprint("c", version)
			c, err := mqtttest.Dial(wait(t), l.MQTT(), o)
			var refused *mqtttest.Refused
			switch {
			case err == nil:
				c.Close()
				if want != 0 {
					t.Errorf("%s in MQTT %d gets in", name, version)
				}
			case !errors.As(err, &refused) || refused.Code != want:
				t.Errorf("%s in MQTT %d: %v, want %#x", name, version, err, want)
			}
		}
	}
	for name, tt := range map[string]struct {
		edit func(*http.Request)
		want int
	}{
		"nothing": {func(*http.Request) {}, 401},
		"basic":   {l.root, 404},
		"wrong":   {func(r *http.Request) { r.SetBasicAuth("root", "x") }, 401},
		"bearer":  {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+l.token) }, 404},
		"changed": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+l.token+"x") }, 401},
	} {
		status, body := l.do(t, http.MethodGet, "/things/lamp/shadow", "", tt.edit)
		if status != tt.want || !strings.Contains(body, `"message"`) {
			t.Errorf("GET with %s = %d %s, want %d", name, status, body, tt.want)
		}
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 401, "/v1/things": 401, "/v1/events": 401} {
		if status, _ := l.do(t, http.MethodGet, path, "", func(*http.Request) {}); status != want {
			t.Errorf("GET %s without credentials = %d, want %d", path, status, want)
		}
	}
	if log := l.Log(); strings.Contains(log, l.token) || strings.Contains(log, l.userPassword) || strings.Contains(log, l.secret) {
		t.Error("a secret is in the log")
	}
}

func TestMosquittoLogsIn(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:")
	host, port, _ := strings.Cut(l.MQTT(), ":")
	args := []string{"-h", host, "-p", port, "-u", "alice", "-P", l.userPassword, "-q", "1", "-t", "a", "-m", "x"}
	if out, err := exec.CommandContext(wait(t), umbradtest.Tool(t, "mosquitto_pub"), args...).CombinedOutput(); err != nil {
		t.Errorf("mosquitto_pub: %v\n%s", err, out)
	}
	args[7] = "wrong"
	if out, err := exec.CommandContext(wait(t), umbradtest.Tool(t, "mosquitto_pub"), args...).CombinedOutput(); err == nil {
		t.Errorf("mosquitto_pub gets in with a wrong password: %s", out)
	}
}

// TestCredentialsOfTheStore makes a user, a key and a token over the API; they count at once, and end with their
// connections when they are removed. They are there again after a crash, and no secret is in the data directory.
func TestCredentialsOfTheStore(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	l := startLogin(t, "--data="+data)
	if status, body := l.do(t, http.MethodPut, "/v1/credentials/users/bob", `{"password":"bob's password","policies":["admin"]}`, l.root); status != 204 {
		t.Fatalf("PUT user = %d %s", status, body)
	}
	var made [2]struct{ ID, Secret string }
	for i, kind := range []string{"keys", "tokens"} {
		status, body := l.do(t, http.MethodPost, "/v1/credentials/"+kind, `{"name":"x","policies":["admin"]}`, l.root)
		if status != http.StatusCreated {
			t.Fatalf("POST %s = %d %s", kind, status, body)
		}
		if err := json.Unmarshal([]byte(body), &made[i]); err != nil {
			t.Fatal(err)
		}
	}
	aws := newAWSCLI(t, l.URL())
	aws.id, aws.secret = made[0].ID, made[0].Secret
	aws.run("list-retained-messages")
	bob := dial(t, l.MQTT(), mqtttest.Options{ClientID: "bob", Username: "bob", Password: "bob's password"})
	token := dial(t, l.MQTT(), mqtttest.Options{ClientID: "token", Username: "x", Password: made[1].Secret})
	stream := l.events(t, made[1].Secret)
	if status, _ := l.do(t, http.MethodDelete, "/v1/credentials/tokens/"+made[1].ID, "", l.root); status != 204 {
		t.Errorf("DELETE token = %d", status)
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Errorf("an event stream outlives its token: %v", err)
	}
	select {
	case <-token.Done():
	case <-time.After(5 * time.Second):
		t.Error("a connection outlives its token")
	}
	select {
	case <-bob.Done():
		t.Error("the connection of another one ends")
	default:
	}
	l.Kill()
	out, err := exec.CommandContext(wait(t), "grep", "-rlaF", "-e", made[0].Secret, "-e", "bob's password", "-e", made[1].Secret, data).CombinedOutput()
	if err == nil {
		t.Errorf("secrets are in %s", out)
	}
	l.Restart()
	dial(t, l.MQTT(), mqtttest.Options{ClientID: "bob", Username: "bob", Password: "bob's password"})
	aws.run("list-retained-messages")
}

// events opens the event stream of all things with a bearer token.
func (l *login) events(t *testing.T, token string) io.Reader {
	t.Helper()
	req, err := http.NewRequestWithContext(wait(t), http.MethodGet, l.URL()+"/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /v1/events: %v, %v", resp, err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.Body
}

// TestUsersAreAddedOnce has two operators add the same user: the second one is told, and changes nothing.
func TestUsersAreAddedOnce(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:")
	add := func(password string) (int, string) {
		return l.do(t, http.MethodPut, "/v1/credentials/users/bob", `{"password":"`+password+`"}`, func(r *http.Request) {
			l.root(r)
			r.Header.Set("If-None-Match", "*")
		})
	}
	if status, body := add("bob's password"); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := add("another password"); status != http.StatusPreconditionFailed {
		t.Errorf("%d %s", status, body)
	}
	asBob := func(r *http.Request) { r.SetBasicAuth("bob", "bob's password") }
	if status, body := l.do(t, http.MethodGet, "/v1/whoami", "", asBob); status != http.StatusOK {
		t.Errorf("with the first password: %d %s", status, body)
	}
}

// TestFileOfUsersChanges takes a password away while its user is connected.
func TestFileOfUsersChanges(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:")
	alice := dial(t, l.MQTT(), mqtttest.Options{ClientID: "alice", Username: "alice", Password: l.userPassword})
	f, err := credential.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	delete(f.Users, "alice")
	l.write(t, f)
	select {
	case <-alice.Done():
	case <-wait(t).Done():
		t.Error("a connection outlives its user")
	}
	if c, err := mqtttest.Dial(wait(t), l.MQTT(), mqtttest.Options{Username: "alice", Password: l.userPassword}); err == nil {
		c.Close()
		t.Error("a user who was removed gets in")
	}
}
