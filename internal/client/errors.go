package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Error is an answer of the server that says no.
type Error struct {
	Status  int    // HTTP status
	Message string // what the server says
	TraceID string // finds the request in the server's log, "" when the answer has none
}

// Error returns the message, or the words for the status when there is none.
func (e *Error) Error() string {
	return cmp.Or(e.Message, strings.ToLower(http.StatusText(e.Status)), fmt.Sprintf("HTTP status %d", e.Status))
}

// UnreachableError says that no complete answer came.
type UnreachableError struct {
	Server string // base URL without password
	Err    error
}

// Error says whether the server was silent or could not be reached.
func (e *UnreachableError) Error() string {
	if e.Timeout() {
		return e.Server + " does not answer in time"
	}
	return fmt.Sprintf("cannot reach %s: %v", e.Server, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Timeout reports whether time ran out.
func (e *UnreachableError) Timeout() bool {
	netErr, ok := errors.AsType[net.Error](e.Err)
	return ok && netErr.Timeout()
}

// readError understands problem+json (RFC 9457) and the AWS form.
func readError(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return e // the status says enough
	}
	var problem struct {
		Title   string `json:"title"`
		Detail  string `json:"detail"`
		Message string `json:"message"`
		TraceID string `json:"traceId"`
	}
	if json.Unmarshal(body, &problem) == nil {
		e.Message = cmp.Or(problem.Detail, problem.Message, problem.Title)
		e.TraceID = problem.TraceID
	}
	return e
}
