package client

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// tracer writes every exchange to out: ">" marks what is sent, "<" what comes back.
// Bodies of event streams are left out, since they do not end.
type tracer struct {
	next http.RoundTripper
	out  io.Writer
}

// RoundTrip is [http.RoundTripper].
func (t *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "> %s %s\n", req.Method, req.URL.Redacted())
	writeHeader(&text, ">", req.Header)
	if hasSecretBody(req.Context()) {
		writeBody(&text, ">", hidden())
	} else if req.GetBody != nil {
		if body, err := req.GetBody(); err == nil {
			writeBody(&text, ">", body)
		}
	}
	fmt.Fprint(t.out, text.String())

	resp, err := t.next.RoundTrip(req)
	text.Reset()
	if err != nil {
		fmt.Fprintf(t.out, "< %v\n", err)
		return nil, err
	}
	fmt.Fprintf(&text, "< %s %s\n", resp.Proto, resp.Status)
	writeHeader(&text, "<", resp.Header)
	if !isEventStream(resp) {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if hasSecretBody(req.Context()) {
			body = []byte("[hidden]")
		}
		writeBody(&text, "<", bytes.NewReader(body))
	}
	fmt.Fprint(t.out, text.String())
	return resp, nil
}

func writeHeader(w io.Writer, mark string, header http.Header) {
	for _, key := range slices.Sorted(maps.Keys(header)) {
		value := strings.Join(header[key], ", ")
		switch key {
		case "Authorization", "Cookie", "Set-Cookie", "Proxy-Authorization", "X-Amz-Security-Token":
			value = "[hidden]"
		}
		fmt.Fprintf(w, "%s %s: %s\n", mark, key, value)
	}
}

func writeBody(w io.Writer, mark string, body io.Reader) {
	text, err := io.ReadAll(body)
	if err != nil || len(text) == 0 {
		return
	}
	for line := range strings.Lines(string(text)) {
		fmt.Fprintf(w, "%s %s\n", mark, strings.TrimSuffix(line, "\n"))
	}
}
