package storetest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// redisStart bounds how long a redis-server may take until it answers.
const redisStart = 15 * time.Second

// RedisServer is a redis-server of a test: on a loopback port chosen at run
// time, with an append-only file in a temporary folder, so that Kill and Start
// are a crash and a restart.
type RedisServer struct {
	URL string // redis://127.0.0.1:PORT/0
	Dir string // its working directory

	tb     testing.TB
	addr   string
	config []string
	cmd    *exec.Cmd // nil when it does not run
	output *output
}

// Redis starts a redis-server and ends it with the test. Config is added to the
// server's command line ("--maxmemory", "1mb"). The default is appendonly yes and
// appendfsync always: with everysec, what was acknowledged in the last two
// seconds may not have left the process at a kill -9. Where redis-server is missing the test is
// skipped, but fails when the variable CI is set.
func Redis(tb testing.TB, config ...string) *RedisServer {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatalf("redis-server is needed when CI is set: %v", err)
		}
		tb.Skip("redis-server is not installed")
	}
	r := &RedisServer{Dir: tb.TempDir(), tb: tb, config: config, output: &output{}}
	tb.Cleanup(r.stop)
	// A port that was free may be taken by the time the server binds it.
	var err error
	for range 5 {
		if r.addr, err = freeAddr(); err != nil {
			tb.Fatalf("free port: %v", err)
		}
		if err = r.start(); err == nil {
			r.URL = "redis://" + r.addr + "/0"
			return r
		}
	}
	tb.Fatalf("redis-server: %v\n%s", err, r.output)
	return nil
}

// Kill ends the server with SIGKILL and waits for its end.
func (r *RedisServer) Kill() {
	r.tb.Helper()
	if r.cmd == nil {
		r.tb.Fatal("redis-server does not run")
	}
	r.stop()
}

// Start starts the server again, on the same port and data, and waits until it answers.
func (r *RedisServer) Start() {
	r.tb.Helper()
	if err := r.start(); err != nil {
		r.tb.Fatalf("redis-server: %v\n%s", err, r.output)
	}
}

// StartSlowly is Start for a server that takes its time to load its data, which it needs a few thousand keys for. It waits
// until the server answers that it is loading.
func (r *RedisServer) StartSlowly() {
	r.tb.Helper()
	isLoading := func(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "LOADING") }
	if err := r.run(isLoading, "--key-load-delay", "200"); err != nil {
		r.tb.Fatalf("redis-server: %v\n%s", err, r.output)
	}
}

// Pause stops the server with SIGSTOP: connections stay and nothing answers, as
// in a network partition.
func (r *RedisServer) Pause() { r.signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (r *RedisServer) Resume() { r.signal(syscall.SIGCONT) }

// Cut closes all connections of clients to the server, which goes on.
func (r *RedisServer) Cut() {
	r.tb.Helper()
	r.Do("CLIENT KILL TYPE normal SKIPME yes")
}

// Do sends one command line, such as "CONFIG SET maxmemory 1", and returns the
// reply without its type: the first line, or the whole of a bulk reply. An error
// reply fails the test.
func (r *RedisServer) Do(line string) string {
	r.tb.Helper()
	reply, err := r.do(line)
	if err != nil {
		r.tb.Fatalf("redis %s: %v", line, err)
	}
	return reply
}

func (r *RedisServer) do(line string) (string, error) {
	conn, err := net.DialTimeout("tcp", r.addr, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
		return "", err
	}
	in := bufio.NewReader(conn)
	reply, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	reply = strings.TrimSpace(reply)
	switch reply[0] {
	case '-':
		return "", errors.New(reply[1:])
	case '$':
		n, err := strconv.Atoi(reply[1:])
		if err != nil || n < 0 {
			return "", err
		}
		bulk := make([]byte, n)
		_, err = io.ReadFull(in, bulk)
		return string(bulk), err
	}
	return reply[1:], nil
}

// start runs the server until it answers PING. A server with a password or other settings of a test answers, too.
func (r *RedisServer) start() error {
	return r.run(func(err error) bool { return err == nil || strings.HasPrefix(err.Error(), "NOAUTH") })
}

// run runs the server, with more configuration, until its answer to PING, or the lack of one, is what it has to be.
func (r *RedisServer) run(isReady func(error) bool, config ...string) error {
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		return err
	}
	args := []string{"--bind", "127.0.0.1", "--port", port, "--dir", r.Dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always"}
	cmd := exec.Command("redis-server", slices.Concat(args, r.config, config)...)
	cmd.Stdout, cmd.Stderr = r.output, r.output
	if err := cmd.Start(); err != nil {
		return err
	}
	r.cmd = cmd
	for deadline := time.Now().Add(redisStart); ; time.Sleep(5 * time.Millisecond) {
		_, err := r.do("PING")
		if isReady(err) {
			break
		}
		if time.Now().After(deadline) {
			r.stop()
			return fmt.Errorf("does not answer: %w", err)
		}
	}
	// Another server may answer on a port that this one could not bind.
	if strings.Contains(r.output.String(), "Address already in use") {
		r.stop()
		return fmt.Errorf("port %s is taken", port)
	}
	return nil
}

// stop kills the server, also a paused one, and waits for its end.
func (r *RedisServer) stop() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	r.cmd = nil
}

func (r *RedisServer) signal(s os.Signal) {
	r.tb.Helper()
	if r.cmd == nil {
		r.tb.Fatal("redis-server does not run")
	}
	if err := r.cmd.Process.Signal(s); err != nil {
		r.tb.Fatalf("signal redis-server: %v", err)
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// output collects what a server prints.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
