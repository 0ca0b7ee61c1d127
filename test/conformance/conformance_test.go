package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/conformance"
	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/schemas"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

const (
	caseTimeout = 60 * time.Second       // bound of one case
	answerWait  = 20 * time.Second       // bound of one answer
	quietWindow = 300 * time.Millisecond // in which nothing more may appear
	atOnce      = 64                     // cases under way; they mostly wait for quiet windows
)

// transport is a way to carry out the steps of a case.
type transport struct {
	name    string
	rest    bool
	version byte // of the MQTT connection that asks, or listens beside REST
}

func transports() []transport {
	return []transport{
		{name: "mqtt3", version: mqtttest.V311},
		{name: "mqtt5", version: mqtttest.V5},
		{name: "rest", version: mqtttest.V311, rest: true},
	}
}

// allows reports whether a case with the transport field want is for tr.
func (tr transport) allows(want string) bool {
	return want == "any" || (want == "rest") == tr.rest
}

func TestMemory(t *testing.T) {
	t.Parallel()
	runAll(t, umbradtest.Start(t, "--store=memory:"))
}

func TestPebble(t *testing.T) {
	t.Parallel()
	runAll(t, umbradtest.Start(t, "--store=pebble:"+filepath.Join(t.TempDir(), "db")))
}

func TestRedis(t *testing.T) {
	t.Parallel()
	runAll(t, umbradtest.Start(t, "--store="+storetest.Redis(t).URL))
}

// runAll runs every case over every transport that is right for it. The cases run at the same time,
// many more than t.Parallel would let, because a case mostly waits; a subtest then tells of each.
func runAll(t *testing.T, u *umbradtest.Umbrad) {
	t.Helper()
	cases, err := conformance.Load("../../testdata/protocol/cases-public.json")
	if err != nil {
		t.Fatal(err)
	}
	validator, err := schemas.Compile()
	if err != nil {
		t.Fatal(err)
	}
	type job struct {
		name string
		run  *run
		c    conformance.Case
		err  error
	}
	var jobs []*job
	var fresh atomic.Int64
	for _, tr := range transports() {
		for _, c := range cases {
			if !tr.allows(c.Transport) {
				continue
			}
			r := &run{addr: u.MQTT(), url: u.URL(), tr: tr, schemas: validator}
			suffix := "x" + strconv.FormatInt(fresh.Add(1), 36)
			jobs = append(jobs, &job{name: tr.name + "/" + c.ID, run: r, c: c.Fresh(suffix)})
		}
	}
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for _, j := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			j.err = j.run.do(t.Context(), j.c)
		})
	}
	wg.Wait()
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			if j.err != nil {
				t.Errorf("%s (%s, %s): %v", j.c.Title, j.c.Area, j.c.Confidence, j.err)
			}
		})
	}
}

// run carries out one case.
type run struct {
	addr, url string
	tr        transport
	schemas   *schemas.Validator

	mqtt  *mqtttest.Client
	http  *http.Client
	scope conformance.Scope
	quiet bool // the case looks at what must not appear
}

func (r *run) do(ctx context.Context, c conformance.Case) error {
	ctx, cancel := context.WithTimeout(ctx, caseTimeout)
	defer cancel()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	r.http = &http.Client{Transport: transport}
	client, err := mqtttest.Dial(ctx, r.addr, mqtttest.Options{Version: r.tr.version})
	if err != nil {
		return err
	}
	defer client.Close()
	r.mqtt = client
	if err := r.subscribe(ctx, c); err != nil {
		return err
	}
	for _, s := range c.Steps {
		r.quiet = r.quiet || s.ExpectDelta != nil || s.ExpectDocuments != nil
	}
	for i, s := range c.Steps {
		r.scope.Thing, r.scope.Shadow = s.Thing, s.ShadowName()
		if err := r.step(ctx, s); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, s.Op, err)
		}
	}
	return nil
}

// subscribe asks for the eight response topics of every shadow that the case touches. Names outside
// the rules, which only REST can ask for, have no topics.
func (r *run) subscribe(ctx context.Context, c conformance.Case) error {
	seen := map[string]bool{}
	for _, s := range c.Steps {
		base := topicBase(s)
		if s.Op == "sleep" || s.Op == "list" || seen[base] || !validNames(s) {
			continue
		}
		seen[base] = true
		ack, err := r.mqtt.Subscribe(ctx,
			base+"/get/accepted", base+"/get/rejected",
			base+"/update/accepted", base+"/update/rejected",
			base+"/update/delta", base+"/update/documents",
			base+"/delete/accepted", base+"/delete/rejected")
		if err != nil {
			return fmt.Errorf("subscribing to %s: %w", base, err)
		}
		if ack.Code != 0 {
			return fmt.Errorf("subscribing to %s: code %#x %s", base, ack.Code, ack.Reason)
		}
	}
	return nil
}

func (r *run) step(ctx context.Context, s conformance.Step) error {
	switch {
	case s.Op == "sleep":
		return pause(ctx, time.Duration(s.MS)*time.Millisecond)
	case s.Op == "list":
		return r.list(ctx, s)
	case r.tr.rest:
		return r.request(ctx, s)
	default:
		return r.exchange(ctx, s)
	}
}

// pause waits because the case says that time has to pass.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// check compares an answer with what the step expects of it.
func (r *run) check(s conformance.Step, a answer) error {
	if s.Expect.Kind == "any" {
		return r.scope.Match(s.Expect.Status, strconv.AppendInt(nil, int64(a.status), 10))
	}
	if a.kind != s.Expect.Kind {
		return fmt.Errorf("answer is %s, want %s: %.300s", a.kind, s.Expect.Kind, a.body)
	}
	var errs []error
	if want := s.Expect.Code; want != nil {
		errs = append(errs, wrap("code", r.scope.Match(want, a.code)))
	}
	if want := s.Expect.Message; want != nil {
		errs = append(errs, wrap("message", r.scope.Match(want, a.message)))
	}
	if want := s.Expect.ErrorType; want != "" && a.rest && a.errorType != want {
		errs = append(errs, fmt.Errorf("x-amzn-ErrorType = %q, want %q", a.errorType, want))
	}
	if want := s.Expect.Body; want != nil && a.hasBody {
		errs = append(errs, wrap("body", r.scope.Match(want, a.body)))
	}
	return errors.Join(errs...)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
