package client

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// tracer writes every exchange to out, without what proves who somebody is: ">" marks what is sent, "<" what comes
// back. Bodies of event streams are left out, since they do not end.
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
	t.print(&text)

	resp, err := t.next.RoundTrip(req)
	if err != nil {
		writeBody(&text, "<", strings.NewReader(err.Error()))
		t.print(&text)
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
	t.print(&text)
	return resp, nil
}

// Secrets of URLs, which are in headers and pages too when a server sends a client elsewhere.
var (
	secretParameter = regexp.MustCompile(`(?i)\b(X-Amz-Signature|X-Amz-Security-Token|access_token)=[^&#\s"'<>]*`)
	secretUserInfo  = regexp.MustCompile(`(://[^/?#\s:@]*):[^/?#\s@]*@`)
)

// print writes a text and empties it.
func (t *tracer) print(text *strings.Builder) {
	safe := secretParameter.ReplaceAllString(text.String(), "$1=[hidden]")
	safe = secretUserInfo.ReplaceAllString(safe, "$1:[hidden]@")
	fmt.Fprint(t.out, safe)
	text.Reset()
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
