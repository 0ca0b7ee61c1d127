package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/internal/rest"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/things"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"umbra": main}) // for exec
}

// TestScripts runs the program as a user does. Each script has a server of its own, which is empty at first.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			s, stop, err := startServer(statestore.Options{})
			if err != nil {
				return err
			}
			e.Defer(stop)
			e.Values["server"] = s
			e.Setenv("UMBRA_SERVER", s.URL)
			e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/config")
			e.Setenv("TZ", "UTC")
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each program of a test with -race takes a second to end
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"run":     runHere,
			"exits":   exits,
			"streams": streams,
			"things":  makeThings,
		},
	})
}

// server is the real HTTP API on a memory store.
type server struct {
	*httptest.Server
	streams atomic.Int64 // event streams that are open
}

// startServer starts a server, which stop ends.
func startServer(o statestore.Options) (s *server, stop func(), err error) {
	feed := rest.NewFeed()
	service := things.New(things.Options{Store: memstore.New(o), Publisher: feed})
	if err := service.Start(context.Background()); err != nil {
		return nil, nil, err
	}
	engine, err := authz.New(authz.Options{})
	if err != nil {
		return nil, nil, err
	}
	configured := objects.New(objects.Options{Objects: memstore.New(o)})
	if err := engine.Follow(context.Background(), configured); err != nil {
		return nil, nil, err
	}
	api := rest.New(rest.Options{Things: service, Feed: feed, Engine: engine, Objects: configured, KeepAlive: 50 * time.Millisecond})
	s = &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/events") {
			w = &streamWriter{ResponseWriter: w, open: &s.streams}
			defer func() {
				if w.(*streamWriter).begun {
					s.streams.Add(-1)
				}
			}()
		}
		api.ServeHTTP(w, r)
	}))
	return s, func() {
		feed.Close()
		s.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = service.Close(ctx) // what the scripts saw is what counts
	}, nil
}

// streamWriter counts a stream as open from its first byte on.
type streamWriter struct {
	http.ResponseWriter

	open  *atomic.Int64
	begun bool
}

func (w *streamWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	if !w.begun {
		w.begun = true
		w.open.Add(1)
	}
	return n, err
}

func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// runHere is "run umbra ARGS...": the program must end with exit code 0. It runs in this process, which is
// much faster than "exec umbra", but reads no stdin and finds no files of the script.
func runHere(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || args[0] != "umbra" {
		ts.Fatalf("usage: run umbra ARGS...")
	}
	expect(ts, 0, args[1:])
}

// exits is "exits CODE umbra ARGS..." or "exits CODE exec PROGRAM ARGS...": it must end with this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE umbra|exec ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	switch args[1] {
	case "umbra":
		expect(ts, want, args[2:])
	case "exec":
		got := 0
		if err := ts.Exec(args[2], args[3:]...); err != nil {
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok {
				ts.Fatalf("%s: %v", args[2], err)
			}
			got = exit.ExitCode()
		}
		if got != want {
			ts.Fatalf("exit code %d, want %d", got, want)
		}
	default:
		ts.Fatalf("usage: exits CODE umbra|exec ARGS...")
	}
}

func expect(ts *testscript.TestScript, want int, args []string) {
	a := &app{
		stdin: strings.NewReader(""), stdout: ts.Stdout(), stderr: ts.Stderr(), getenv: ts.Getenv, now: time.Now,
	}
	if got := a.execute(context.Background(), args); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// streams is "streams N": wait until N event streams are open.
func streams(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	s := ts.Value("server").(*server)
	for deadline := time.Now().Add(10 * time.Second); s.streams.Load() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%d event streams are open, want %d", s.streams.Load(), want)
		}
	}
}

// makeThings is "things PREFIX N": make N things with a classic shadow, PREFIX0001 and so on.
func makeThings(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	s := ts.Value("server").(*server)
	for i := range n {
		name := args[0] + strconv.Itoa(10000 + i + 1)[1:]
		body := strings.NewReader(`{"state":{"desired":{"n":` + strconv.Itoa(i) + `}}}`)
		resp, err := http.Post(s.URL+"/things/"+name+"/shadow", "application/json", body)
		ts.Check(err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			ts.Fatalf("make %s: status %s", name, resp.Status)
		}
	}
}
