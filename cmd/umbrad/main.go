// Command umbrad serves device shadows: an MQTT server and an HTTP API over one
// store.
//
//	umbrad [--config FILE] [--mqtt 127.0.0.1:1883] [--http 127.0.0.1:8080] [--data ./umbra-data] [--store URL] …
//
// When everything listens it prints one line to its standard output,
//
//	umbrad ready mqtt=127.0.0.1:1883 http=127.0.0.1:8080 store=pebble:./umbra-data
//
// and nothing else; logs go to the standard error. Metrics are at /metrics of the
// HTTP address, the health of the server at /livez and /readyz. SIGTERM and SIGINT
// end it within 10 seconds, a second one at once. So does SIGHUP, unless there are
// files of TLS, users, policies or mappings, or keys for JWT: then it has them read again. Package
// [github.com/umbra-iot/umbra/internal/config] describes the settings.
//
// The exit code is 0 after a signal, 2 when the settings are wrong, else 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/umbra-iot/umbra/internal/config"
	"github.com/umbra-iot/umbra/internal/mappings"
	"github.com/umbra-iot/umbra/internal/version"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go obeySignals(signals, cancel)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr, signals)
	if err == nil {
		return
	}
	if errors.Is(err, errSettings) {
		fmt.Fprintln(os.Stderr, "umbrad:", err)
		os.Exit(2)
	}
	die(err)
}

// die ends the process at once, as a crash would: nothing is acknowledged or sent any more.
func die(err error) {
	fmt.Fprintln(os.Stderr, "umbrad:", err)
	os.Exit(1)
}

// oneSignal is how long after the first signal another one counts as the same: a terminal signals the whole process
// group, and a parent that is in it often does so too.
const oneSignal = 500 * time.Millisecond

// obeySignals cancels at the first signal, and ends the process at the second one.
func obeySignals(signals <-chan os.Signal, cancel func()) {
	<-signals
	cancel()
	for first := time.Now(); time.Since(first) < oneSignal; {
		<-signals
	}
	fmt.Fprintln(os.Stderr, "umbrad: second signal, ending at once")
	os.Exit(1)
}

// errSettings is in the errors of a command line that cannot be used.
var errSettings = errors.New("see umbrad --help")

// run is the program. SIGHUP goes to signals, unless the settings give it something else to do.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, signals chan<- os.Signal) error {
	cmd, err := config.Load(args, os.LookupEnv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return config.Usage(stdout)
	case err != nil:
		return fmt.Errorf("%w\n%w", err, errSettings)
	case cmd.Version:
		_, err = fmt.Fprintln(stdout, "umbrad", version.Get())
		return err
	}
	if err := checkStore(cmd.Store); err != nil {
		return fmt.Errorf("store: %w\n%w", err, errSettings)
	}
	weak := cmd.Warnings()
	found, err := checkFiles(&cmd.Config)
	if err != nil {
		return fmt.Errorf("%w\n%w", err, errSettings)
	}
	weak = append(weak, found...)
	if _, err := mappings.Open(cmd.Mappings, slog.New(slog.DiscardHandler)); err != nil {
		return fmt.Errorf("%w\n%w", err, errSettings)
	}
	if found, err = checkPolicies(&cmd.Config); err != nil {
		return fmt.Errorf("%w\n%w", err, errSettings)
	}
	weak = append(weak, found...)
	unknown := config.UnknownEnv(os.Environ())
	if cmd.Check {
		if _, err := os.Stat(cmd.Users); cmd.Users != "" && errors.Is(err, fs.ErrNotExist) { // a start goes on, and follows it
			weak = append(weak, fmt.Sprintf("users: %s is not there, and counts as empty until it is", cmd.Users))
		}
		for _, name := range unknown {
			fmt.Fprintf(stderr, "umbrad: warning: %s is not a setting\n", name)
		}
		for _, w := range weak {
			fmt.Fprintln(stderr, "umbrad: warning:", w)
		}
		_, err = fmt.Fprintln(stdout, "umbrad: settings are valid")
		return err
	}
	if !usesFiles(&cmd.Config) && !signal.Ignored(syscall.SIGHUP) { // nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	log := newLogger(&cmd.Config, stderr)
	for _, name := range unknown {
		log.Warn("variable is not a setting", "name", name)
	}
	return serve(ctx, &cmd.Config, weak, log, stdout)
}

func newLogger(cfg *config.Config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
