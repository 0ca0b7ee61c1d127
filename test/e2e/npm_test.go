package e2e_test

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

//go:embed npm/package.json npm/*.js
var npmFiles embed.FS

// minNode is the oldest Node.js that the AWS SDK runs on.
const minNode = 20

// node runs scripts among the packages that npm/package.json names.
type node struct {
	path, dir string
	env       []string // beside that of the test
}

// newNode installs the packages, once on a machine: they stay in the user's cache directory.
func newNode(t *testing.T) node {
	t.Helper()
	path := tool(t, "node")
	npm := tool(t, "npm")
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < minNode {
		skip(t, "Node.js %s is older than %d", strings.TrimSpace(string(version)), minNode)
	}
	dir, err := installOnce(wait(t), npm)
	if err != nil {
		skip(t, "npm install: %v", err)
	}
	return node{path: path, dir: dir}
}

// installMu keeps the tests of this process from installing the same packages at the same time.
var installMu sync.Mutex

func installOnce(ctx context.Context, npm string) (string, error) {
	installMu.Lock()
	defer installMu.Unlock()
	spec, err := npmFiles.ReadFile("npm/package.json")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(spec)
	dir := filepath.Join(cache, "umbra-e2e", hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "install")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	if err := os.WriteFile(filepath.Join(fresh, "package.json"), spec, 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = fresh
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return dir, nil
}

// run runs a script of the npm folder and fails the test when the script fails.
func (n node) run(t *testing.T, script string, args ...string) {
	t.Helper()
	text, err := npmFiles.ReadFile("npm/" + script)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(wait(t), n.path, append([]string{"-"}, args...)...)
	cmd.Dir = n.dir
	cmd.Env = append(os.Environ(), n.env...)
	cmd.Stdin = strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
}

// TestJavaScriptDevices runs both SDKs of AWS for devices over mutual TLS.
func TestJavaScriptDevices(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	s := startSecure(t, "--default-policies=operator") // its clients choose their own names
	s.issue(t, "lamp")
	_, port, _ := strings.Cut(s.Addr("mqtts"), ":")
	n.run(t, "thing-shadow.js", "localhost", port, s.file("ca.pem"), s.file("lamp.pem"), s.file("lamp.key"), "lamp")
	n.run(t, "shadow-v2.js", "localhost", port, s.file("ca.pem"), s.file("lamp.pem"), s.file("lamp.key"), "lamp")
}

// TestJavaScriptPresigned has an SDK of AWS presign the URL of a WebSocket with an access key of Umbra.
func TestJavaScriptPresigned(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id, key := credential.NewAccessKey("app", all())
	users := filepath.Join(t.TempDir(), "users.yaml")
	f := &credential.File{Keys: map[string]credential.AccessKey{id: key}}
	if err := f.Write(users); err != nil {
		t.Fatal(err)
	}
	s := startSecure(t, "--users="+users, "--auth=key")
	n.env = []string{"NODE_EXTRA_CA_CERTS=" + s.file("ca.pem")}
	_, port, _ := strings.Cut(s.Addr("https"), ":")
	n.run(t, "presigned.js", port, id, key.Secret, "yes")
	n.run(t, "presigned.js", port, id, "wrong", "no")
}

func TestJavaScriptDataPlane(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	u := umbradtest.Start(t, "--store=memory:")
	kept := dial(t, u.MQTT(), mqtttest.Options{ClientID: "js-kept"})
	subscribe(t, kept, "js/kept")
	n.run(t, "data-plane.js", u.URL(), "lamp", "js-kept")
	select {
	case <-kept.Done():
	case <-wait(t).Done():
		t.Error("DeleteConnection did not end the connection")
	}
}
