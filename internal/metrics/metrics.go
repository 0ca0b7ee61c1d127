// Package metrics exports what Umbra measures to Prometheus. It is the only
// package that knows of Prometheus: what is measured is wrapped ([Metrics.Store],
// [Metrics.HTTP]) or read when it is asked for ([Metrics.Broker], [Metrics.Things],
// [Metrics.Gate], [Metrics.Logins]).
//
// Names begin with umbra_, those of the MQTT server with umbra_mqtt_. Every
// label has few values; the name of a thing, a shadow or a client is never one.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/umbra-iot/umbra/internal/version"
)

// Metrics is a set of instruments. Use one for each server.
type Metrics struct {
	registry *prometheus.Registry
	store    storeInstruments
	http     httpInstruments
}

// durations are the upper bounds of latency buckets, in seconds: 50 us to 5 s.
var durations = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// New returns instruments on a registry of their own, with those of the Go runtime and the process.
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), store: newStoreInstruments(), http: newHTTPInstruments()}
	info := version.Get()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "umbra_build_info",
		Help:        "1, with the build of the server as labels.",
		ConstLabels: prometheus.Labels{"version": info.Version, "commit": info.Commit, "go": info.Go},
	})
	build.Set(1)
	m.registry.MustRegister(
		build,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.registry.MustRegister(m.store.all()...)
	m.registry.MustRegister(m.http.all()...)
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}
