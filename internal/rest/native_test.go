package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/umbra-iot/umbra/shadow"
)

func TestListThings(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	type page struct {
		Things []struct {
			Thing   string
			Shadows []struct {
				Name    string
				Version int
				InSync  bool
			}
		}
		NextPage string
	}
	list := func(query string) (p page) {
		t.Helper()
		if err := json.Unmarshal([]byte(s.want(200, "GET", "/v1/things"+query, "").body), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := list(""); len(p.Things) != 0 || p.NextPage != "" {
		t.Errorf("list of nothing = %+v, want nothing", p)
	}
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprintf("lamp%d", i))
		s.update(shadow.ID{Thing: want[i]}, `{"desired":{"on":true}}`)
	}
	s.update(shadow.ID{Thing: "lamp1", Name: "fw"}, `{"reported":{"v":1}}`)
	s.update(shadow.ID{Thing: "valve"}, `{}`)
	s.update(shadow.ID{Thing: "lampgone"}, `{}`)
	s.want(200, "DELETE", "/things/lampgone/shadow", "")

	var got []string
	query := "?prefix=lamp&limit=2"
	for {
		p := list(query)
		for _, th := range p.Things {
			got = append(got, th.Thing)
		}
		if p.NextPage == "" {
			break
		}
		query = "?prefix=lamp&limit=2&page=" + p.NextPage
	}
	if !slices.Equal(got, want) {
		t.Errorf("things = %q, want %q", got, want)
	}
	p := list("?prefix=lamp1")
	if len(p.Things) != 1 || fmt.Sprint(p.Things[0].Shadows) != "[{ 1 false} {fw 1 true}]" {
		t.Errorf("list = %+v, want lamp1 with two shadows", p)
	}
	if p := list(""); len(p.Things) != 6 {
		t.Errorf("%d things, want 6", len(p.Things))
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?page=x", "?page=c2E"} {
		s.problem(400, invalid, "GET", "/v1/things"+query, "")
	}
}

func TestGetThing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.problem(404, notFound, "GET", "/v1/things/lamp", "")
	s.problem(400, invalid, "GET", "/v1/things/a%2Fb", "")
	s.update(shadow.ID{Thing: "lamp"}, `{"desired":{"text":"<&>"}}`)
	s.update(shadow.ID{Thing: "lamp", Name: "fw"}, `{"reported":{"v":12345678901234567890.10}}`)
	a := s.want(200, "GET", "/v1/things/lamp", "")
	for _, want := range []string{`"name":""`, `"name":"fw"`, `"inSync":false`, `"inSync":true`, `"<&>"`, `12345678901234567890.10`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("thing = %s, want it to have %s", a.body, want)
		}
	}
}

func TestConditionalGet(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const path = "/v1/things/lamp/shadow"
	s.problem(404, notFound, "GET", path, "")
	s.update(shadow.ID{Thing: "lamp"}, `{}`)
	if tag := s.want(200, "GET", path, "").header.Get("ETag"); tag != `"1"` {
		t.Errorf(`ETag = %s, want "1"`, tag)
	}
	for match, status := range map[string]int{`"1"`: 304, `W/"1"`: 304, `"7", "1"`: 304, `*`: 304, `"2"`: 200, `1`: 200, ``: 200} {
		a := s.want(status, "GET", path, "", "If-None-Match", match)
		if tag := a.header.Get("ETag"); tag != `"1"` {
			t.Errorf(`ETag with If-None-Match %s = %s, want "1"`, match, tag)
		}
		if status == 304 && a.body != "" {
			t.Errorf("answer 304 has a body %q", a.body)
		}
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.update(shadow.ID{Thing: "lamp"}, `{"desired":{"on":true,"a.b":1.50,"x\\y":2,"*":"star","#":3,"@this":4,"l":[{"k":"v"},[7]],"o":{"":1},"é":5,"0":6,"n":{}},"reported":{"a":{"b":{"c":"deep"}}}}`)
	const path = "/v1/things/lamp/shadow?path="
	for p, want := range map[string]string{
		"desired.on":           "true",
		"state.desired.on":     "true",
		"delta.on":             "true",
		`desired.a\.b`:         "1.50",
		`desired.x\\y`:         "2",
		"desired.*":            `"star"`,
		"desired.%23":          "3",
		"desired.@this":        "4",
		"desired.l":            `[{"k":"v"},[7]]`,
		"desired.%C3%A9":       "5",
		"desired.0":            "6",
		"desired.n":            "{}",
		"reported.a.b":         `{"c":"deep"}`,
		"version":              "1",
		"reported.a.b.c&name=": `"deep"`,
	} {
		if a := s.want(200, "GET", path+strings.ReplaceAll(p, `\`, "%5C"), ""); a.body != want {
			t.Errorf("path %s = %s, want %s", p, a.body, want)
		}
	}
	for _, p := range []string{"desired.off", "desired.o%3F", "desired.l.0", "desired.l.0.k", "desired.l.1.0", "desired.l.2", "desired.l.%23", "desired.on.x", "reported.*", "nothing", "reported.a.b.c.d"} {
		s.problem(404, notFound, "GET", path+p, "")
	}
	for _, p := range []string{".", "a.", ".a", "a..b", "a%5C", "a%5Cb"} {
		s.problem(400, invalid, "GET", path+p, "")
	}
	if a := s.want(200, "GET", path+"desired.on", ""); a.header.Get("ETag") != `"1"` {
		t.Error("a value has no ETag")
	}
}

// TestQuery checks that no parameter of the native API is left out of account.
func TestQuery(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.update(lamp, `{"desired":{"a":1,"b":2}}`)
	const path = "/v1/things/lamp/shadow"
	for _, query := range []string{"?path=desired.a", "?path=", "?Name=x", "?name=&name=", "?name=a;b", "?name=%zz"} {
		s.problem(400, invalid, "DELETE", path+query, "")
		s.problem(400, invalid, "PATCH", path+query, `{"state":{}}`)
	}
	if a := s.want(400, "DELETE", path+"?path=desired.a", ""); !strings.Contains(a.body, "Query parameter 'path' is not known to this operation") {
		t.Errorf("DELETE with a path = %s, want it to name the parameter", a.body)
	}
	if tag := s.want(200, "GET", path, "").header.Get("ETag"); tag != `"1"` {
		t.Errorf(`ETag = %s, want "1"`, tag)
	}
	for _, target := range []string{
		path + "?path=version&path=version", "/v1/things?x=", "/v1/things/lamp?name=", "/v1/things/lamp/delta?path=a",
		lampEvents + "?prefix=", "/v1/events?name=", "/v1/version?x", "/v1/things?page=dP8", "/v1/things?%ff=",
	} {
		s.problem(400, invalid, "GET", target, "")
	}
	for _, target := range []string{
		"/v1/things?prefix=%ff", "/v1/things?limit=%ff", "/v1/things?page=%ff", path + "?name=%ff", path + "?path=%ff", path + "?path=desired.%c3%28",
		"/v1/things/lamp/delta?name=%ff", lampEvents + "?name=%ff", lampEvents + "?lastEventId=%ff", lampEvents + "?snapshot=%ff",
		"/v1/events?prefix=%ed%a0%80", "/v1/events?lastEventId=%ff",
	} {
		if a := s.want(400, "GET", target, ""); !strings.Contains(a.body, "is not UTF-8") {
			t.Errorf("GET %s = %s, want it to say what is wrong", target, a.body)
		}
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const path = "/v1/things/lamp/shadow"
	if a := s.want(200, "PATCH", path, `{"state":{"desired":{"a":1}},"clientToken":"t"}`); a.header.Get("ETag") != `"1"` || !strings.Contains(a.body, `"clientToken":"t"`) {
		t.Errorf("PATCH = %s with ETag %s, want token t and 1", a.body, a.header.Get("ETag"))
	}
	const merge = "application/merge-patch+json"
	s.want(200, "PATCH", path, `{"desired":{"a":null,"b":2}}`, "Content-Type", merge)
	if a := s.want(200, "GET", path+"?path=desired", ""); a.body != `{"b":2}` {
		t.Errorf("desired = %s, want b alone", a.body)
	}
	for _, body := range []string{``, `{`, `{},"version":9`, `{"other":1}`, `{}}`, `[]`} {
		s.problem(400, invalid, "PATCH", path, body, "Content-Type", merge)
	}
	s.problem(413, "RequestEntityTooLargeException", "PATCH", path, strings.Repeat(" ", 200<<10))
	s.want(200, "DELETE", path, "")
	s.problem(404, notFound, "DELETE", path, "")
}

func TestConditionalChange(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const (
		path   = "/v1/things/lamp/shadow"
		none   = "/v1/things/none/shadow"
		failed = "PreconditionFailedException"
		body   = `{"state":{}}`
		match  = "If-Match"
		not    = "If-None-Match"
	)
	s.want(200, "PATCH", path, body, not, `*`)
	for i, header := range [][2]string{
		{match, `"1"`},
		{match, `"1", "2"`},
		{match, `W/"3" ,,"3",`},
		{match, `*`},
		{match, `"a,b","5"`},
		{not, `"1", W/"2"`},
		{match, ` , "7"`},
	} {
		want := fmt.Sprintf(`"%d"`, i+2)
		if tag := s.want(200, "PATCH", path, body, header[:]...).header.Get("ETag"); tag != want {
			t.Errorf("PATCH with %s left ETag %s, want %s", header, tag, want)
		}
	}
	for _, header := range [][2]string{
		{match, `"7"`},
		{match, `"9"`},
		{match, `"x"`},
		{match, `"0"`},
		{match, `""`},
		{match, `W/"8"`},
		{match, `"6", "7"`},
		{not, `*`},
		{not, `"8"`},
		{not, `W/"8"`},
		{not, `"7", "8"`},
	} {
		s.problem(412, failed, "PATCH", path, body, header[:]...)
		s.problem(412, failed, "DELETE", path, "", header[:]...)
	}
	for _, value := range []string{`8`, "`8`", `'8'`, `"8`, `w/"8"`, `W/ "8"`, `"8" "9"`, `"8"x`, `*, "8"`, `"8", *`, `**`, ``, `,`} {
		for _, name := range []string{match, not} {
			s.problem(400, invalid, "PATCH", path, body, name, value)
			s.problem(400, invalid, "DELETE", path, "", name, value)
		}
	}
	s.problem(412, failed, "PATCH", path, body, match, `"8"`, not, `*`)
	s.problem(409, "ConflictException", "PATCH", path, `{"state":{},"version":1}`)
	s.problem(409, "ConflictException", "PATCH", path, `{"state":{},"version":1}`, match, `"8"`)
	s.problem(412, failed, "PATCH", none, body, match, `*`)
	s.problem(412, failed, "PATCH", none, body, match, `"1"`)
	s.problem(404, notFound, "DELETE", none, "", not, `*`)
	s.problem(404, notFound, "GET", none, "")
	s.want(200, "DELETE", path, "", match, `"7", "8"`)
	s.problem(412, failed, "PATCH", path, body, match, `*`)
	s.want(200, "PATCH", path, body, not, `*`) // a deleted shadow does not exist
}

// TestOneCreates has many clients make a shadow that must not exist.
func TestOneCreates(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var made atomic.Int32
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, s.http.URL+"/v1/things/lamp/shadow", strings.NewReader(`{"state":{}}`))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("If-None-Match", "*")
			resp, err := s.http.Client().Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				made.Add(1)
			}
		})
	}
	clients.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("%d clients made the shadow, want 1", n)
	}
}

func TestDelta(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const path = "/v1/things/lamp/delta?name=fw"
	id := shadow.ID{Thing: "lamp", Name: "fw"}
	s.problem(404, notFound, "GET", path, "")
	s.update(id, `{"desired":{"v":2},"reported":{"v":1}}`)
	if a := s.want(200, "GET", path, ""); !strings.Contains(a.body, `"state":{"v":2}`) || a.header.Get("ETag") != `"1"` {
		t.Errorf("delta = %s, want v of version 1", a.body)
	}
	s.update(id, `{"reported":{"v":2}}`)
	if a := s.want(204, "GET", path, ""); a.body != "" || a.header.Get("ETag") != `"2"` {
		t.Errorf("delta in sync = %q of %s, want nothing of version 2", a.body, a.header.Get("ETag"))
	}
	s.want(200, "DELETE", "/v1/things/lamp/shadow?name=fw", "")
	s.problem(404, notFound, "GET", path, "")
}

func TestAbout(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.want(200, "GET", "/v1/version", "")
	if a := s.want(200, "GET", "/v1/whoami", ""); a.body != `{"principal":"anonymous","open":true}` {
		t.Errorf("without authentication one is %s", a.body)
	}
	s.want(200, "GET", "/v1/openapi.json", "")
	var list struct{ Schemas []string }
	if err := json.Unmarshal([]byte(s.want(200, "GET", "/v1/schemas/", "").body), &list); err != nil {
		t.Fatal(err)
	}
	for _, path := range list.Schemas {
		if a := s.want(200, "GET", path, ""); !strings.Contains(a.body, `"$id": "`+path+`"`) {
			t.Errorf("%s = %s, want its path as $id", path, a.body)
		}
	}
	for _, path := range []string{"/v1/schemas/none.json", "/v1/schemas/..%2Frest.go", "/v1/schemas/.", "/v1/", "/v1/none", "/v1/schemas/schemas.go"} {
		s.problem(404, notFound, "GET", path, "")
	}
	s.problem(405, "MethodNotAllowedException", "POST", "/v1/version", "")
}
