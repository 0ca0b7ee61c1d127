package rest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/rest"
	"github.com/umbra-iot/umbra/shadow"
)

const (
	invalid  = "InvalidRequestException"
	notFound = "ResourceNotFoundException"
)

func TestShadow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, path, message string }{
		{"classic", "/things/lamp/shadow", "No shadow exists with name: 'lamp'"},
		{"named", "/things/lamp/shadow?name=fw", "No shadow exists with name: 'lamp~fw'"},
		{"empty name", "/things/lamp/shadow?name=", "No shadow exists with name: 'lamp'"},
		{"colon", "/things/a%3Ab/shadow", "No shadow exists with name: 'a:b'"},
		{"raw colon", "/things/a:b/shadow?name=$x", "No shadow exists with name: 'a:b~$x'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.refused(404, notFound, c.message, "GET", c.path, "")
			s.refused(404, notFound, c.message, "DELETE", c.path, "")
			for version := 1; version <= 2; version++ {
				a := s.want(200, "POST", c.path, `{"state":{"desired":{"on":true}},"clientToken":"t"}`)
				var got struct {
					Version     int
					ClientToken string
				}
				if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Version != version || got.ClientToken != "t" {
					t.Errorf("update = %s, want version %d and token t", a.body, version)
				}
			}
			a := s.want(200, "GET", c.path, "")
			if ct := a.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("Content-Type = %q, want application/json", ct)
			}
			if !strings.Contains(a.body, `"delta":{"on":true}`) {
				t.Errorf("GET = %s, want a delta", a.body)
			}
			if a.header.Get("x-amzn-RequestId") == "" {
				t.Error("no x-amzn-RequestId")
			}
			if a.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Error("a browser may take the answer for another type")
			}
			a = s.want(200, "DELETE", c.path, "")
			if !strings.Contains(a.body, `"version":2`) {
				t.Errorf("DELETE = %s, want version 2", a.body)
			}
			s.refused(404, notFound, c.message, "GET", c.path, "")
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.update(shadow.ID{Thing: "lamp"}, `{}`)
	const lamp = "/things/lamp/shadow"
	long := strings.Repeat("n", 65)
	for _, c := range []struct {
		status                             int
		class, message, method, path, body string
	}{
		{400, invalid, "Missing required node: state", "POST", lamp, `{"x":1}`},
		{400, invalid, "", "POST", lamp, ``},
		{400, invalid, "", "POST", lamp, `{`},
		{400, invalid, "State node must be an object", "POST", lamp, `{"state":1}`},
		{400, invalid, "Invalid version", "POST", lamp, `{"state":{},"version":"x"}`},
		{409, "ConflictException", "Version conflict", "POST", lamp, `{"state":{},"version":7}`},
		{413, "RequestEntityTooLargeException", "The payload exceeds the maximum size allowed", "POST", lamp, `{"state":{"reported":{"a":"` + strings.Repeat("x", 8192) + `"}}}`},
		{413, "RequestEntityTooLargeException", "The payload exceeds the maximum size allowed", "POST", lamp, strings.Repeat(" ", 10<<20)},
		{415, "UnsupportedDocumentEncodingException", "Unsupported documented encoding; supported encoding is UTF-8", "POST", lamp, "{\"state\":{\"reported\":{\"a\":\"\xff\"}}}"},
		{400, invalid, "", "GET", "/things/a%2Fb/shadow", ""},
		{400, invalid, "", "POST", "/things/a%20b/shadow", `{"state":{}}`},
		{400, invalid, "", "GET", "/things/" + strings.Repeat("a", 129) + "/shadow", ""},
		{400, invalid, "", "POST", lamp + "?name=" + long, `{"state":{}}`},
		{400, invalid, "", "GET", lamp + "?name=a%2Fb", ""},
		{404, notFound, "", "GET", "/", ""},
		{404, notFound, "", "GET", "/things", ""},
		{404, notFound, "", "GET", "/things/lamp", ""},
		{404, notFound, "", "GET", "/things/lamp/shadow/", ""},
		{404, notFound, "", "GET", "/things//shadow", ""},
		{404, notFound, "", "GET", "/things/../shadow", ""},
		{404, notFound, "", "POST", "/topics/a//b", ""},
		{405, "MethodNotAllowedException", "", "PUT", lamp, `{"state":{}}`},
		{405, "MethodNotAllowedException", "", "GET", "/topics/a", ""},
		{405, "MethodNotAllowedException", "", "POST", "/retainedMessage/a", ""},
	} {
		s.refused(c.status, c.class, c.message, c.method, c.path, c.body)
	}
	if allow := s.do("PUT", lamp, "").header.Get("Allow"); allow != "DELETE, GET, HEAD, POST" {
		t.Errorf("Allow = %q, want DELETE, GET, HEAD, POST", allow)
	}
	if a := s.want(200, "GET", lamp, ""); !strings.Contains(a.body, `"version":1,`) {
		t.Errorf("after refusals GET = %s, want version 1", a.body)
	}
}

// TestAWSQuery checks that a query which says two things, or nothing that can be read, does nothing. Parameters that an
// operation does not know are ignored, as AWS does.
func TestAWSQuery(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.update(lamp, `{}`)
	const (
		path  = "/things/lamp/shadow"
		names = "/api/things/shadow/ListNamedShadowsForThing/lamp"
	)
	for _, query := range []string{"?name=a&name=b", "?name=&name=", "?name=a&x=1&name=a", "?name=%zz", "?name=a;b", "?name=%ff"} {
		s.refused(400, invalid, "", "GET", path+query, "")
		s.refused(400, invalid, "", "POST", path+query, `{"state":{"desired":{"on":true}}}`)
		s.refused(400, invalid, "", "DELETE", path+query, "")
	}
	for _, target := range []string{
		names + "?pageSize=1&pageSize=2", names + "?nextToken=&nextToken=", names + "?nextToken=c_8",
		"/retainedMessage?maxResults=1&maxResults=1", "/connections/c?includeSocketInformation=true&includeSocketInformation=false",
		"/connections/c/subscriptions?maxResults=1&maxResults=2",
	} {
		s.refused(400, invalid, "", "GET", target, "")
	}
	for _, query := range []string{"?qos=1&qos=0", "?retain=true&retain=false", "?contentType=%ff", "?responseTopic=a&responseTopic=b", "?messageExpiry=1&messageExpiry=2"} {
		s.refused(400, invalid, "", "POST", "/topics/a"+query, "x")
	}
	s.refused(400, invalid, "", "DELETE", "/connections/c?cleanSession=true&cleanSession=false", "")
	s.refused(400, invalid, "Query parameter 'name' is given more than once", "DELETE", path+"?name=a&name=b", "")
	if a := s.want(200, "GET", path, ""); !strings.Contains(a.body, `"version":1,`) {
		t.Errorf("after refusals GET = %s, want version 1", a.body)
	}
	s.want(200, "DELETE", path+"?x=1&x=2&name=", "")
}

// TestBodyWithoutLength sends a chunked body that is too large, and one that is not.
func TestBodyWithoutLength(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for size, want := range map[int]int{10: 200, 2 << 20: 413} {
		body := io.MultiReader(strings.NewReader(`{"state":{}}`), strings.NewReader(strings.Repeat(" ", size)))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.http.URL+"/things/lamp/shadow", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.http.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("POST with %d bytes = %d, want %d", size, resp.StatusCode, want)
		}
	}
}

// TestExpectContinue checks that a body which is too large is not even asked for.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for length, want := range map[int]string{12: "HTTP/1.1 100 Continue", 1 << 20: "HTTP/1.1 413 Request Entity Too Large"} {
		conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /things/lamp/shadow HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", length)
		buf := make([]byte, len(want))
		if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != want {
			t.Errorf("answer to %d expected bytes = %q, %v, want %q", length, buf, err, want)
		}
	}
}

// TestSlowBody checks that a client which does not send its body is not waited for.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(with *setup) { with.options.RequestTimeout = 50 * time.Millisecond })
	conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "POST /things/lamp/shadow HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{")
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 400 ") {
		t.Errorf("answer to half a body = %.40q, %v, want 400", got, err)
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.update(shadow.ID{Thing: "lamp"}, `{}`)
	resp, err := s.http.Client().Head(s.http.URL + "/things/lamp/shadow")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength <= 0 {
		t.Errorf("HEAD = %d with length %d, want 200 with a length", resp.StatusCode, resp.ContentLength)
	}
	s.refused(405, "MethodNotAllowedException", "", "OPTIONS", "/things/lamp/shadow", "")
}

// TestStoreDown checks that a failing store is a 500 that tells nothing, and that the service recovers.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.update(shadow.ID{Thing: "lamp"}, `{}`)
	s.store.SetDown(errors.New("secret"))
	for _, c := range [][3]string{
		{"POST", "/things/lamp/shadow", `{"state":{}}`},
		{"DELETE", "/things/lamp/shadow", ""},
		{"GET", "/things/other/shadow", ""},
		{"GET", "/api/things/shadow/ListNamedShadowsForThing/lamp", ""},
	} {
		s.refused(500, "InternalFailureException", "Internal service failure", c[0], c[1], c[2])
	}
	s.problem(500, "InternalFailureException", "GET", "/v1/things", "")
	s.problem(500, "InternalFailureException", "GET", "/v1/things/other", "")
	s.problem(500, "InternalFailureException", "GET", "/v1/things/other/events", "")
	s.store.SetDown(nil)
	s.update(shadow.ID{Thing: "lamp"}, `{}`)
}

func TestListNamedShadows(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const path = "/api/things/shadow/ListNamedShadowsForThing/"
	list := func(query string) (names []string, next string) {
		t.Helper()
		var got struct {
			Results   []string
			NextToken string
		}
		if err := json.Unmarshal([]byte(s.want(200, "GET", path+"a%3Ab"+query, "").body), &got); err != nil {
			t.Fatal(err)
		}
		return got.Results, got.NextToken
	}
	s.update(shadow.ID{Thing: "a:b"}, `{}`)
	if names, next := list(""); len(names) != 0 || next != "" {
		t.Errorf("list of a classic shadow = %q, %q, want nothing", names, next)
	}
	var want []string
	for i := range 60 {
		want = append(want, fmt.Sprintf("n%02d", i))
		s.update(shadow.ID{Thing: "a:b", Name: want[i]}, `{}`)
	}
	s.update(shadow.ID{Thing: "a:b", Name: "gone"}, `{}`)
	s.want(200, "DELETE", "/things/a:b/shadow?name=gone", "")
	for size, pages := range map[int]int{1: 60, 20: 3, 25: 3, 59: 2, 60: 1, 100: 1} {
		query, got, n := fmt.Sprintf("?pageSize=%d", size), []string(nil), 0
		for next := "x"; next != ""; n++ {
			var names []string
			names, next = list(query)
			if len(names) > size {
				t.Fatalf("page of %d names, want at most %d", len(names), size)
			}
			got = append(got, names...)
			query = fmt.Sprintf("?pageSize=%d&nextToken=%s", size, url.QueryEscape(next))
		}
		if !slices.Equal(got, want) || n != pages {
			t.Errorf("with size %d: %d pages %q, want %d pages %q", size, n, got, pages, want)
		}
	}
	if names, next := list(""); len(names) != 25 || next == "" {
		t.Errorf("default page has %d names, token %q, want 25 and a token", len(names), next)
	}
	for _, query := range []string{"?pageSize=0", "?pageSize=101", "?pageSize=x", "?nextToken=x", "?nextToken=!", "?nextToken=dGE"} {
		s.refused(400, invalid, "", "GET", path+"lamp"+query, "")
	}
	s.refused(400, invalid, "", "GET", path+"a%2Fb", "")
}

// TestPayloadLimit checks that the limit of the body is a setting.
func TestPayloadLimit(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(with *setup) { with.options = rest.Options{PayloadBytes: 20} })
	s.want(200, "POST", "/things/lamp/shadow", `{"state":{}}        `)
	s.want(413, "POST", "/things/lamp/shadow", `{"state":{}}         `)
}
