package metrics_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/auth/authn"
	"github.com/umbra-iot/umbra/internal/gate"
	"github.com/umbra-iot/umbra/internal/metrics"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/things"
)

// scrape returns the lines of the metrics page that hold values of Umbra.
func scrape(t *testing.T, m *metrics.Metrics) []string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics = %d\n%s", w.Code, w.Body)
	}
	var lines []string
	for s := bufio.NewScanner(w.Body); s.Scan(); {
		if strings.HasPrefix(s.Text(), "umbra_") {
			lines = append(lines, s.Text())
		}
	}
	return lines
}

func wantLines(t *testing.T, m *metrics.Metrics, want ...string) {
	t.Helper()
	page := "\n" + strings.Join(scrape(t, m), "\n") + "\n"
	for _, line := range want {
		if !strings.Contains(page, "\n"+line+"\n") {
			t.Errorf("no line %q in%s", line, page)
		}
	}
}

// failing is a store whose operations have the outcomes of the test.
type failing struct {
	statestore.Store
	commit []error
	load   error
}

func (f failing) Commit(context.Context, []statestore.Write) []error { return f.commit }

func (f failing) Load(context.Context, []statestore.Key) ([]statestore.Record, error) {
	return nil, f.load
}

func (f failing) Put(context.Context, []statestore.Item) error { return f.load }

func TestStore(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	broken := errors.New("broken")
	s := m.Store(failing{commit: []error{nil, statestore.ErrConflict, broken, broken}, load: broken}, "test")
	if errs := s.Commit(t.Context(), make([]statestore.Write, 4)); len(errs) != 4 {
		t.Errorf("Commit = %v, want the store's answer", errs)
	}
	if _, err := s.Load(t.Context(), nil); !errors.Is(err, broken) {
		t.Errorf("Load: error = %v, want the store's", err)
	}
	if err := s.Put(t.Context(), nil); !errors.Is(err, broken) {
		t.Errorf("Put: error = %v, want the store's", err)
	}
	wantLines(t, m,
		`umbra_store_errors_total{backend="test",op="put"} 1`,
		`umbra_store_errors_total{backend="test",op="commit"} 2`,
		`umbra_store_errors_total{backend="test",op="load"} 1`,
		`umbra_store_conflicts_total 1`,
		`umbra_store_op_duration_seconds_count{backend="test",op="commit"} 1`,
		`umbra_store_commit_writes_sum 4`,
	)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	mux := http.NewServeMux()
	mux.HandleFunc("/things/{thing}/shadow", http.NotFound)
	mux.HandleFunc("/v1/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("Flush: %v", err)
		}
	})
	server := httptest.NewServer(m.HTTP(mux))
	defer server.Close()
	for _, path := range []string{"/things/lamp/shadow", "/v1/events", "/wp-login.php", "/" + strings.Repeat("x", 1000)} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	brew := httptest.NewRequestWithContext(t.Context(), "BREW", "/pot", http.NoBody)
	m.HTTP(mux).ServeHTTP(httptest.NewRecorder(), brew)
	wantLines(t, m,
		`umbra_http_requests_total{code="404",method="GET",route="/things/{thing}/shadow"} 1`,
		`umbra_http_requests_total{code="200",method="GET",route="/v1/events"} 1`,
		`umbra_http_requests_total{code="404",method="GET",route="none"} 2`,
		`umbra_http_requests_total{code="404",method="other",route="none"} 1`,
		`umbra_http_request_duration_seconds_count{method="GET",route="/things/{thing}/shadow"} 1`,
	)
	for _, line := range scrape(t, m) {
		if strings.Contains(line, "lamp") || strings.Contains(line, "duration_seconds_count") && strings.Contains(line, "events") {
			t.Errorf("unwanted line %s", line)
		}
	}
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.Broker(func() broker.Stats { return broker.Stats{Connections: 3, MessagesOut: 7, DroppedSlow: 2} })
	m.Gate(func() gate.Stats { return gate.Stats{Strangers: 2, Idle: 6, HandshakesFailed: 4} })
	m.Logins(func() authn.Failures { return authn.Failures{Denied: 5} })
	m.Things(func() things.Stats {
		return things.Stats{
			Accepted: map[shadow.Op]uint64{shadow.OpUpdate: 5},
			Refused:  map[int]uint64{409: 1},
			Hits:     4,
		}
	})
	wantLines(t, m,
		"umbra_strangers 2",
		"umbra_idle_connections 6",
		"umbra_handshakes_failed_total 4",
		`umbra_logins_failed_total{reason="denied"} 5`,
		"umbra_mqtt_connections 3",
		`umbra_mqtt_messages_total{dir="out"} 7`,
		`umbra_mqtt_messages_dropped_total{reason="slow_client"} 2`,
		`umbra_requests_total{op="update"} 5`,
		`umbra_rejects_total{code="409"} 1`,
		`umbra_cache_lookups_total{result="hit"} 4`,
	)
}

func TestMappings(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.Mappings(func() broker.MappingStats {
		return broker.MappingStats{
			Messages: 3, Updates: 4, Sent: 5, Errors: map[string]int64{"map": 2},
			Commands: map[mapping.CommandState]int64{mapping.StatePending: 6},
		}
	})
	wantLines(t, m, "umbra_mapping_messages_total 3", "umbra_mapping_updates_total 4", "umbra_mapping_commands_sent_total 5",
		`umbra_mapping_commands{state="pending"} 6`, `umbra_mapping_errors_total{code="map"} 2`)
}

func TestNames(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.Broker(func() broker.Stats { return broker.Stats{} })
	m.Things(func() things.Stats { return things.Stats{} })
	page := strings.Join(scrape(t, m), "\n")
	for _, name := range []string{"umbra_build_info{", "umbra_mqtt_sessions ", "umbra_http_requests_in_flight ", "umbra_commits_total "} {
		if !strings.Contains(page, name) {
			t.Errorf("no metric %s", name)
		}
	}
}

// BenchmarkStore measures what the decorator adds to an operation.
func BenchmarkStore(b *testing.B) {
	s := metrics.New().Store(failing{}, "test")
	b.ReportAllocs()
	for b.Loop() {
		s.Commit(b.Context(), nil)
	}
}
