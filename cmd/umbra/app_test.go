package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// runApp runs a command line in this process.
func runApp(ctx context.Context, server, stdin string, args ...string) (code int, stdout, stderr string) {
	var out, problems bytes.Buffer
	a := &app{
		stdin: strings.NewReader(stdin), stdout: &out, stderr: &problems, now: time.Now,
		getenv: func(key string) string { return map[string]string{"UMBRA_SERVER": server}[key] },
	}
	code = a.execute(ctx, args)
	return code, out.String(), problems.String()
}

// contested returns the URL of a server of which others change the shadow before an update gets there, so
// many times as the counter says.
func contested(t *testing.T) (direct, between string, others *int) {
	t.Helper()
	s, stop, err := startServer(statestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	others = new(int)
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/things/{thing}/shadow", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch && *others > 0 {
			*others--
			code, _, stderr := runApp(r.Context(), s.URL, "", "set", r.PathValue("thing"), fmt.Sprintf("other%d=1", *others))
			if code != 0 {
				t.Errorf("update by another: exit code %d, %s", code, stderr)
			}
		}
		proxy.ServeHTTP(w, r)
	})
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	return s.URL, front.URL, others
}

// TestUnsetConflict changes the shadow between unset's look and its write.
func TestUnsetConflict(t *testing.T) {
	t.Parallel()
	direct, between, others := contested(t)
	runApp(t.Context(), direct, "", "set", "lamp", "a=1", "b=1", "c=1")
	*others = 1
	code, _, stderr := runApp(t.Context(), between, "", "unset", "lamp", "a", "x")
	if want := "umbra: lamp: no such value: desired.x\n"; code != 0 || stderr != want {
		t.Errorf("unset: exit code %d, stderr %q; want 0, %q", code, stderr, want)
	}
	*others = 100
	if code, _, stderr = runApp(t.Context(), between, "", "unset", "lamp", "b"); code != exitConflict {
		t.Errorf("unset of a shadow that changes all the time: exit code %d, stderr %q; want 4", code, stderr)
	}
	*others = 1
	if code, _, stderr = runApp(t.Context(), between, "", "unset", "lamp", "b", "--if-version", "12"); code != exitConflict {
		t.Errorf("unset --if-version: exit code %d, stderr %q; want 4", code, stderr)
	}
	_, got, _ := runApp(t.Context(), direct, "", "get", "lamp", "-o", "template={{.state.desired.a}} {{.state.desired.b}} {{.state.desired.other0}}")
	if want := "<no value> 1 1\n"; got != want {
		t.Errorf("desired = %q, want %q", got, want)
	}
}

// TestWatchGaps checks from where a stream is asked for, and what is said of the versions that it lacks.
func TestWatchGaps(t *testing.T) {
	t.Parallel()
	const (
		update = "event: update\nid: %[1]d\ndata: {\"thing\":\"lamp\",\"version\":%[1]d,\"op\":\"update\",\"state\":{}}\n\n"
		reset  = "event: reset\nid: %d\ndata: {\"state\":{\"reported\":{\"on\":true}}}\n\n"
	)
	tests := []struct {
		args   []string
		events string
		after  string
		stdout string
		stderr string
	}{
		{args: []string{"--from", "0"}, events: fmt.Sprintf(update, 1), after: "0", stdout: "1 update\n"},
		{
			args: []string{"--from", "1"}, events: fmt.Sprintf(update, 8), after: "0", stdout: "8 update\n",
			stderr: "umbra: lamp: the history begins with version 8\n",
		},
		{
			args: []string{"--from", "5"}, events: fmt.Sprintf(reset, 10), after: "4", stdout: "10 reset\n",
			stderr: "umbra: lamp: changes up to version 10 were missed, the history no longer has all of them\n",
		},
		{
			args: []string{"--from", "99"}, events: fmt.Sprintf(reset, 10), after: "98", stdout: "10 reset\n",
			stderr: "umbra: lamp: the shadow is at version 10; going on from there, not from version 99\n",
		},
		{
			args: []string{"--path", "desired.on"}, events: fmt.Sprintf(update, 3) + fmt.Sprintf(reset, 9), stdout: "9 reset\n",
			stderr: "umbra: lamp: changes up to version 9 were missed, the history no longer has all of them\n",
		},
	}
	for _, tt := range tests {
		var after string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			after = r.Header.Get("Last-Event-ID")
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, tt.events)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		args := append([]string{"watch", "lamp", "-n", "1", "--timeout", "10s", "-o", "template={{.version}} {{.op}}"}, tt.args...)
		code, stdout, stderr := runApp(t.Context(), s.URL, "", args...)
		if code != 0 || after != tt.after || stdout != tt.stdout || stderr != tt.stderr {
			t.Errorf("%q: exit code %d, Last-Event-ID %q, stdout %q, stderr %q; want 0, %q, %q, %q",
				tt.args, code, after, stdout, stderr, tt.after, tt.stdout, tt.stderr)
		}
		s.Close()
	}
}

// TestWatchShortHistory watches a shadow from its first version on, of which the history has forgotten some.
func TestWatchShortHistory(t *testing.T) {
	t.Parallel()
	s, stop, err := startServer(statestore.Options{HistoryLimit: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	for range 5 {
		runApp(t.Context(), s.URL, "", "set", "lamp", "on=true")
	}
	for from, want := range map[string]string{"0": "3 4 5 ", "1": "3 4 5 ", "4": "4 5 "} {
		n := strconv.Itoa(strings.Count(want, " "))
		code, stdout, stderr := runApp(t.Context(), s.URL, "", "watch", "lamp", "--from", from, "-n", n, "--timeout", "10s", "-o", "jsonpath=$.version")
		if got := strings.ReplaceAll(stdout, "\n", " "); code != 0 || got != want {
			t.Errorf("--from %s: exit code %d, versions %q, stderr %q; want 0, %q", from, code, got, stderr, want)
		}
	}
}

// TestReplaceConflict changes the shadow between replace's look and its write, once or each time.
func TestReplaceConflict(t *testing.T) {
	t.Parallel()
	direct, between, others := contested(t)
	tests := []struct {
		thing  string
		exists bool
		others int
		args   []string
		code   int
		stderr string
	}{
		{thing: "quiet", exists: true},
		{thing: "once", exists: true, others: 1},
		{thing: "new", others: 1},
		{thing: "first", args: []string{"--if-version", "0"}},
		{thing: "often", exists: true, others: 100, code: exitConflict, stderr: "umbra: often: others kept changing it during 10 attempts\n"},
		{
			thing: "guarded", exists: true, others: 1, args: []string{"--if-version", "1"}, code: exitConflict,
			stderr: "umbra: guarded: Version conflict; somebody changed it; look with 'umbra get' and try again\n",
		},
	}
	for _, tt := range tests {
		if tt.exists {
			runApp(t.Context(), direct, "", "set", tt.thing, "a=1")
		}
		*others = tt.others
		args := append([]string{"replace", tt.thing, "-f", "-"}, tt.args...)
		code, _, stderr := runApp(t.Context(), between, `{"b":2}`, args...)
		if code != tt.code || stderr != tt.stderr {
			t.Errorf("%s: exit code %d, stderr %q; want %d, %q", tt.thing, code, stderr, tt.code, tt.stderr)
		}
		_, got, _ := runApp(t.Context(), direct, "", "get", tt.thing, "--path", "desired", "-o", "ndjson")
		if replaced := got == "{\"b\":2}\n"; replaced != (tt.code == 0) {
			t.Errorf("%s: desired is %s after exit code %d", tt.thing, got, code)
		}
	}
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestOutputThatCannotBeWritten: no command says that it is done when nobody can read what it said, whatever it says.
func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s, stop, err := startServer(statestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	ca := filepath.Join(t.TempDir(), "ca")
	for _, args := range [][]string{{"cert", "init", "--dir", ca}, {"cert", "issue", "lamp", "--dir", ca}, {"set", "lamp", "a=1"}} {
		if code, _, stderr := runApp(t.Context(), s.URL, "", args...); code != 0 {
			t.Fatalf("%q: %s", args, stderr)
		}
	}
	for _, args := range [][]string{
		{"cert", "revoke", "lamp", "--dir", ca},
		{"policy", "test", "--as", "user:a", "iot:Connect", "client/a"},
		{"get", "lamp"},
		{"help"},
	} {
		var problems bytes.Buffer
		a := &app{
			stdin: strings.NewReader(""), stdout: fullDisk{}, stderr: &problems, now: time.Now,
			getenv: func(key string) string { return map[string]string{"UMBRA_SERVER": s.URL}[key] },
		}
		if code := a.execute(t.Context(), args); code != exitOther || !strings.Contains(problems.String(), "no space left on device") {
			t.Errorf("%q: exit code %d, stderr %q; want 1 and why", args, code, problems.String())
		}
	}
}

// TestCompletionAsksNothing: a shell that completes a name hides what is asked, and would wait for the answer.
func TestCompletionAsksNothing(t *testing.T) {
	t.Parallel()
	var out, problems bytes.Buffer
	a := &app{
		stdin: strings.NewReader(""), stdout: &out, stderr: &problems, stdinTerminal: true, now: time.Now,
		getenv: func(string) string { return "" },
	}
	a.execute(t.Context(), []string{"__complete", "--server", "http://127.0.0.1:1", "--user", "alice", "get", ""})
	if strings.Contains(problems.String(), "Password") {
		t.Errorf("completion says %q", problems.String())
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	s, stop, err := startServer(statestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	for _, args := range [][]string{
		{"ls"}, {"watch"}, {"wait", "lamp", "--for", "exists"}, {"delta", "lamp", "--exit-code"}, {"delete", "a", "b", "--yes"},
	} {
		for want, cause := range map[int]error{130: errInterrupted, 143: errTerminated} {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(cause)
			if code, stdout, stderr := runApp(ctx, s.URL, "", args...); code != want || stdout != "" || stderr != "" {
				t.Errorf("%q: exit code %d, stdout %q, stderr %q; want %d in silence", args, code, stdout, stderr, want)
			}
		}
	}
}

// TestExitCodes maps what a server may answer to exit codes.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]int{
		400: exitInvalid, 401: exitForbidden, 403: exitForbidden, 404: exitNotFound, 405: exitOther, 409: exitConflict,
		412: exitConflict, 413: exitInvalid, 415: exitInvalid, 429: exitOther, 500: exitOther, 502: exitUnreachable,
		503: exitUnreachable, 504: exitUnreachable,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, `{"detail":"no\u001b[2J\nway","traceId":"t1"}`)
		}))
		code, _, stderr := runApp(t.Context(), s.URL, "", "set", "lamp", "a=1")
		if code != want || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "\x1b") {
			t.Errorf("status %d: exit code %d, stderr %q; want %d and one harmless line", status, code, stderr, want)
		}
		if code, _, _ = runApp(t.Context(), s.URL, "", "diff", "lamp"); code < 2 {
			t.Errorf("status %d: diff exits with %d, want 2 or more", status, code)
		}
		s.Close()
	}
}

// TestThingOfAFileStays: where nobody has changed anything it is no use to look again.
func TestThingOfAFileStays(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"detail":"The thing is not in the store: its origin is file"}`)
	}))
	t.Cleanup(s.Close)
	code, _, stderr := runApp(t.Context(), s.URL, "", "thing", "rm", "pump")
	if want := "umbra: The thing is not in the store: its origin is file\n"; code != exitConflict || stderr != want {
		t.Errorf("exit code %d, stderr %q; want 4, %q", code, stderr, want)
	}
}

// TestAdviceOnTLS: what is wrong with certificates is not for another server.
func TestAdviceOnTLS(t *testing.T) {
	t.Parallel()
	open := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(open.Close)
	closed := httptest.NewUnstartedServer(http.NotFoundHandler())
	closed.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12} // it refuses within the handshake
	for _, s := range []*httptest.Server{open, closed} {
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	}
	closed.StartTLS()
	t.Cleanup(closed.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: closed.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--server", open.URL}, exitUnreachable, "unknown authority; --ca names a file with the authorities of the server\n"},
		{[]string{"--server", closed.URL, "--ca", ca}, exitUnreachable, "remote error: tls: handshake failure\n"},
		{[]string{"--server", open.URL, "--cert", ca}, exitUsage, "umbra: a client certificate needs its key, and a key its certificate\n"},
		{[]string{"--server", open.URL, "--ca", ca + "x"}, exitUsage, "no such file or directory\n"},
	} {
		code, _, stderr := runApp(t.Context(), "", "", append([]string{"get", "lamp"}, tt.args...)...)
		if code != tt.code || !strings.HasSuffix(stderr, tt.want) {
			t.Errorf("%q: exit code %d, stderr %q; want %d, %q", tt.args, code, stderr, tt.code, tt.want)
		}
	}
}

// TestServerTalksNonsense gives answers that are not Umbra's.
func TestServerTalksNonsense(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "<html>", "[]", `"x"`, `{"version":"x","state":[],"timestamp":{}}`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		for _, args := range [][]string{
			{"get", "lamp"},
			{"get", "lamp", "-o", "yaml"},
			{"delta", "lamp"},
			{"diff", "lamp"},
			{"ls"},
			{"watch"},
			{"set", "lamp", "a=1"},
			{"replace", "lamp", "-f", "-"},
			{"wait", "lamp", "--for", "in-sync", "--timeout", "0"},
		} {
			runApp(t.Context(), s.URL, "{}", args...) // it must not panic
		}
		if code, _, stderr := runApp(t.Context(), s.URL, "", "get", "lamp", "-o", "yaml"); body[:min(1, len(body))] != "{" && code == 0 {
			t.Errorf("answer %q: exit code %d, stderr %q; want an error", body, code, stderr)
		}
		s.Close()
	}
}
