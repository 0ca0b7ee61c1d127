package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/statestore"
)

// hostile is text that drives a terminal and begins a line of its own, as it stands in JSON.
const hostile = `a\u001b]0;x\u0007\nb\u009b2J\u007f\u202ec`

// shown is what is to be seen of it.
const shown = `a\x1b]0;x\a\nb\u009b2J\x7f\u202ec`

// What others have chosen is text in lists, whatever characters it has.
func TestTextOfOthersDrivesNoTerminal(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/v1/audit": `{"records":[{"time":"2026-01-01T00:00:00Z","principal":"user:x","action":"iot:Publish","resource":"` + hostile + `",
			"outcome":"denied","detail":"","clientId":"` + hostile + `"}]}`,
		"/v1/mapping-events": "event: message\ndata: " + `{"kind":"message","topic":"` + hostile + `","payload":"` + hostile + `","client":"` + hostile +
			`","rules":[{"mapping":"m","rule":"r","captures":{"x":"` + hostile + `"}}]}` + "\n\n",
		"/v1/mappings/orphans": `{"orphans":[{"topic":"` + hostile + `"}]}`,
	}
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/v1/mapping-events" {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		_, _ = io.WriteString(w, answers[r.URL.Path])
	}))
	t.Cleanup(fake.Close)
	s, stop, err := startServer(statestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	if code, _, stderr := runApp(t.Context(), s.URL, `{"`+hostile+`":"`+hostile+`","k":"`+hostile+`"}`, "set", "lamp", "--file", "-"); code != 0 {
		t.Fatal(stderr)
	}
	for _, test := range []struct{ server, line string }{
		{fake.URL, "audit"},
		{fake.URL, "audit -o wide"},
		{fake.URL, "mapping live"},
		{fake.URL, "mapping orphans"},
		{fake.URL, "mapping orphans -o name"},
		{s.URL, "get lamp -o wide"},
		{s.URL, "get lamp --path desired.k"},
		{s.URL, "watch lamp --from 1 -n 1"},
		{s.URL, "diff lamp"},
		{s.URL, "delta lamp"},
	} {
		_, stdout, stderr := runApp(t.Context(), test.server, "", strings.Fields(test.line)...)
		if strings.ContainsAny(strings.ReplaceAll(stdout, "\n", ""), "\x1b\a\u009b\x7f\u202e\n") || strings.Contains(stdout, "\nb") {
			t.Errorf("%s prints characters that drive a terminal: %q", test.line, stdout)
		}
		if !strings.Contains(stdout, `\u009b2J`) {
			t.Errorf("%s prints %q, %q; want %s in it", test.line, stdout, stderr, shown)
		}
	}
}

// What others have chosen is text in the exchange that -v shows: in headers, in bodies, and in what is no UTF-8.
func TestTextOfOthersDrivesNoTerminalVerbosely(t *testing.T) {
	t.Parallel()
	const raw = "a\x1b]0;x\a\u009b2J\x7f\u202eb\r> forged\x9b2J"
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Name", "c\u009b3J\u202ed\x9b3J")
		_, _ = io.WriteString(w, `{"things":[],"x":"`+raw+`"}`+"\n< y")
	}))
	t.Cleanup(fake.Close)
	_, _, stderr := runApp(t.Context(), fake.URL, "", "ls", "-v")
	if strings.ContainsAny(stderr, "\x1b\a\u009b\x7f\u202e\r") || !utf8.ValidString(stderr) {
		t.Errorf("-v prints characters that drive a terminal: %q", stderr)
	}
	for _, want := range []string{`< X-Name: c\u009b3J\u202ed`, `a\x1b]0;x\a\u009b2J\x7f\u202eb\r> forged`, "\n< < y\n", "\n< HTTP/1.1 200 OK\n"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("-v prints %q, want %q in it", stderr, want)
		}
	}
}
