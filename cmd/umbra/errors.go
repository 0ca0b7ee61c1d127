package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/client"
)

// Exit codes. They are part of the interface: scripts depend on them.
const (
	exitOther       = 1 // any other error; delta --exit-code and diff: there is a difference
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4 // version or condition
	exitInvalid     = 5 // or too large
	exitForbidden   = 6
	exitUnreachable = 7   // or timeout
	exitPartly      = 8   // some of several were done
	exitInterrupted = 130 // by SIGINT
	exitTerminated  = 143 // by SIGTERM
)

// exitError is an error with the exit code it leads to.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

var (
	// errDiffers makes the exit code 1 without a message: what differs has been printed.
	errDiffers = errors.New("differs")
	// errInterrupted and errTerminated are the causes of a context that a signal ended.
	errInterrupted error = &exitError{code: exitInterrupted, err: errors.New("interrupted")}
	errTerminated  error = &exitError{code: exitTerminated, err: errors.New("terminated")}
)

func failf(code int, format string, args ...any) error {
	return &exitError{code: code, err: fmt.Errorf(format, args...)}
}

func usagef(format string, args ...any) error { return failf(exitUsage, format, args...) }

// exitCode returns the exit code for an error of a command.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*exitError](context.Cause(ctx)); ok {
		return e.code // a signal, whatever it made of err
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return exitUnreachable
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return statusExitCode(e.Status)
	}
	return exitOther
}

func statusExitCode(status int) int {
	switch status {
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return exitConflict
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity:
		return exitInvalid
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitForbidden
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return exitUnreachable
	}
	return exitOther
}

// hint says what to do about an error, "" when its message does.
func hint(err error, code int) string {
	switch code {
	case exitUnreachable:
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
			return "--ca names a file with the authorities of the server"
		}
		if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" {
			return "" // of TLS: the server is there, and says what it wants
		}
		return "is umbrad running there? --server, UMBRA_SERVER or 'umbra context use' choose another one"
	case exitConflict:
		return "somebody changed it; look with 'umbra get' and try again"
	}
	return ""
}

// report writes err to w as one line, or as a JSON object when the command was asked for JSON. What is wrong with a file
// of mappings has a line each.
// The line names the request only when its cause is to be looked for in the server's log.
func report(w io.Writer, err error, code int, asJSON bool) {
	message, traceID := oneLine(err.Error()), ""
	refusal, refused := errors.AsType[*client.Error](err)
	if refused {
		traceID = refusal.TraceID
	}
	advice := ""
	if _, ours := errors.AsType[*exitError](err); !ours {
		advice = hint(err, code)
	}
	if asJSON {
		problem := map[string]any{"exitCode": code, "message": message}
		if refused {
			problem["status"] = refusal.Status
		}
		for key, value := range map[string]string{"traceId": traceID, "hint": advice} {
			if value != "" {
				problem[key] = value
			}
		}
		fmt.Fprintf(w, "%s\n", encodeJSON(map[string]any{"error": problem}))
		return
	}
	if _, ok := errors.AsType[mapping.LoadError](err); ok {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(w, "umbra: %s\n", oneLine(strings.TrimSuffix(line, "\n")))
		}
		return
	}
	if advice != "" {
		message += "; " + advice
	}
	if traceID != "" && refusal.Status >= http.StatusInternalServerError {
		message += " (request " + oneLine(traceID) + ")"
	}
	fmt.Fprintf(w, "umbra: %s\n", message)
}

// oneLine keeps the message of an error, whoever wrote it, from moving the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if moves(r) {
			return ' '
		}
		return r
	}, s)
}
