// Package umbradtest runs the real umbrad in tests: the binary of this source
// tree, as a process of its own, on loopback ports that the system chooses.
//
//	u := umbradtest.Start(t, "--store", "memory:")
//	conn, err := net.Dial("tcp", u.MQTT())
//	u.Kill()    // as a power cut would
//	u.Restart() // same ports, same data
//
// When the test ends the process is stopped, and it is an error if it does not
// exit cleanly. The log of a failed test's process is printed.
package umbradtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	readyTimeout = 60 * time.Second // from start to the ready line
	stopTimeout  = 20 * time.Second // from SIGTERM to the end of the process; umbrad promises 10 s
)

// Umbrad is a umbrad process. Its methods are for the goroutine of the test.
type Umbrad struct {
	tb     testing.TB
	binary string
	args   []string
	env    []string
	files  int // that it may have open, 0 for as many as the test

	proc  *process
	ready Ready
}

// Ready is what the ready line says.
type Ready struct {
	MQTT  string // host:port, or "off"
	HTTP  string // host:port, or "off"
	Store string // kind and place of the store

	More map[string]string // addresses of further listeners by their kind: "mqtts", "https"
}

var readyLine = regexp.MustCompile(`^umbrad ready mqtt=(\S+) http=(\S+) store=(.+?)((?: (?:mqtts?|wss?|https?)=\S+)*)$`)

// Start runs umbrad with args and waits until it is ready. Unless args say otherwise it listens on
// 127.0.0.1:0 and keeps its data in a temporary directory of the test. Elements of args that look like
// NAME=value with a NAME in capitals are environment variables.
func Start(tb testing.TB, args ...string) *Umbrad {
	tb.Helper()
	u := Launch(tb, args...)
	u.WaitReady()
	return u
}

// StartWithFiles is Start of a umbrad that may have only so many files open.
func StartWithFiles(tb testing.TB, files int, args ...string) *Umbrad {
	tb.Helper()
	u := prepare(tb, Binary(tb), args)
	u.files = files
	u.launch()
	u.WaitReady()
	return u
}

// StartTorture is Start of a umbrad that was built with the tag torture: the disk of its Pebble store does what the
// file in its environment variable TORTURE_DISK says, see package faultfs.
func StartTorture(tb testing.TB, args ...string) *Umbrad {
	tb.Helper()
	u := launchBinary(tb, built(tb, buildTorture), args)
	u.WaitReady()
	return u
}

// Launch is Start without the wait: call WaitReady before anything that needs an address.
func Launch(tb testing.TB, args ...string) *Umbrad {
	tb.Helper()
	return launchBinary(tb, Binary(tb), args)
}

func launchBinary(tb testing.TB, binary string, args []string) *Umbrad {
	tb.Helper()
	u := prepare(tb, binary, args)
	u.launch()
	return u
}

// prepare returns a umbrad that does not run yet.
func prepare(tb testing.TB, binary string, args []string) *Umbrad {
	tb.Helper()
	u := &Umbrad{tb: tb, binary: binary, args: []string{"--mqtt=127.0.0.1:0", "--http=127.0.0.1:0", "--data=" + tb.TempDir()}}
	for _, a := range args {
		if envVar.MatchString(a) {
			u.env = append(u.env, a)
		} else {
			u.args = append(u.args, a)
		}
	}
	tb.Cleanup(u.cleanup)
	return u
}

var envVar = regexp.MustCompile(`^[A-Z][A-Z0-9_]*=`)

// Ready returns the content of the ready line.
func (u *Umbrad) Ready() Ready { return u.ready }

// MQTT returns the address of the MQTT listener.
func (u *Umbrad) MQTT() string { return u.ready.MQTT }

// HTTP returns the address of the HTTP listener.
func (u *Umbrad) HTTP() string { return u.ready.HTTP }

// Addr returns the address of a further listener of a kind, such as "mqtts".
func (u *Umbrad) Addr(kind string) string {
	u.tb.Helper()
	addr, ok := u.ready.More[kind]
	if !ok {
		u.tb.Fatalf("umbrad does not listen for %s", kind)
	}
	return addr
}

// URL returns the base URL of the HTTP listener, without a slash at its end.
func (u *Umbrad) URL() string { return "http://" + u.ready.HTTP }

// PID returns the process id.
func (u *Umbrad) PID() int { return u.proc.cmd.Process.Pid }

// Stdout returns what the process has written to its standard output.
func (u *Umbrad) Stdout() string { return u.proc.stdout.String() }

// Log returns what the process has logged, as far as it has come here: the last lines before the ready line may
// follow a little after Start.
func (u *Umbrad) Log() string { return u.proc.stderr.String() }

// Signal sends sig to the process.
func (u *Umbrad) Signal(sig os.Signal) {
	u.tb.Helper()
	if err := u.proc.cmd.Process.Signal(sig); err != nil {
		u.tb.Fatalf("umbrad: signal %v: %v", sig, err)
	}
}

// Kill ends the process at once (SIGKILL) and waits for it.
func (u *Umbrad) Kill() {
	u.tb.Helper()
	u.Signal(syscall.SIGKILL)
	u.Wait()
}

// Stop ends the process with SIGTERM and fails the test unless it exits with 0 in time.
func (u *Umbrad) Stop() {
	u.tb.Helper()
	u.Signal(syscall.SIGTERM)
	if code := u.Wait(); code != 0 {
		u.tb.Fatalf("umbrad: exit code %d after SIGTERM\n%s", code, u.Log())
	}
}

// Wait waits for the end of the process and returns its exit code, -1 when a signal ended it.
func (u *Umbrad) Wait() int {
	u.tb.Helper()
	code, err := u.proc.wait(stopTimeout)
	if err != nil {
		u.tb.Fatalf("umbrad: %v\n%s", err, u.Log())
	}
	return code
}

// Restart starts a process that has ended again, with the same arguments and data, on the same ports.
func (u *Umbrad) Restart() {
	u.tb.Helper()
	u.Relaunch()
	u.WaitReady()
}

// Relaunch is Restart without the wait.
func (u *Umbrad) Relaunch() {
	u.tb.Helper()
	u.Wait()
	ports := []string{"--mqtt=" + u.ready.MQTT, "--http=" + u.ready.HTTP}
	for _, kind := range []string{"mqtts", "https"} {
		if addr, ok := u.ready.More[kind]; ok {
			ports = append(ports, "--"+kind+"="+addr)
		}
	}
	u.launch(ports...)
}

func (u *Umbrad) launch(more ...string) {
	u.tb.Helper()
	path, args := u.binary, append(slices.Clone(u.args), more...)
	if u.files > 0 {
		path, args = "/bin/sh", append([]string{"-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(u.files), u.binary}, args...)
	}
	p, err := startProcess(path, args, u.env)
	if err != nil {
		u.tb.Fatalf("umbrad: %v", err)
	}
	u.proc = p
}

// WaitReady waits until the process is ready.
func (u *Umbrad) WaitReady() {
	u.tb.Helper()
	p := u.proc
	line, err := p.firstLine(readyTimeout)
	if err != nil {
		p.kill()
		u.tb.Fatalf("umbrad %s: not ready: %v\n%s", strings.Join(u.args, " "), err, u.Log())
	}
	m := readyLine.FindStringSubmatch(line)
	if m == nil {
		p.kill()
		u.tb.Fatalf("umbrad: ready line = %q", line)
	}
	u.ready = Ready{MQTT: m[1], HTTP: m[2], Store: m[3], More: map[string]string{}}
	for field := range strings.FieldsSeq(m[4]) {
		kind, addr, _ := strings.Cut(field, "=")
		u.ready.More[kind] = addr
	}
}

func (u *Umbrad) cleanup() {
	if u.proc == nil {
		return
	}
	if u.proc.running() {
		u.Signal(syscall.SIGCONT) // a test may have left it stopped
		u.Stop()
	}
	if u.tb.Failed() {
		u.tb.Logf("log of umbrad %s:\n%s", strings.Join(u.args, " "), u.Log())
	}
}

// Result is the outcome of a umbrad that ran to its end.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs umbrad with exactly args (and environment variables, see [Start]) until it ends.
func Run(tb testing.TB, args ...string) Result {
	tb.Helper()
	var env, flags []string
	for _, a := range args {
		if envVar.MatchString(a) {
			env = append(env, a)
		} else {
			flags = append(flags, a)
		}
	}
	p, err := startProcess(Binary(tb), flags, env)
	if err != nil {
		tb.Fatalf("umbrad: %v", err)
	}
	code, err := p.wait(readyTimeout)
	if err != nil {
		p.kill()
		tb.Fatalf("umbrad %s: %v\n%s", strings.Join(flags, " "), err, p.stderr.String())
	}
	return Result{Code: code, Stdout: p.stdout.String(), Stderr: p.stderr.String()}
}

// process is a running program whose output is kept.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr output
	first          chan string   // the first line of stdout; closed at its end
	done           chan struct{} // closed when the process has ended
}

func startProcess(path string, args, env []string) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), first: make(chan string, 1), done: make(chan struct{})}
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), isSetting), env...)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.watch(out)
	return p, nil
}

// isSetting reports an environment variable of the developer that umbrad would obey.
func isSetting(v string) bool { return strings.HasPrefix(v, "UMBRA_") }

func (p *process) watch(out io.Reader) {
	r := bufio.NewReader(io.TeeReader(out, &p.stdout))
	if line, err := r.ReadString('\n'); err == nil {
		p.first <- strings.TrimSuffix(line, "\n")
	}
	close(p.first)
	_, _ = io.Copy(io.Discard, r) // ends with the process
	_ = p.cmd.Wait()              // the state is read from ProcessState
	close(p.done)
}

func (p *process) firstLine(timeout time.Duration) (string, error) {
	select {
	case line, ok := <-p.first:
		if !ok {
			code, err := p.wait(stopTimeout)
			return "", errors.Join(fmt.Errorf("ended with exit code %d", code), err)
		}
		return line, nil
	case <-time.After(timeout):
		return "", fmt.Errorf("nothing on stdout in %v", timeout)
	}
}

func (p *process) wait(timeout time.Duration) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(timeout):
		return 0, fmt.Errorf("still running after %v", timeout)
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// output is a buffer that is written by one goroutine and read by others.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
