package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/shadow"
)

// class returns AWS's name for the errors with an HTTP status.
func class(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "InvalidRequestException"
	case http.StatusUnauthorized:
		return "UnauthorizedException"
	case http.StatusForbidden:
		return "ForbiddenException"
	case http.StatusNotFound:
		return "ResourceNotFoundException"
	case http.StatusMethodNotAllowed:
		return "MethodNotAllowedException"
	case http.StatusConflict:
		return "ConflictException"
	case http.StatusPreconditionFailed:
		return "PreconditionFailedException" // not one of AWS, which has no preconditions
	case http.StatusRequestEntityTooLarge:
		return "RequestEntityTooLargeException"
	case http.StatusUnsupportedMediaType:
		return "UnsupportedDocumentEncodingException"
	case http.StatusMisdirectedRequest:
		return "MisdirectedRequestException" // not one of AWS either
	case http.StatusTooManyRequests:
		return "ThrottlingException"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailableException"
	default:
		return "InternalFailureException"
	}
}

// refusal is an error whose text is for the client.
func refusal(status int, format string, args ...any) error {
	return &shadow.Error{Code: status, Message: fmt.Sprintf(format, args...)}
}

var (
	errTooLarge  = &shadow.Error{Code: http.StatusRequestEntityTooLarge, Message: "The payload exceeds the maximum size allowed"}
	errForbidden = &shadow.Error{Code: http.StatusForbidden, Message: "Forbidden"}
	errInternal  = &shadow.Error{Code: http.StatusInternalServerError, Message: "Internal service failure"}
)

// explain returns what the client is told of err.
func explain(err error) *shadow.Error {
	if refused, ok := errors.AsType[*shadow.Error](err); ok {
		return refused
	}
	if errors.Is(err, broker.ErrTopic) {
		return &shadow.Error{Code: http.StatusBadRequest, Message: "Topic is reserved or not known"}
	}
	return errInternal
}

// writeError answers with an error, and logs what the client is not told.
func (a *api) writeError(w http.ResponseWriter, r *http.Request, err error) {
	told := explain(err)
	switch {
	case told != errInternal: // the answer says it all
	case errors.Is(err, context.Canceled):
		a.Log.DebugContext(r.Context(), "http client gone", "path", r.URL.EscapedPath(), "trace_id", traceID(r))
	default:
		a.Log.ErrorContext(r.Context(), "http request failed", "path", r.URL.EscapedPath(), "trace_id", traceID(r), "error", err)
	}
	h := w.Header()
	h.Del("ETag")
	h.Set("x-amzn-ErrorType", class(told.Code)+":")
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		writeJSON(w, told.Code, "application/problem+json", problem{
			Type: "about:blank", Title: http.StatusText(told.Code), Status: told.Code,
			Detail: told.Message, Code: class(told.Code), TraceID: traceID(r),
		})
		return
	}
	writeJSON(w, told.Code, contentJSON, awsError{Message: told.Message, TraceID: traceID(r)})
}

// awsError is the body of an error of the AWS data plane.
type awsError struct {
	Message string `json:"message"`
	TraceID string `json:"traceId"`
}

// problem is the body of an error of the native API [RFC 9457].
type problem struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail"`
	Code    string `json:"code"`
	TraceID string `json:"traceId"`
}

const contentJSON = "application/json"

// writeJSON answers with v as JSON.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := encode(v)
	if err != nil {
		panic(err) // only structs of this package come here
	}
	writeBody(w, status, contentType, body)
}

// encode is [json.Marshal] without the escapes for HTML, which would change the text of documents.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), err
}

// writeBody answers with a body. A client that does not take it is gone, and nobody is left to tell.
func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
