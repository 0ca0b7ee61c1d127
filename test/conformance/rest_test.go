package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/umbra-iot/umbra/internal/conformance"
)

// request carries out a step over REST and listens on MQTT for what it causes.
func (r *run) request(ctx context.Context, s conformance.Step) error {
	method := map[string]string{"get": http.MethodGet, "update": http.MethodPost, "delete": http.MethodDelete}[s.Op]
	target := r.url + "/things/" + url.PathEscape(s.Thing) + "/shadow"
	if s.Shadow != nil {
		target += "?name=" + url.QueryEscape(*s.Shadow)
	}
	var payload []byte
	if s.Op == "update" {
		var err error
		if payload, err = s.PayloadBytes(); err != nil {
			return err
		}
	}
	a, err := r.call(ctx, method, target, payload)
	if err != nil {
		return err
	}
	if a.kind == "accepted" {
		name := map[string]string{"get": "shadow-document", "update": "update-accepted", "delete": "delete-accepted"}[s.Op]
		if err := r.schemas.Validate(name, a.body); err != nil {
			return fmt.Errorf("%.500s: %w", a.body, err)
		}
	}
	updated := s.Op == "update" && a.kind == "accepted" && validNames(s)
	got, err := r.collect(ctx, s, func(seen heard) bool {
		return !updated || len(seen["/update/accepted"]) > 0
	})
	if err != nil {
		return errors.Join(r.check(s, a), err)
	}
	return errors.Join(r.check(s, a), r.checkTopics(s, got), checkSilence(got))
}

// checkSilence checks that nothing was rejected in public: a REST error is the caller's own.
func checkSilence(got heard) error {
	for suffix, bodies := range got {
		if strings.HasSuffix(suffix, "/rejected") {
			return fmt.Errorf("message on %s after a REST request: %s", suffix, bodies)
		}
	}
	return nil
}

// call makes a request and checks what all answers have in common.
func (r *run) call(ctx context.Context, method, target string, payload []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	var body io.Reader
	if payload != nil {
		body = bytes.NewReader(payload)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return answer{}, err
	}
	res, err := r.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
		return answer{}, fmt.Errorf("Content-Type = %q, want application/json", ct)
	}
	a := answer{rest: true, status: res.StatusCode, kind: "accepted", body: text, hasBody: true}
	if res.StatusCode == http.StatusOK {
		return a, nil
	}
	return r.refusal(a, res)
}

func (r *run) refusal(a answer, res *http.Response) (answer, error) {
	var e struct {
		Message json.RawMessage `json:"message"`
		TraceID string          `json:"traceId"`
	}
	if err := r.schemas.Validate("aws-error", a.body); err != nil {
		return answer{}, fmt.Errorf("%.300q: %w", a.body, err)
	}
	if err := json.Unmarshal(a.body, &e); err != nil {
		return answer{}, err
	}
	if id := res.Header.Get("x-amzn-RequestId"); id == "" || id != e.TraceID {
		return answer{}, fmt.Errorf("x-amzn-RequestId = %q, traceId = %q: want the same", id, e.TraceID)
	}
	a.kind, a.hasBody = "rejected", false
	a.message = e.Message
	a.code = strconv.AppendInt(nil, int64(res.StatusCode), 10)
	a.errorType, _, _ = strings.Cut(res.Header.Get("x-amzn-ErrorType"), ":")
	return a, nil
}

// list carries out a list step, always over REST.
func (r *run) list(ctx context.Context, s conformance.Step) error {
	target := r.url + "/api/things/shadow/ListNamedShadowsForThing/" + url.PathEscape(s.Thing)
	query := url.Values{}
	for k, v := range s.Query {
		query.Set(k, fmt.Sprint(v))
	}
	var union []string
	for {
		a, err := r.call(ctx, http.MethodGet, target+"?"+query.Encode(), nil)
		if err != nil {
			return err
		}
		a.hasBody = true // for list steps the expectation is about the REST body
		if err := r.check(s, a); err != nil || a.kind != "accepted" {
			return err
		}
		if err := r.schemas.Validate("named-shadow-list", a.body); err != nil {
			return fmt.Errorf("%.500s: %w", a.body, err)
		}
		var page struct {
			Results   []string `json:"results"`
			NextToken string   `json:"nextToken"`
		}
		if err := json.Unmarshal(a.body, &page); err != nil {
			return err
		}
		union = append(union, page.Results...)
		if !s.FollowPages {
			return nil
		}
		if want := s.Expect.Pages.MaxPageLen; len(page.Results) > want {
			return fmt.Errorf("a page of %d, want at most %d", len(page.Results), want)
		}
		if page.NextToken == "" {
			return checkPages(s.Expect.Pages, union)
		}
		query.Set("nextToken", page.NextToken)
	}
}

func checkPages(want *conformance.Pages, got []string) error {
	slices.Sort(got)
	if n := len(got); want.NoDuplicates && len(slices.Compact(slices.Clone(got))) != n {
		return fmt.Errorf("a name twice in %v", got)
	}
	names := slices.Compact(got)
	union := slices.Clone(want.Union)
	slices.Sort(union)
	if !slices.Equal(names, union) {
		return fmt.Errorf("pages give %v, want %v", names, union)
	}
	return nil
}
