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
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

//go:embed npm/package.json npm/*.js zigbee2mqtt/package.json zigbee2mqtt/package-lock.json
var npmFiles embed.FS

// installTime is the longest that the installation of packages may take.
const installTime = 10 * time.Minute

// scriptTime bounds a script.
const scriptTime = 5 * time.Minute

// minNode is the oldest Node.js that the AWS SDK runs on.
const minNode = 20

// node runs scripts among the packages that the package.json of a folder names.
type node struct {
	path, dir string
	env       []string // beside that of the test
}

// newNode installs the packages of a folder, once on a machine: they stay in the user's cache directory.
func newNode(t *testing.T, folder string) node {
	t.Helper()
	path := umbradtest.Tool(t, "node")
	npm := umbradtest.Tool(t, "npm")
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < minNode {
		umbradtest.Skip(t, "Node.js %s is older than %d", strings.TrimSpace(string(version)), minNode)
	}
	ctx, cancel := context.WithTimeout(t.Context(), installTime)
	defer cancel()
	dir, err := installOnce(ctx, npm, folder)
	if err != nil {
		umbradtest.Skip(t, "npm install: %v", err)
	}
	return node{path: path, dir: dir}
}

// installMu keeps the tests of this process from installing the same packages at the same time.
var installMu sync.Mutex

// installOnce installs what package.json names, as package-lock.json says if there is one.
func installOnce(ctx context.Context, npm, folder string) (string, error) {
	installMu.Lock()
	defer installMu.Unlock()
	spec, err := npmFiles.ReadFile(folder + "/package.json")
	if err != nil {
		return "", err
	}
	how := []string{"install", "--no-package-lock"}
	lock, err := npmFiles.ReadFile(folder + "/package-lock.json")
	if err == nil {
		how = []string{"ci"}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(slices.Concat(spec, lock))
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
	for name, text := range map[string][]byte{"package.json": spec, "package-lock.json": lock} {
		if text == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(fresh, name), text, 0o600); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, npm, append(how, "--no-audit", "--no-fund", "--ignore-scripts")...)
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
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.path, append([]string{"-"}, args...)...)
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
	n := newNode(t, "npm")
	s := startSecure(t, "--default-policies=operator") // its clients choose their own names
	s.issue(t, "lamp")
	_, port, _ := strings.Cut(s.Addr("mqtts"), ":")
	n.run(t, "thing-shadow.js", "localhost", port, s.file("ca.pem"), s.file("lamp.pem"), s.file("lamp.key"), "lamp")
	n.run(t, "shadow-v2.js", "localhost", port, s.file("ca.pem"), s.file("lamp.pem"), s.file("lamp.key"), "lamp")
}

// TestJavaScriptPresigned has an SDK of AWS presign the URL of a WebSocket with an access key of Umbra.
func TestJavaScriptPresigned(t *testing.T) {
	t.Parallel()
	n := newNode(t, "npm")
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
	n := newNode(t, "npm")
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
