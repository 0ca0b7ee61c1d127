package config_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/internal/config"
)

func load(env map[string]string, args ...string) (*config.Command, error) {
	return config.Load(args, func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.MQTT != "127.0.0.1:1883" || c.HTTP != "127.0.0.1:8080" || c.Store != "pebble:./umbra-data" {
		t.Errorf("Load() = mqtt %s, http %s, store %s", c.MQTT, c.HTTP, c.Store)
	}
	if c.Shadow.DocumentBytes != 8192 || c.Shadow.PayloadBytes != 128<<10 || c.Broker.PayloadBytes != 1<<20 || c.CacheBytes != 64<<20 {
		t.Errorf("Load() = %+v, want the documented limits", c.Config)
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "umbrad.yaml")
	if err := os.WriteFile(file, []byte("document-depth: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"UMBRA_DOCUMENT_DEPTH": "4"}
	for _, tt := range []struct {
		env  map[string]string
		args []string
		want int
	}{
		{nil, nil, 8},
		{nil, []string{"--config", file}, 3},
		{map[string]string{"UMBRA_CONFIG": file}, nil, 3},
		{env, []string{"--config", file}, 4},
		{env, []string{"--config", file, "--document-depth", "5"}, 5},
		{env, []string{"--document-depth=5", "--document-depth=6"}, 6},
	} {
		c, err := load(tt.env, tt.args...)
		if err != nil {
			t.Errorf("Load(%q, %v): %v", tt.args, tt.env, err)
		} else if c.Shadow.Depth != tt.want {
			t.Errorf("Load(%q, %v): document-depth = %d, want %d", tt.args, tt.env, c.Shadow.Depth, tt.want)
		}
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	c, err := load(map[string]string{"UMBRA_RECEIVE_MAXIMUM": "7"}, "--limits", "aws")
	if err != nil {
		t.Fatal(err)
	}
	if c.Quota.InFlight != 10 {
		t.Errorf("in-flight = %d, want 10 of the profile", c.Quota.InFlight)
	}
	if c.Broker.PayloadBytes != 128<<10 {
		t.Errorf("payload-bytes = %d, want 128 KiB of the profile", c.Broker.PayloadBytes)
	}
	if c.Broker.ReceiveMaximum != 7 {
		t.Errorf("receive-maximum = %d, want 7: what is set wins over the profile", c.Broker.ReceiveMaximum)
	}
}

func TestGoodFiles(t *testing.T) {
	t.Parallel()
	for _, file := range glob(t, "testdata/good/*.yaml") {
		if _, err := load(nil, "--config", file, "--check"); err != nil {
			t.Errorf("Load(%s): %v", file, err)
		}
	}
}

// Each bad file has its errors, one a line, in a comment at its end.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	for _, file := range glob(t, "testdata/bad/*.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, comment, _ := strings.Cut(string(data), "# errors:\n")
		want := strings.ReplaceAll(strings.TrimSpace(strings.TrimPrefix(comment, "# ")), "\n# ", "\n")
		_, err = load(nil, "--config", file)
		got := strings.ReplaceAll(fmt.Sprint(err), "testdata/bad/", "")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Load(%s): error (-want +got)\n%s", file, diff)
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files match %s (%v)", pattern, err)
	}
	return files
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want []string // parts of the error
	}{
		{[]string{"--no-such"}, []string{": --no-such"}},
		{[]string{"-check=maybe"}, []string{" for --check: "}},
		{[]string{"--mqtt"}, []string{": --mqtt"}},
		{[]string{"extra"}, []string{`unexpected argument "extra"`}},
		{[]string{"--config", "testdata/absent.yaml"}, []string{"testdata/absent.yaml", "no such file"}},
		{[]string{"--mqtt", "1883"}, []string{`--mqtt: "1883" is not an address`}},
		{[]string{"--mqtt", "127.0.0.1:99999"}, []string{"no port from 0 to 65535"}},
		{[]string{"--http", "0.0.0.0:8080"}, []string{"--http:", "not a loopback address", "allow-anonymous"}},
		{[]string{"--http", "[::]:8080"}, []string{"not a loopback address"}},
		{[]string{"--http", "example.com:8080"}, []string{"not a loopback address"}},
		{[]string{"--mqtt", "off", "--http", ""}, []string{"nothing to serve"}},
		{[]string{"--store", "mysql://x"}, []string{"--store: not a known kind"}},
		{[]string{"--store", "memory:x"}, []string{"memory: takes nothing"}},
		{[]string{"--store", "pebble:"}, []string{"needs a directory"}},
		{[]string{"--store", "redis:///0"}, []string{"not a Redis URL"}},
		{[]string{"--store", "redis://127.0.0.1:0/0"}, []string{"--store: 0 is no port"}},
		{[]string{"--document-bytes", "0"}, []string{"--document-bytes", "not a size"}},
		{[]string{"--document-bytes", "9999999999GiB"}, []string{"not a size"}},
		{[]string{"--commit-timeout", "0s"}, []string{"not from 1ns to"}},
		{[]string{"--session-expiry", "500ms"}, []string{"--session-expiry", "not in whole seconds"}},
		{[]string{"--session-expiry", "0s"}, []string{"not from 1s to"}},
		{[]string{"--keep-alive", "1500ms"}, []string{"--keep-alive", "not in whole seconds"}},
		{[]string{"--keep-alive", "65536s"}, []string{"not from 0s to"}},
		{[]string{"--request-bytes", "2MiB"}, []string{"above payload-bytes"}},
		{[]string{"--http-header-bytes", "512KiB", "--stranger-bytes=1MiB"}, []string{"--http-header-bytes (524288) takes 1064960 of stranger-bytes (1048576)"}},
		{[]string{"--tls-handshake-bytes", "1MiB", "--stranger-bytes=2MiB"}, []string{"--tls-handshake-bytes (1048576) takes 2113536 of stranger-bytes (2097152)"}},
		{[]string{"--tls-handshake-bytes", "1000"}, []string{"not a size from 4096 to 1048576 bytes"}},
		{[]string{"--webhook-requests", "0"}, []string{"not a whole number from 1 to 65536"}},
		{[]string{"--allow-anonymous=maybe"}, []string{"neither true nor false"}},
		{[]string{"--refuse-filters", "a/#,b/#/c"}, []string{"--refuse-filters", `"b/#/c" is not a topic filter`}},
		{[]string{"--log-level", "loud", "--limits", "none"}, []string{"--log-level", "--limits"}},
	} {
		_, err := load(nil, tt.args...)
		for _, part := range tt.want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("Load(%q): error = %v, want one with %q", tt.args, err, part)
			}
		}
	}
	if _, err := load(nil, "--help"); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("Load(--help): error = %v, want flag.ErrHelp", err)
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "127.9.9.9:0", "[::1]:1883", "localhost:1883", ":0", ":1883", "off", ""} {
		c, err := load(nil, "--mqtt", addr, "--allow-anonymous")
		if err != nil {
			t.Errorf("Load(--mqtt %q --allow-anonymous): %v", addr, err)
		} else if c.Public() {
			t.Errorf("Load(--mqtt %q --allow-anonymous).Public() = true", addr)
		}
		if _, err := load(nil, "--mqtt", addr); err != nil {
			t.Errorf("Load(--mqtt %q): %v", addr, err)
		}
	}
	for _, addr := range []string{"[::]:1883", "0.0.0.0:1883", "192.0.2.1:1883"} {
		c, err := load(nil, "--mqtt", addr, "--allow-anonymous")
		if err != nil {
			t.Errorf("Load(--mqtt %q --allow-anonymous): %v", addr, err)
		} else if !c.Public() {
			t.Errorf("Load(--mqtt %q).Public() = false", addr)
		}
	}
}

func TestCanonicalForms(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"memory", "memory:"} {
		c, err := load(nil, "--mqtt", ":0", "--http", ":8081", "--store", store)
		if err != nil {
			t.Errorf("Load(--store %s): %v", store, err)
			continue
		}
		if c.MQTT != "127.0.0.1:0" || c.HTTP != "127.0.0.1:8081" || c.StoreName() != "memory:" {
			t.Errorf("Load(--store %s) = mqtt %s, http %s, store %s", store, c.MQTT, c.HTTP, c.StoreName())
		}
	}
}

func TestUnknownEnv(t *testing.T) {
	t.Parallel()
	got := config.UnknownEnv([]string{
		"UMBRA_MQTT=off", "UMBRA_CONFIG=x", "UMBRA_SERVER=x", "UMBRA_CONTEXT=x", "UMBRA_STORE_WAIT=", "HOME=/", "UMBRAGE=1",
		"UMBRA_HTPP=:1", "UMBRA_CHECK=true",
	})
	if want := []string{"UMBRA_CHECK", "UMBRA_HTPP"}; !slices.Equal(got, want) {
		t.Errorf("UnknownEnv() = %q, want %q", got, want)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	c, err := load(nil, "--store", "redis://app:"+secret+"@127.0.0.1:6379/0?master_password="+secret)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.StoreName(); strings.Contains(got, secret) || !strings.Contains(got, "127.0.0.1:6379/0") {
		t.Errorf("StoreName() = %s", got)
	}
	if _, err := load(nil, "--store", "redis://app:"+secret+"@[::1/0"); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("Load with a bad URL: error = %v", err)
	}
}

// TestEveryFieldIsASetting sets each setting to a value that is not its default
// and looks which field of Config changes: exactly one, and none is left over.
func TestEveryFieldIsASetting(t *testing.T) {
	t.Parallel()
	base, err := load(nil, "--tls-cert=c", "--tls-key=k", "--jwt-issuer=i", "--jwt-audience=a")
	if err != nil {
		t.Fatal(err)
	}
	fields := leaves(reflect.ValueOf(base.Config), "")
	for _, s := range config.Settings() {
		changed := ""
		for _, sample := range []string{
			"off", "127.0.0.1:7", "/tmp/d", "true", "7ns", "7s", "7", "memory:", "aws", "json", "debug", "none", "1.3", "uri", "certificate", "ws://127.0.0.1:7", "10.0.0.0/8", "ES256", "http://127.0.0.1/", "2MiB", "5KiB",
		} {
			c, err := load(nil, "--tls-cert=c", "--tls-key=k", "--jwt-issuer=i", "--jwt-audience=a", "--request-bytes=1", "--"+s.Name+"="+sample)
			if err != nil || sample == s.Default || sample == "off" && s.Default == "false" {
				continue
			}
			changed = ""
			for name, value := range leaves(reflect.ValueOf(c.Config), "") {
				derived := s.Name == "data" && (name == "Store" || name == "SecretsKey") || s.Name == "limits" && name != "Profile" ||
					name == "Shadow.PayloadBytes" && s.Name != "request-bytes"
				if value != fields[name] && fields[name] != "" && !derived {
					changed += name
				}
			}
			break
		}
		if _, ok := fields[changed]; !ok {
			t.Errorf("setting %s changes %q, want one field that no other setting changes", s.Name, changed)
		}
		delete(fields, changed)
	}
	for name := range fields {
		t.Errorf("field %s of Config has no setting", name)
	}
}

func leaves(v reflect.Value, prefix string) map[string]string {
	all := map[string]string{}
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Name
		if f := v.Field(i); f.Kind() == reflect.Struct {
			maps.Copy(all, leaves(f, name+"."))
		} else {
			all[name] = fmt.Sprintf("%#v", f.Interface())
		}
	}
	return all
}

// TestDocumentation keeps the tables of docs/configuration.md equal to the settings.
// UPDATE=1 go test writes them.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/configuration.md", "<!-- settings -->\n", "<!-- end of settings -->\n"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no lines %q and %q", file, begin, end)
	}
	want := head + begin + tables() + end + tail
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("%s is not up to date, UPDATE=1 go test ./internal/config writes it (-want +got)\n%s", file, diff)
	}
}

func tables() string {
	var b strings.Builder
	group := ""
	for _, s := range config.Settings() {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&b, "\n### %s\n\n| setting | default | meaning |\n| --- | --- | --- |\n", group)
		}
		def := ""
		if s.Default != "" {
			def = "`" + s.Default + "`"
		}
		if s.AWS != "" {
			def += " (aws: `" + s.AWS + "`)"
		}
		name := "`" + s.Name + "`"
		if s.Listener {
			name += " †"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, def, s.Help)
	}
	return b.String() + "\n"
}

func TestUsage(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := config.Usage(&out); err != nil {
		t.Fatal(err)
	}
	for _, s := range config.Settings() {
		if !strings.Contains(out.String(), "  --"+s.Name+" ") {
			t.Errorf("Usage does not tell of --%s", s.Name)
		}
	}
}

func TestListeners(t *testing.T) {
	t.Parallel()
	c, err := load(nil, "--config", "testdata/good/listeners.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range c.All() {
		got = append(got, fmt.Sprint(l.Name(), l.Auth, l.TLS.ClientCert, l.TLS.ClientCA, l.Connections))
	}
	want := []string{
		"http://127.0.0.1:8080[]0", "mqtts://0.0.0.0:8883[certificate]required/etc/umbra/devices.pem0", "wss://0.0.0.0:443[password token]none100",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("All() (-want +got)\n%s", diff)
	}
	tls := []string{"--tls-cert=c", "--tls-key=k"}
	for _, tt := range []struct {
		args []string
		want string // part of the error, "" for none
	}{
		{[]string{"--mqtts=127.0.0.1:0"}, "tls-cert"},
		{append(tls, "--mqtts=0.0.0.0:8883"), "not a loopback address"},
		{append(tls, "--mqtts=0.0.0.0:8883", "--tls-client-ca=ca"), ""},
		{append(tls, "--mqtts=0.0.0.0:8883", "--users=u"), ""},
		{append(tls, "--mqtts=0.0.0.0:8883", "--users=u", "--auth=anonymous,password"), "not a loopback address"},
		{append(tls, "--https=127.0.0.1:0", "--tls-client-cert=required"), "tls-client-ca"},
		{[]string{"--listeners=gopher://127.0.0.1:1"}, "not a listener"},
		{[]string{"--listeners=mqtt://127.0.0.1:1?colour=red"}, "unknown option"},
		{[]string{"--listeners=mqtt://127.0.0.1:1?auth=hope"}, "not one of"},
		{[]string{"--listeners=mqtt://127.0.0.1:1?message-rate=many"}, "message-rate: "},
		{[]string{"--listeners=mqtt://127.0.0.1:1?message-rate=many&colour=red"}, "unknown option \"colour\"\nmqtt://127.0.0.1:1: message-rate: "},
		{[]string{"--listeners=mqtt://127.0.0.1:1?message-rate=1&message-rate=1000"}, "\"message-rate\" is given twice"},
		{[]string{"--listeners=mqtt://127.0.0.1:1?queue-memory=1KiB"}, "unknown option"}, // it is of all clients together
		{[]string{"--listeners=mqtt://127.0.0.1:1?proxy-from=x"}, "neither an address nor a network"},
		{[]string{"--listeners=mqtt://127.0.0.1:1 ws://[::1]:2?proxy-from=10.0.0.0/8,::1"}, ""},
		{[]string{"--websocket-origins=app.example:8443,https://*.example,[[]::1]"}, ""},
		{[]string{"--websocket-origins=https://app.example/"}, "no origin such as"},
		{[]string{"--websocket-origins=a,,b"}, "no origin such as"},
		{[]string{"--websocket-origins=[a"}, "no origin such as"},
		{[]string{"--hosts=umbra.example,*.Home,host-?"}, ""},
		{[]string{"--hosts=umbra.example:8080"}, "no name of a host"},
		{[]string{"--hosts=http://umbra.example"}, "no name of a host"},
		{[]string{"--hosts=a,,b"}, "no name of a host"},
		{[]string{"--jwt-keys=k"}, "jwt-issuer"},
		{[]string{"--auth=jwt"}, "jwt-keys"},
		{[]string{"--auth=webhook"}, "webhook-url"},
		{[]string{"--webhook-url=ftp://x"}, "not a URL"},
		{[]string{"--jwt-algorithms=HS256"}, "not one of"},
	} {
		_, err := load(nil, tt.args...)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Load(%q): error = %v, want one with %q", tt.args, err, tt.want)
		}
	}
}

// TestListenersHaveOwnLimits: what a listener has of its own counts for it alone, the rest is that of all.
func TestListenersHaveOwnLimits(t *testing.T) {
	t.Parallel()
	c, err := load(nil, "--limits=aws", "--byte-rate=7KiB", "--principal-sessions=3",
		"--listeners=mqtt://127.0.0.1:1?message-rate=5&principal-sessions=0 mqtt://127.0.0.1:2")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range c.All() {
		rate, sessions := 100, 3 // the first is of the profile
		if l.Address == "127.0.0.1:1" {
			rate, sessions = 5, 0
		}
		if l.Limits.MessageRate != rate || l.Limits.Principal.Sessions != sessions || l.Limits.ByteRate != 7<<10 || l.HasOwnLimits() != (rate == 5) {
			t.Errorf("%s: limits are %+v", l.Name(), l.Limits)
		}
	}
}

func TestNamesOfListenersAreUnique(t *testing.T) {
	t.Parallel()
	c, err := load(nil, "--http=off", "--mqtt=127.0.0.1:0", "--listeners=mqtt://127.0.0.1:0?auth=anonymous ws://127.0.0.1:0 mqtt://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range c.All() {
		names = append(names, l.Name())
	}
	if want := []string{"mqtt://127.0.0.1:0", "mqtt://127.0.0.1:0#2", "ws://127.0.0.1:0", "mqtt://127.0.0.1:0#3"}; !slices.Equal(names, want) {
		t.Errorf("names = %q, want %q", names, want)
	}
}

// TestWarnings has settings that are weak, one thing at a time, and beside them what is fine.
func TestWarnings(t *testing.T) {
	t.Parallel()
	checkWarnings(t, []warned{
		{nil, ""},
		{onPublicAddress(), ""},

		{[]string{"--mqtt=0.0.0.0:1883", "--allow-anonymous"}, "anybody who reaches this address may read and change everything"},
		{onPublicAddress("--auth=password,anonymous", "--allow-anonymous"), "anybody who reaches this address is let in, for what policies allow anonymous"},
		{[]string{"--mqtt=127.0.0.1:1883", "--auth=anonymous"}, ""},
		{[]string{"--listeners=mqtt://127.0.0.1:1?proxy-from=127.0.0.1"}, "whoever its proxies pass on may read and change everything"},
		{[]string{"--listeners=mqtt://127.0.0.1:1?proxy-from=127.0.0.1&auth=password"}, ""},

		{onPublicAddress("--mqtts=off", "--mqtt=0.0.0.0:1883"), "mqtt://0.0.0.0:1883: passwords and tokens cross the network in clear text: use mqtts"},
		{onPublicAddress("--mqtts=off", "--http=0.0.0.0:1", "--auth=token"), "http://0.0.0.0:1: passwords and tokens cross the network in clear text: use https"},
		{onPublicAddress("--listeners=ws://0.0.0.0:1"), "in clear text: use wss"},
		{onPublicAddress("--http=0.0.0.0:1", "--auth=key"), "who hears one may send it again: use https"},
		{onPublicAddress("--mqtt=127.0.0.1:1883", "--http=[::1]:1"), ""},
		{onPublicAddress("--tls-min-version=1.2"), ""}, // which has no weak cipher suites here

		{onPublicAddress("--proxy-from=0.0.0.0/0"), "whoever is in 0.0.0.0/0 may say"},
		{onPublicAddress("--proxy-from=10.0.0.0/8,0.0.0.0/1,128.0.0.0/1"), "whoever is in 0.0.0.0/1 may say"},
		{onPublicAddress("--proxy-from=::/0"), "whoever is in ::/0 may say"},
		{onPublicAddress("--proxy-from=2000::/3"), "whoever is in 2000::/3 may say"},
		{onPublicAddress("--proxy-from=10.0.0.0/8,fc00::/7"), ""},

		{onPublicAddress("--audit-file="), "audit-file: the records"},
		{onPublicAddress("--address-logins=257"), ""},
		{onPublicAddress("--address-logins=258"), "address-logins: one address may take all places for logins"},
		{onPublicAddress("--waiting-logins=30"), "address-logins: one address may take all places for logins"},
		{onPublicAddress("--waiting-logins=31"), ""},
		{onPublicAddress("--address-logins=257", "--webhook-url=https://192.0.2.1/", "--webhook-requests=1"), "address-logins: one address"},
		{[]string{"--users=none.yaml", "--address-logins=1000"}, ""},
		{[]string{"--users=none.yaml"}, ""},

		{[]string{"--webhook-url=http://192.0.2.1/"}, "webhook-url: what decides who gets in crosses the network in clear text: use https"},
		{[]string{"--webhook-url=https://192.0.2.1/"}, ""},
		{[]string{"--webhook-url=http://localhost:1/"}, ""},
		{[]string{"--jwt-keys=http://192.0.2.1/", "--jwt-issuer=i", "--jwt-audience=a"}, "jwt-keys: what decides"},
		{[]string{"--jwt-keys=https://192.0.2.1/", "--jwt-issuer=i", "--jwt-audience=a"}, ""},
		{[]string{"--store=redis://192.0.2.1/0"}, "store: all that is kept"},
		{[]string{"--store=rediss://192.0.2.1/0"}, ""},
		{[]string{"--store=redis://127.0.0.1/0"}, ""},
		{[]string{"--store=rediss://192.0.2.1/0?skip_verify=true"}, "may take its place (skip_verify)"},
		{[]string{"--store=rediss://192.0.2.1/0?skip_verify=false"}, ""},
		{[]string{"--store=rediss://:hidden@192.0.2.1/0"}, "in the list of processes: use UMBRA_STORE"},
		{[]string{"--store=rediss://192.0.2.1/0?master_password=hidden"}, "in the list of processes: use UMBRA_STORE"},
		{onPublicAddress("--signature-skew=24h"), "signature-skew: who hears a signed request may send it again for 24h0m0s"},
		{onPublicAddress("--signature-skew=24h", "--auth=password"), ""},

		{[]string{"--websocket-origins=https://app.example,https://*.example"}, ""},
		{[]string{"--websocket-origins=app.example,*"}, "pages of every site"},
		{[]string{"--websocket-origins=https://*"}, "pages of every site"},
		{[]string{"--websocket-origins=*.*:*"}, "pages of every site"},
		{[]string{"--hosts=umbra.example"}, ""},
		{[]string{"--hosts=umbra.example,*"}, "DNS rebinding"},
		{[]string{"--hosts=*", "--http=off"}, ""},
		{[]string{"--hosts=*", "--users=none.yaml"}, ""},
	})
}

// TestWarningsOfFiles has files that others may read or change, or should not be there.
func TestWarningsOfFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if info, err := os.Stat(filepath.Dir(filepath.Dir(dir))); err != nil || info.Mode().Perm()&1 == 0 {
		t.Skip("nobody else gets into the directory for temporary files")
	}
	open := filepath.Join(dir, "open")
	path := func(name string) string { return filepath.Join(open, name) }
	const oneKey = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"open.key": {"", 0o644}, "group.key": {"", 0o640}, "writable.pem": {oneKey, 0o666}, "ca.pem": {oneKey, 0o644}, "many.pem": {strings.Repeat(oneKey, 100), 0o644},
		"data/CURRENT": {"", 0o644}, "closed/CURRENT": {"", 0o600}, "policies/a.json": {"", 0o644}, "policies2/a.json": {"", 0o666}, "policies3/a.json": {"", 0o644},
		"secret.yaml": {"store: redis://:hidden@127.0.0.1/0", 0o644}, "secret600.yaml": {"store: redis://:hidden@127.0.0.1/0", 0o600}, "plain.yaml": {"store: redis://127.0.0.1/0", 0o644},
		"safe/open.key": {"", 0o644},
	} {
		dir := filepath.Dir(path(name))
		err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755), os.WriteFile(path(name), []byte(file.text), 0o600), os.Chmod(path(name), file.mode))
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"policies3": 0o777, "safe": 0o700} {
		if err := os.Chmod(path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for up := open; up != os.TempDir() && up != "/"; up = filepath.Dir(up) { // as in /etc
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	checkWarnings(t, []warned{
		{onPublicAddress("--tls-client-ca=" + path("ca.pem")), "tls-crl: certificates that are revoked"},
		{onPublicAddress("--tls-client-ca="+path("ca.pem"), "--tls-crl=none.crl"), ""},
		{onPublicAddress("--tls-client-ca="+path("ca.pem"), "--tls-client-cert=none"), ""},
		{onPublicAddress("--tls-client-ca="+path("many.pem"), "--tls-crl=none.crl"), "many.pem has 100 authorities"},
		{[]string{"--config=" + path("secret.yaml")}, "may read its password in " + path("secret.yaml")},
		{[]string{"--config=" + path("secret600.yaml")}, ""},
		{[]string{"--config=" + path("plain.yaml")}, ""},
		{[]string{"--mqtts=127.0.0.1:1", "--https=127.0.0.1:2", "--tls-cert=c", "--tls-key=" + path("open.key")}, "everybody on this machine may read " + path("open.key")},
		{[]string{"--mqtts=127.0.0.1:1", "--tls-cert=c", "--tls-key=" + path("group.key")}, ""},
		{[]string{"--mqtts=127.0.0.1:1", "--tls-cert=c", "--tls-key=" + path("safe/open.key")}, ""},
		{[]string{"--listeners=mqtts://127.0.0.1:1?cert=c&key=" + path("open.key")}, "everybody on this machine may read"},
		{[]string{"--secrets-key=" + path("open.key")}, "secrets-key: everybody on this machine may read"},
		{[]string{"--secrets-key=" + path("group.key")}, ""},
		{[]string{"--users=" + path("open.key")}, "users: everybody on this machine may read " + path("open.key")},
		{[]string{"--users=" + path("group.key")}, ""},
		{onPublicAddress("--tls-client-ca="+path("writable.pem"), "--tls-crl=none.crl"), "tls-client-ca: everybody on this machine may change"},
		{onPublicAddress("--tls-client-ca="+path("ca.pem"), "--tls-crl="+path("writable.pem")), "tls-crl: everybody on this machine may change"},
		{[]string{"--jwt-keys=" + path("writable.pem"), "--jwt-issuer=i", "--jwt-audience=a"}, "jwt-keys: everybody on this machine may change"},
		{[]string{"--policies=" + path("policies")}, ""},
		{[]string{"--policies=" + path("policies2")}, "may change " + path("policies2/a.json")},
		{[]string{"--policies=" + path("policies3")}, "may change " + path("policies3") + ","},
		{[]string{"--data=" + path("data")}, "data: everybody on this machine may read what is kept in " + path("data")},
		{[]string{"--store=pebble:" + path("data")}, "data: everybody on this machine may read what is kept in " + path("data")},
		{[]string{"--data=" + path("closed")}, ""},
		{[]string{"--data=" + path("safe")}, ""},
	})
}

// warned is settings, and a part of the only warning of them, "" for none.
type warned struct {
	args []string
	want string
}

func checkWarnings(t *testing.T, all []warned) {
	t.Helper()
	for _, tt := range all {
		c, err := load(nil, tt.args...)
		if err != nil {
			t.Errorf("Load(%q): %v", tt.args, err)
			continue
		}
		got := c.Warnings()
		if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
			t.Errorf("Load(%q).Warnings() = %q, want %q", tt.args, got, tt.want)
		}
		if strings.Contains(strings.Join(got, ""), "hidden") {
			t.Errorf("Load(%q).Warnings() shows a password: %q", tt.args, got)
		}
	}
}

// onPublicAddress is what a server on a public address has, and more: each setting may be given again.
func onPublicAddress(more ...string) []string {
	return append([]string{"--mqtts=0.0.0.0:1", "--users=none.yaml", "--tls-cert=c", "--tls-key=k", "--audit-file=-", "--address-connections=100"}, more...)
}
