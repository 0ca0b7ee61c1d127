// Package archtest holds the tests of the module as a whole: which package may
// import which, what stays pure, what the programs carry, and that everything is
// documented.
package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
)

const module = "github.com/umbra-iot/umbra/"

// Modules that a package of ours may have in its row.
const (
	exprlang   = "github.com/expr-lang/expr"
	cobra      = "github.com/spf13/cobra"
	cmp        = "github.com/google/go-cmp"
	gjson      = "github.com/tidwall/gjson"
	jsonschema = "github.com/santhosh-tekuri/jsonschema/v6"
	mochi      = "github.com/mochi-mqtt/server/v2"
	paho       = "github.com/eclipse/paho.golang"
	pebble     = "github.com/cockroachdb/pebble/v2"
	prometheus = "github.com/prometheus/client_golang"
	redis      = "github.com/redis/go-redis/v9"
	uuid       = "github.com/google/uuid"
	websocket  = "github.com/coder/websocket"
	xsync      = "golang.org/x/sync"
	yaml       = "go.yaml.in/yaml/v3"
)

// allowed maps each package to the packages of this module and the modules outside it that it may
// import directly. The standard library is free. Imports point down: a row names only what comes
// before it.
var allowed = map[string][]string{
	// What a shadow is. Pure.
	"shadow":  {},
	"schemas": {jsonschema},

	// Where shadows are kept.
	"statestore":             {},
	"statestore/memstore":    {"statestore"},
	"statestore/pebblestore": {"statestore", pebble},
	"statestore/redisstore":  {"statestore", redis},
	"statestore/storetest":   {"statestore", cmp},

	// What the log gets of what clients bring about.
	"internal/quiet": {},

	// Whose turn it is.
	"internal/turns": {},

	// When files have to be read again.
	"internal/reload": {},

	// Who may change a file now, and how it is changed.
	"internal/filelock":   {},
	"internal/atomicfile": {},

	// What each principal may use. Pure.
	"internal/quota": {},

	// Who somebody is and what he may do. Pure.
	"internal/auth":        {},
	"internal/auth/policy": {},

	// What operators configure while the service runs.
	"internal/objects":    {"statestore"},
	"internal/audit":      {"internal/quiet"},
	"internal/auth/authz": {"internal/auth", "internal/auth/policy", "internal/objects", "internal/reload"},

	// The service: the only writer of shadows.
	"things": {"shadow", "statestore"},

	// Mappings of plain topics to shadows. Pure.
	"broker/mapping":       {"shadow", yaml, exprlang},
	"broker/mapping/cases": {"broker/mapping", "shadow"},

	"internal/mappings": {"broker/mapping", "internal/objects", "internal/reload"},

	// MQTT. The parts below broker are state machines and codecs that know nothing of shadows.
	"broker/topic":    {},
	"broker/wire":     {},
	"broker/session":  {"broker/topic", "broker/wire"},
	"broker/retained": {"broker/topic", "broker/wire"},
	"broker/listener": {"internal/auth", websocket},
	"broker/journal":  {"statestore"},
	"broker/presence": {},
	"broker": {
		"shadow", "statestore", "things", "internal/auth", "internal/quiet", "internal/quota",
		"broker/topic", "broker/wire", "broker/session", "broker/retained", "broker/listener", "broker/journal", "broker/presence", "broker/mapping", mochi,
	},

	// Who gets in.
	"internal/tlsfiles":        {"internal/reload"},
	"internal/pki":             {"internal/atomicfile", "internal/auth", "internal/filelock"},
	"internal/gate":            {"broker/listener", "internal/auth", "internal/tlsfiles", "github.com/pires/go-proxyproto", xsync},
	"internal/auth/password":   {"internal/turns", "golang.org/x/crypto"},
	"internal/auth/sigv4":      {},
	"internal/auth/credential": {"internal/atomicfile", "internal/auth", "internal/auth/password", yaml},
	"internal/auth/authn": {
		"internal/auth", "internal/auth/credential", "internal/auth/password", "internal/auth/sigv4", "internal/objects", "internal/quiet", "internal/reload", "internal/turns",
		"github.com/go-jose/go-jose/v4",
	},

	// HTTP, metrics and settings translate; they decide nothing.
	"internal/version": {},
	"internal/rest":    {"internal/auth", "internal/quiet", "internal/quota", "internal/auth/authz", "internal/auth/policy", "internal/audit", "internal/auth/credential", "internal/auth/sigv4", "internal/objects", "internal/mappings", "shadow", "schemas", "things", "broker", "broker/mapping", "broker/presence", "broker/topic", "internal/version", gjson, uuid, xsync},
	"internal/metrics": {"statestore", "things", "broker", "internal/auth/authn", "internal/gate", "internal/version", prometheus},
	"internal/config":  {"shadow", "things", "broker", "broker/topic", "internal/gate", "internal/tlsfiles", yaml},
	"internal/client":  {"shadow", "internal/auth/sigv4"},

	// The programs.
	"internal/dashboard": {},
	"cmd/umbrad": {
		"statestore", "statestore/memstore", "statestore/pebblestore", "statestore/redisstore", "things", "broker", "broker/listener", "broker/mapping",
		"internal/auth", "internal/auth/authn", "internal/auth/authz", "internal/audit", "internal/auth/credential", "internal/auth/password", "internal/objects", "internal/mappings", "internal/gate",
		"internal/tlsfiles", "internal/quota", "shadow", "internal/config", "internal/dashboard", "internal/metrics", "internal/rest", "internal/version", pebble, xsync,
	},
	"cmd/umbra":        {"shadow", "broker/mapping", "broker/mapping/cases", "internal/atomicfile", "internal/client", "internal/auth/credential", "internal/filelock", "internal/pki", "internal/version", cobra, yaml, "golang.org/x/term"},
	"examples/lamp":    {paho},
	"examples/app":     {paho},
	"examples/mapping": {paho},
	"examples":         {},

	// Tests and measurements.
	"internal/archtest":    {},
	"internal/conformance": {},
	"internal/faultfs":     {pebble},
	"internal/umbradtest":  {},
	"test/mqtttest":        {},
	"test/packetio":        {mochi},
	"test/conformance":     {},
	"test/e2e":             {},
	"test/mqtt":            {},
	"bench":                {"test/mqtttest"},
	"bench/baremochi":      {mochi},
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, pkg := range list(t) {
		name := strings.TrimPrefix(pkg.ImportPath, module)
		allow, ok := allowed[name]
		if !ok {
			t.Errorf("package %s is not in the table of allowed imports", name)
			continue
		}
		for _, imp := range pkg.Imports {
			if !isStandard(imp) && !slices.ContainsFunc(allow, func(a string) bool { return permits(a, imp) }) {
				t.Errorf("package %s must not import %s", name, imp)
			}
		}
	}
}

// permits reports whether the entry a of a row allows the import: of one package of ours, or of any
// package of another module.
func permits(a, imp string) bool {
	if own, ok := strings.CutPrefix(imp, module); ok {
		return own == a
	}
	return imp == a || strings.HasPrefix(imp, a+"/")
}

func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// TestTable finds rows of packages that are gone, and imports that are no longer needed.
func TestTable(t *testing.T) {
	t.Parallel()
	imports := map[string][]string{}
	for _, pkg := range list(t) {
		imports[strings.TrimPrefix(pkg.ImportPath, module)] = pkg.Imports
	}
	for name, allow := range allowed {
		used, ok := imports[name]
		if !ok {
			t.Errorf("the table has a row for package %s, which does not exist", name)
			continue
		}
		for _, a := range allow {
			if !slices.ContainsFunc(used, func(imp string) bool { return permits(a, imp) }) {
				t.Errorf("package %s may import %s but does not: remove it from the row", name, a)
			}
		}
	}
}

func TestDocumented(t *testing.T) {
	t.Parallel()
	for _, pkg := range list(t) {
		if pkg.Doc == "" && pkg.GoFiles != nil {
			t.Errorf("package %s has no documentation", pkg.ImportPath)
		}
	}
}

// TestPure keeps the packages that only compute from reading the world.
func TestPure(t *testing.T) {
	t.Parallel()
	world := []string{
		"context", "io", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "sync", "sync/atomic", "time",
	}
	concurrent := []string{"sync", "sync/atomic"} // broker/topic guards its index
	for name, may := range map[string][]string{
		"shadow":               nil,
		"broker/wire":          nil,
		"broker/session":       nil,
		"broker/presence":      nil,
		"broker/topic":         concurrent,
		"internal/auth/policy": {"io", "time"}, // to see the end of a document; dates
		"broker/mapping":       {"io", "time"}, // to see the end of a file; durations
	} {
		for _, imp := range find(t, name).Imports {
			if slices.Contains(world, imp) && !slices.Contains(may, imp) {
				t.Errorf("package %s is pure and must not import %s", name, imp)
			}
		}
	}
}

// TestCommandLineIsLight keeps servers and storage engines out of the operators' program.
func TestCommandLineIsLight(t *testing.T) {
	t.Parallel()
	for _, dep := range find(t, "cmd/umbra").Deps {
		for _, heavy := range []string{mochi, pebble, redis, prometheus, module + "broker", module + "things", module + "statestore"} {
			pure := strings.HasPrefix(dep, module+"broker/mapping") // to check and to try mappings
			if (dep == heavy || strings.HasPrefix(dep, heavy+"/")) && !pure {
				t.Errorf("cmd/umbra links %s", dep)
			}
		}
	}
}

// TestProgramsCarryNoTests keeps what tests need out of both programs.
func TestProgramsCarryNoTests(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"cmd/umbra", "cmd/umbrad"} {
		for _, dep := range find(t, name).Deps {
			if dep == "testing" || strings.HasPrefix(dep, cmp) {
				t.Errorf("%s links %s", name, dep)
			}
		}
	}
}

// TestDependenciesHaveReasons holds the list of dependencies in ARCHITECTURE.md to go.mod.
func TestDependenciesHaveReasons(t *testing.T) {
	t.Parallel()
	root := umbradtest.Root(t)
	architecture := read(t, filepath.Join(root, "ARCHITECTURE.md"))
	for line := range strings.Lines(read(t, filepath.Join(root, "go.mod"))) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "require "))
		path, rest, ok := strings.Cut(line, " ")
		if !ok || !strings.HasPrefix(rest, "v") || strings.Contains(rest, "// indirect") {
			continue
		}
		if !strings.Contains(architecture, "`"+path+"`") {
			t.Errorf("ARCHITECTURE.md does not say why the module needs %s", path)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

type listed struct {
	ImportPath, Doc        string
	Imports, GoFiles, Deps []string
}

func find(t *testing.T, name string) listed {
	t.Helper()
	pkgs := list(t)
	i := slices.IndexFunc(pkgs, func(p listed) bool { return p.ImportPath == module+name })
	if i < 0 {
		t.Fatalf("no package %s", name)
	}
	return pkgs[i]
}

func list(t *testing.T) []listed {
	t.Helper()
	umbradtest.Root(t) // the result depends on all sources
	pkgs, err := goList()
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

var goList = sync.OnceValues(func() (pkgs []listed, err error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,GoFiles,Deps", module+"...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, stderr.String())
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
})
