package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

const patience = 30 * time.Second

func TestReadyLine(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "data")
	u := umbradtest.Start(t, "--data="+dir)
	for _, addr := range []string{u.MQTT(), u.HTTP()} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Errorf("ready line %+v: %v", u.Ready(), err)
			continue
		}
		conn.Close()
	}
	u.Stop()
	want := regexp.MustCompile(`^umbrad ready mqtt=127\.0\.0\.1:\d+ http=127\.0\.0\.1:\d+ store=pebble:` + regexp.QuoteMeta(dir) + "\n$")
	if got := u.Stdout(); !want.MatchString(got) {
		t.Errorf("stdout = %q, want only the ready line", got)
	}
}

func TestOff(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--http=off")
	if got := u.Ready(); got.HTTP != "off" || got.Store != "memory:" {
		t.Errorf("ready line = %+v, want http=off store=memory:", got)
	}
	umbradtest.Start(t, "--store=memory:", "UMBRA_MQTT=off", "--mqtt=")
}

func TestSignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt, syscall.SIGHUP} {
		if signal.Ignored(sig) { // this process runs below nohup, and so would umbrad
			continue
		}
		u := umbradtest.Start(t, "--store=memory:")
		u.Signal(sig)
		if code := u.Wait(); code != 0 {
			t.Errorf("exit code after %v = %d, want 0\n%s", sig, code, u.Log())
		}
	}
}

// slowRequest begins an update whose body is not complete yet, and returns a function that completes it.
func slowRequest(t *testing.T, u *umbradtest.Umbrad) (finish func() (*http.Response, error)) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.HTTP())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	const body = `{"state":{"reported":{"on":true}}}`
	_, err = fmt.Fprintf(conn, "POST /things/slow/shadow HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("answer to the headers = %q, %v", line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return func() (*http.Response, error) {
		if _, err := io.WriteString(conn, body); err != nil {
			return nil, err
		}
		return http.ReadResponse(r, nil)
	}
}

func TestRequestUnderWayIsAnswered(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	finish := slowRequest(t, u)
	u.Signal(syscall.SIGTERM)
	waitFor(t, "the log to say stopping", func() bool { return strings.Contains(u.Log(), "stopping") })
	resp, err := finish()
	if err != nil {
		t.Fatalf("request that was under way: %v\n%s", err, u.Log())
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("request that was under way = %s, want 200", resp.Status)
	}
	if code := u.Wait(); code != 0 {
		t.Errorf("exit code = %d, want 0\n%s", code, u.Log())
	}
}

func TestStuckRequestDoesNotHoldTheEndUp(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--request-timeout=1m")
	slowRequest(t, u)
	u.Stop()
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--request-timeout=1m")
	slowRequest(t, u)
	u.Signal(syscall.SIGTERM)
	waitFor(t, "the log to say stopping", func() bool { return strings.Contains(u.Log(), "stopping") })
	stopping := time.Now()
	waitFor(t, "half a second to be over", func() bool { return time.Since(stopping) > 600*time.Millisecond }) // a signal until then is the first one again
	u.Signal(syscall.SIGTERM)
	if code := u.Wait(); code != 1 {
		t.Errorf("exit code after the second signal = %d, want 1", code)
	}
}

// TestSignalTwiceAtOnce sends a signal as a terminal and a parent in the same process group do.
func TestSignalTwiceAtOnce(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	finish := slowRequest(t, u)
	u.Signal(os.Interrupt)
	u.Signal(syscall.SIGTERM)
	waitFor(t, "the log to say stopping", func() bool { return strings.Contains(u.Log(), "stopping") })
	resp, err := finish()
	if err != nil {
		t.Fatalf("request that was under way: %v\n%s", err, u.Log())
	}
	resp.Body.Close()
	if code := u.Wait(); code != 0 {
		t.Errorf("exit code = %d, want 0\n%s", code, u.Log())
	}
}

func TestClosedStdout(t *testing.T) {
	t.Parallel()
	for _, redirection := range []string{">&-", ">/dev/full"} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `exec "$0" --store=memory --mqtt=:0 --http=:0 `+redirection, umbradtest.Binary(t))
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "umbrad: tell") && !strings.Contains(string(out), "output is closed") {
			t.Errorf("umbrad %s = %v, %s; want exit code 1 and why", redirection, err, out)
		}
	}
}

func TestEventStreamEnds(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	resp := get(t, u.URL()+"/v1/events")
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /v1/events = %s", resp.Status)
	}
	u.Stop()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("event stream ended with %v, want a clean end", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	configs := filepath.Join(umbradtest.Root(t), "internal", "config", "testdata")
	policies := t.TempDir()
	const misspelt = `{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "iot:Conect", "Resource": "*"}}`
	if err := os.WriteFile(filepath.Join(policies, "x.json"), []byte(misspelt), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string // in the output
	}{
		{[]string{"--check"}, 0, "settings are valid"},
		{[]string{"--check", "--config", configs + "/good/all.yaml"}, 0, "settings are valid"},
		{[]string{"--check", "UMBRA_CONFIG=" + configs + "/bad/unknown.yaml"}, 2, `unknown.yaml:2: unknown setting "htpp"`},
		{[]string{"--check", "UMBRA_LOG_LEVEL=loud"}, 2, `UMBRA_LOG_LEVEL: "loud"`},
		{[]string{"--check", "UMBRA_LOG_LEVEL=loud", "--log-level=debug"}, 0, "settings are valid"},
		{[]string{"--check", "UMBRA_HTPP=:0"}, 0, "warning: UMBRA_HTPP is not a setting"},
		{[]string{"--check", "--store=redis://127.0.0.1:66379"}, 2, "--store: 66379 is no port"},
		{[]string{"--check", "--store=redis://127.0.0.1/zero"}, 2, "zero"},
		{[]string{"--check", "--policies=" + policies}, 0, `warning: policies: x: line 1, column 80: action "iot:Conect"`},
		{[]string{"--mqtt=0.0.0.0:0"}, 2, "not a loopback address"},
		{[]string{"--no-such-flag"}, 2, "--no-such-flag"},
		{[]string{"--version"}, 0, "umbrad "},
		{[]string{"--help"}, 0, "--document-bytes"},
	} {
		r := umbradtest.Run(t, tt.args...)
		if r.Code != tt.code || !strings.Contains(r.Stdout+r.Stderr, tt.want) {
			t.Errorf("umbrad %q = %d, %q; want %d with %q", tt.args, r.Code, r.Stdout+r.Stderr, tt.code, tt.want)
		}
		if tt.code != 0 && r.Stdout != "" {
			t.Errorf("umbrad %q wrote its error to stdout: %q", tt.args, r.Stdout)
		}
	}
}

func TestAllowAnonymous(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--mqtt=0.0.0.0:0", "--allow-anonymous")
	waitFor(t, "a warning in the log", func() bool {
		return strings.Contains(u.Log(), "level=WARN msg=\"anybody who reaches this server")
	})
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, flags := range [][]string{
		{"--mqtt=" + l.Addr().String(), "--http=off"},
		{"--http=" + l.Addr().String(), "--mqtt=127.0.0.1:0"},
	} {
		r := umbradtest.Run(t, append(flags, "--store=memory:")...)
		if r.Code != 1 || r.Stdout != "" || !strings.Contains(r.Stderr, "address already in use") {
			t.Errorf("umbrad %q = %+v, want exit code 1 and why", flags, r)
		}
	}
}

func TestDataDirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	umbradtest.Start(t, "--data="+dir)
	r := umbradtest.Run(t, "--mqtt=127.0.0.1:0", "--http=127.0.0.1:0", "--data="+dir)
	if r.Code != 1 || !strings.Contains(r.Stderr, "in use") || !strings.Contains(r.Stderr, dir) {
		t.Errorf("second umbrad on %s = %+v, want exit code 1 and why", dir, r)
	}
}

func TestDocumentsSurviveKill(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t)
	for i := range 20 {
		post(t, u.URL()+"/things/lamp/shadow", fmt.Sprintf(`{"state":{"reported":{"n":%d}}}`, i))
	}
	u.Kill()
	u.Restart()
	got := body(t, u.URL()+"/things/lamp/shadow")
	if !strings.Contains(got, `"n":19`) || !strings.Contains(got, `"version":20`) {
		t.Errorf("shadow after kill -9 = %s, want n 19 in version 20", got)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	post(t, u.URL()+"/things/lamp/shadow", `{"state":{"reported":{"on":true}}}`)
	for path, want := range map[string]string{
		"/livez":              "",
		"/readyz":             "",
		"/things/lamp/shadow": `"on":true`,
		"/metrics":            `umbra_requests_total{op="update"} 1`,
	} {
		if got := body(t, u.URL()+path); !strings.Contains(got, want) {
			t.Errorf("GET %s = %s, want %q in it", path, got, want)
		}
	}
	resp := get(t, u.URL()+"/mqtt")
	resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("GET /mqtt without an upgrade = %s, want 426", resp.Status)
	}
	if page := body(t, u.URL()+"/metrics"); strings.Contains(page, "lamp") {
		t.Errorf("/metrics names a thing")
	}
}

func TestRedisIsNotThere(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	r := umbradtest.Run(t, "--mqtt=127.0.0.1:0", "--http=off", "--data="+t.TempDir(), "UMBRA_STORE=redis://app:s3cr3t@"+addr+"/0")
	if r.Code != 1 || !strings.Contains(r.Stderr, addr) {
		t.Errorf("umbrad without its Redis = %+v, want exit code 1 and the address", r)
	}
	if strings.Contains(r.Stderr, "s3cr3t") {
		t.Errorf("umbrad shows the password: %s", r.Stderr)
	}
}

func TestStoreWait(t *testing.T) {
	t.Parallel()
	redis := storetest.Redis(t)
	redis.Kill()
	u := umbradtest.Launch(t, "--store="+redis.URL, "--store-wait=30s")
	waitFor(t, "umbrad to try again", func() bool { return strings.Contains(u.Log(), "store is not ready yet") })
	redis.Start()
	u.WaitReady()
	waitFor(t, "the log to tell of Redis' durability", func() bool {
		return strings.Contains(u.Log(), "redis.appendfsync=always")
	})
	post(t, u.URL()+"/things/lamp/shadow", `{"state":{"reported":{"on":true}}}`)
	redis.Kill()
	waitFor(t, "the log to say that the store is gone", func() bool { return strings.Contains(u.Log(), "store does not answer") })
	redis.Start()
	waitFor(t, "the log to say that the store is back", func() bool { return strings.Contains(u.Log(), "store answers again") })
}

// TestRedisThatLoadsIsWaitedFor has the default of store-wait.
func TestRedisThatLoadsIsWaitedFor(t *testing.T) {
	t.Parallel()
	redis := storetest.Redis(t)
	_ = umbradtest.Run(t, "--version") // the program is there before Redis loads
	redis.Do(`EVAL "for i = 1, 20000 do redis.call('SET', i, i) end" 0`)
	redis.Kill()
	redis.StartSlowly()
	r := umbradtest.Run(t, "--mqtt=127.0.0.1:0", "--http=off", "--data="+t.TempDir(), "--store="+redis.URL, "--redis-load-wait=0s")
	if r.Code != 1 || !strings.Contains(r.Stderr, "LOADING") {
		t.Errorf("umbrad that does not wait = %+v, want exit code 1 and what Redis says", r)
	}
	redis.Kill()
	redis.StartSlowly()
	u := umbradtest.Launch(t, "--store="+redis.URL)
	u.WaitReady()
	if !strings.Contains(u.Log(), "store is not ready yet") {
		t.Errorf("log %s, want it to tell of the wait", u.Log())
	}
}

func get(t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func body(t *testing.T, url string) string {
	t.Helper()
	resp := get(t, url)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET %s = %s\n%s", url, resp.Status, data)
	}
	return string(data)
}

func post(t *testing.T, url, document string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		data, err := io.ReadAll(resp.Body)
		t.Fatalf("POST %s = %s %v\n%s", url, resp.Status, err, data)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// TestNodes runs two nodes from one data directory: each has a name of its own, and keeps it over a crash.
func TestNodes(t *testing.T) {
	t.Parallel()
	redis := storetest.Redis(t)
	dir := t.TempDir()
	start := func() *umbradtest.Umbrad { return umbradtest.Start(t, "--data="+dir, "--store="+redis.URL) }
	name := func(u *umbradtest.Umbrad) (name string) {
		waitFor(t, "the log to name the node", func() bool {
			m := regexp.MustCompile(`node=(\S+)`).FindStringSubmatch(u.Log())
			if m != nil {
				name = m[1]
			}
			return m != nil
		})
		return name
	}
	a, b := start(), start()
	first, second := name(a), name(b)
	if first == second {
		t.Errorf("both nodes are named %s", first)
	}
	a.Kill()
	a.Restart()
	if got := name(a); got != first {
		t.Errorf("name of the first node after kill -9 = %s, want %s", got, first)
	}
	post(t, a.URL()+"/things/lamp/shadow", `{"state":{"reported":{"on":true}}}`)
	if got := body(t, b.URL()+"/things/lamp/shadow"); !strings.Contains(got, `"on":true`) {
		t.Errorf("shadow through the other node = %s", got)
	}
}
