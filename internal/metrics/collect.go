package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth/authn"
	"github.com/umbra-iot/umbra/internal/gate"
	"github.com/umbra-iot/umbra/things"
)

// series describes one metric whose value is read when it is asked for.
type series struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) series {
	return series{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) series {
	return series{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

// send sends the value of s with the label values.
func (s series) send(ch chan<- prometheus.Metric, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(s.desc, s.kind, value, labels...)
}

// collector turns a snapshot into metrics. Each of its metrics is always sent.
type collector func(ch chan<- prometheus.Metric)

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) { c(ch) }

// Broker exports the statistics of the MQTT server.
func (m *Metrics) Broker(stats func() broker.Stats) {
	var (
		connections   = gauge("umbra_mqtt_connections", "Open connections.")
		connects      = counter("umbra_mqtt_connections_total", "CONNECTs by result.", "result")
		sessions      = gauge("umbra_mqtt_sessions", "Sessions, connected or not.")
		subscriptions = gauge("umbra_mqtt_subscriptions", "Subscriptions of all sessions.")
		retained      = gauge("umbra_mqtt_retained_messages", "Retained messages.")
		retainedBytes = gauge("umbra_mqtt_retained_bytes", "Bytes of retained messages.")
		queuedBytes   = gauge("umbra_mqtt_queue_memory_bytes", "Bytes of messages with QoS 1 or 2 that are kept in memory for clients.")
		heldBytes     = gauge("umbra_mqtt_queue_bytes", "Bytes of messages with QoS 1 or 2 that are kept for clients, in memory or in the store.")
		messages      = counter("umbra_mqtt_messages_total", "Messages by direction.", "dir")
		bytes         = counter("umbra_mqtt_bytes_total", "Bytes by direction.", "dir")
		dropped       = counter("umbra_mqtt_messages_dropped_total", "Messages that did not reach a subscriber, by reason.", "reason")
		requests      = counter("umbra_mqtt_requests_total", "Shadow requests that came by MQTT.")
		refused       = counter("umbra_mqtt_publishes_refused_total", "Messages to topics that are not open to clients, or refused because the queue of a session is full.")
		notRetained   = counter("umbra_mqtt_messages_not_retained_total", "Messages that were to be retained, and were only delivered for want of room.")
		panics        = counter("umbra_mqtt_panics_total", "Connections that a defect of the server ended.")
	)
	m.registry.MustRegister(collector(func(ch chan<- prometheus.Metric) {
		s := stats()
		connections.send(ch, float64(s.Connections))
		connects.send(ch, float64(s.Connected), "accepted")
		connects.send(ch, float64(s.ConnectsRefused), "refused")
		sessions.send(ch, float64(s.Sessions))
		subscriptions.send(ch, float64(s.Subscriptions))
		retained.send(ch, float64(s.Retained))
		retainedBytes.send(ch, float64(s.RetainedBytes))
		queuedBytes.send(ch, float64(s.QueuedBytes))
		heldBytes.send(ch, float64(s.HeldBytes))
		messages.send(ch, float64(s.MessagesIn), "in")
		messages.send(ch, float64(s.MessagesOut), "out")
		bytes.send(ch, float64(s.BytesIn), "in")
		bytes.send(ch, float64(s.BytesOut), "out")
		dropped.send(ch, float64(s.DroppedSlow), "slow_client")
		dropped.send(ch, float64(s.DroppedQueueFull), "queue_full")
		dropped.send(ch, float64(s.DroppedExpired), "expired")
		dropped.send(ch, float64(s.DroppedTooBig), "too_big")
		requests.send(ch, float64(s.Requests))
		refused.send(ch, float64(s.Refused))
		notRetained.send(ch, float64(s.NotRetained))
		panics.send(ch, float64(s.Panics))
	}))
}

// Gate exports the statistics of the listeners.
func (m *Metrics) Gate(stats func() gate.Stats) {
	var (
		open       = gauge("umbra_connections", "Open connections of all listeners.")
		strangers  = gauge("umbra_strangers", "Connections whose clients have not proved who they are.")
		idle       = gauge("umbra_idle_connections", "Connections of HTTP between two requests of known clients.")
		refused    = counter("umbra_connections_refused_total", "Connections above the bound of a listener or an address.")
		pushedOut  = counter("umbra_connections_pushed_out_total", "Connections that made room for new ones: those whose clients had not proved who they are, and idle ones of HTTP.")
		handshakes = counter("umbra_handshakes_failed_total", "Connections that ended during the handshake of TLS, or with a wrong PROXY header.")
		accepts    = counter("umbra_accept_errors_total", "Connections that could not be accepted.")
	)
	m.registry.MustRegister(collector(func(ch chan<- prometheus.Metric) {
		s := stats()
		open.send(ch, float64(s.Open))
		strangers.send(ch, float64(s.Strangers))
		idle.send(ch, float64(s.Idle))
		refused.send(ch, float64(s.Refused))
		pushedOut.send(ch, float64(s.PushedOut))
		handshakes.send(ch, float64(s.HandshakesFailed))
		accepts.send(ch, float64(s.AcceptErrors))
	}))
}

// Logins exports how many logins have failed.
func (m *Metrics) Logins(failures func() authn.Failures) {
	failed := counter("umbra_logins_failed_total", "Clients of MQTT and requests of HTTP that were not authenticated, by reason.", "reason")
	m.registry.MustRegister(collector(func(ch chan<- prometheus.Metric) {
		f := failures()
		failed.send(ch, float64(f.None), "none")
		failed.send(ch, float64(f.Denied), "denied")
		failed.send(ch, float64(f.Unavailable), "unavailable")
	}))
}

// Mappings exports the statistics of the mappings.
func (m *Metrics) Mappings(stats func() broker.MappingStats) {
	var (
		messages = counter("umbra_mapping_messages_total", "Messages that rules of mappings are about.")
		updates  = counter("umbra_mapping_updates_total", "Updates of shadows that mappings have made of messages.")
		sent     = counter("umbra_mapping_commands_sent_total", "Commands that mappings have sent, repetitions included.")
		commands = gauge("umbra_mapping_commands", "Commands of devices, by their state.", "state")
		failures = counter("umbra_mapping_errors_total", "Failures of mappings, by code.", "code")
	)
	m.registry.MustRegister(collector(func(ch chan<- prometheus.Metric) {
		s := stats()
		messages.send(ch, float64(s.Messages))
		updates.send(ch, float64(s.Updates))
		sent.send(ch, float64(s.Sent))
		for state, n := range s.Commands {
			commands.send(ch, float64(n), string(state))
		}
		for code, n := range s.Errors {
			failures.send(ch, float64(n), code)
		}
	}))
}

// Things exports the statistics of the shadow service.
func (m *Metrics) Things(stats func() things.Stats) {
	var (
		accepted  = counter("umbra_requests_total", "Shadow requests that were accepted, by operation.", "op")
		rejected  = counter("umbra_rejects_total", "Shadow requests that were refused, by code.", "code")
		conflicts = counter("umbra_conflicts_total", "Updates that lost a race with another node and were tried again.")
		commits   = counter("umbra_commits_total", "Batches of updates that were handed to the store.")
		lookups   = counter("umbra_cache_lookups_total", "Documents looked up in memory, by result.", "result")
		documents = gauge("umbra_cache_documents", "Documents in memory.")
		bytes     = gauge("umbra_cache_bytes", "Bytes of documents in memory.")
	)
	m.registry.MustRegister(collector(func(ch chan<- prometheus.Metric) {
		s := stats()
		for op, n := range s.Accepted {
			accepted.send(ch, float64(n), op.String())
		}
		for code, n := range s.Refused {
			rejected.send(ch, float64(n), strconv.Itoa(code))
		}
		conflicts.send(ch, float64(s.Conflicts))
		commits.send(ch, float64(s.Commits))
		lookups.send(ch, float64(s.Hits), "hit")
		lookups.send(ch, float64(s.Misses), "miss")
		documents.send(ch, float64(s.Cached))
		bytes.send(ch, float64(s.CacheUsed))
	}))
}
