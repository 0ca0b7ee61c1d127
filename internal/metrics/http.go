package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type httpInstruments struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newHTTPInstruments() httpInstruments {
	return httpInstruments{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "umbra_http_requests_total",
			Help: "HTTP requests that were answered.",
		}, []string{"method", "route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "umbra_http_request_duration_seconds",
			Help:    "Time that HTTP requests took, event streams aside.",
			Buckets: durations,
		}, []string{"method", "route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "umbra_http_requests_in_flight",
			Help: "HTTP requests that are being answered, event streams included.",
		}),
	}
}

func (i httpInstruments) all() []prometheus.Collector {
	return []prometheus.Collector{i.requests, i.seconds, i.inFlight}
}

// HTTP returns next with every request measured. The label "route" is the pattern that next, a
// [http.ServeMux] or a handler around one, has noted in the request.
func (m *Metrics) HTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		m.http.inFlight.Inc()
		defer m.http.inFlight.Dec()
		sw := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(sw, r)
		route := r.Pattern
		if route == "" {
			route = "none"
		}
		method := methodOf(r.Method)
		m.http.requests.WithLabelValues(method, route, strconv.Itoa(sw.code)).Inc()
		if sw.Header().Get("Content-Type") != "text/event-stream" {
			m.http.seconds.WithLabelValues(method, route).Observe(time.Since(began).Seconds())
		}
	})
}

// methodOf keeps clients from making up label values.
func methodOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	return "other"
}

// statusWriter notes the status code. Streams reach the methods of the wrapped writer by
// [http.ResponseController].
type statusWriter struct {
	http.ResponseWriter
	code  int
	wrote bool
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *statusWriter) WriteHeader(code int) {
	if !w.wrote && code >= http.StatusOK {
		w.code, w.wrote = code, true
	}
	w.ResponseWriter.WriteHeader(code)
}
