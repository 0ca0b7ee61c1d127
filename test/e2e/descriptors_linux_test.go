package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// limitFiles sets how many files a process may have open.
func limitFiles(t *testing.T, pid int, n uint64) {
	t.Helper()
	limit := syscall.Rlimit{Cur: n, Max: 4096}
	_, _, errno := syscall.Syscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
}

// What operators take away while umbrad cannot open any file, as strangers hold all descriptors that it may have, counts
// when it can again, although no file changes any more.
func TestChangesWithoutDescriptorsAreNotLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	grant := func(policy string) credential.User {
		u := credential.User{Grant: credential.Grant{Policies: []string{policy}}}
		if err := u.SetPassword([]byte("a password")); err != nil {
			t.Fatal(err)
		}
		return u
	}
	users := &credential.File{Users: map[string]credential.User{"alice": grant("admin"), "bob": grant("mine"), "root": grant("admin")}}
	write := func() string {
		t.Helper()
		path := filepath.Join(dir, "users.yaml")
		if err := users.Write(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const mine = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`
	issuer := newSigner(t, "goes")
	s := startSecure(
		t, "--users="+write(), "--policies="+filepath.Dir(file("policies/mine.json", mine)), "--mappings="+file("mine.yaml", relays("plug", "one")),
		"--jwt-keys="+file("jwks.json", jwks(t, issuer)), "--jwt-issuer=https://issuer", "--jwt-audience=umbra", "--default-policies=admin",
	)
	s.issue(t, "lamp")
	password := func(name string) mqtttest.Options {
		return mqtttest.Options{ClientID: name, Username: name, Password: "a password"}
	}
	connected := map[string]*mqtttest.Client{
		"certificate": s.mustConnect(t, "mqtts", s.config(t, "lamp"), mqtttest.Options{ClientID: "lamp"}),
		"user":        dial(t, s.MQTT(), password("alice")),
		"policy":      dial(t, s.MQTT(), password("bob")),
		"key of JWT":  dial(t, s.MQTT(), mqtttest.Options{ClientID: "jwt", Username: "x", Password: issuer.token(t, "goes")}),
	}

	limitFiles(t, s.PID(), 3)
	if _, err := s.ca.Revoke("lamp", time.Now()); err != nil {
		t.Fatal(err)
	}
	delete(users.Users, "alice")
	write()
	file("policies/mine.json", strings.Replace(mine, "Allow", "Deny", 1))
	file("jwks.json", jwks(t, newSigner(t, "stays")))
	file("mine.yaml", relays("pump", "two"))
	for _, complaint := range []string{
		"files of TLS cannot be used", "file of users cannot be used", "files of policies cannot be used", "keys for JWT cannot be read", "file of mappings cannot be used",
	} {
		eventually(t, func() error {
			if !strings.Contains(s.Log(), complaint) {
				return fmt.Errorf("the log does not say that %s", complaint)
			}
			return nil
		})
	}
	limitFiles(t, s.PID(), 4096)

	for what, c := range connected {
		select {
		case <-c.Done():
		case <-wait(t).Done():
			t.Errorf("a connection outlives its %s", what)
		}
	}
	eventually(t, func() error {
		_, text := (&login{Umbrad: s.Umbrad}).do(t, http.MethodGet, "/v1/mappings", "", func(r *http.Request) { r.SetBasicAuth("root", "a password") })
		if !strings.Contains(text, `"pump"`) {
			return fmt.Errorf("the mapping of the file is not in force: %s", text)
		}
		return nil
	})
}
