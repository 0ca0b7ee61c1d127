package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

// interruptGrace is how long an interrupted command has to end by itself.
const interruptGrace = 500 * time.Millisecond

func main() {
	os.Exit(run())
}

// run is main with the exit code as its result, so that deferred calls run.
func run() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			cancel(signalError(s))
		}
		select { // a read from a terminal or a pipe does not know the context
		case <-signals:
		case <-time.After(interruptGrace):
		}
		os.Exit(exitCode(ctx, context.Cause(ctx)))
	}()
	a := &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		stdinTerminal: term.IsTerminal(int(os.Stdin.Fd())), stdoutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		getenv: os.Getenv, now: time.Now,
	}
	return a.execute(ctx, os.Args[1:])
}

func signalError(s os.Signal) error {
	if s == syscall.SIGTERM {
		return errTerminated
	}
	return errInterrupted
}

// app is the program without its process: where it reads, writes and looks things up, and the
// flags that all commands share.
type app struct {
	stdin                         io.Reader
	stdout, stderr                io.Writer
	stdinTerminal, stdoutTerminal bool
	getenv                        func(string) string
	now                           func() time.Time

	server, context string
	who             who
	requestTimeout  time.Duration
	colourMode      string
	utc, verbose    bool

	colour     bool // decided from colourMode, the terminal and NO_COLOR
	jsonErrors bool // the command was asked for JSON
	started    bool // the command line was understood
}

// execute runs one command line and returns its exit code.
func (a *app) execute(ctx context.Context, args []string) int {
	out := &output{w: a.stdout}
	a.stdout = out
	root := newRoot(a) //nolint:contextcheck // commands get the context from cobra
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if out.err != nil && (err == nil || errors.Is(err, errDiffers)) {
		err = out.err
	}
	if err == nil {
		return 0
	}
	if !a.started {
		err = &exitError{code: exitUsage, err: err}
	}
	code := exitCode(ctx, err)
	if !errors.Is(err, errDiffers) && ctx.Err() == nil {
		report(a.stderr, err, code, a.jsonErrors)
	}
	return code
}

// output is stdout with its first error, which execute reports: so a command looks at what Write returns only where
// it would go on.
type output struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// location is the time zone of what is shown.
func (a *app) location() *time.Location {
	if a.utc {
		return time.UTC
	}
	return time.Local
}
