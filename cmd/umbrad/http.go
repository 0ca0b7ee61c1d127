package main

import (
	"log/slog"
	"net/http"

	"github.com/umbra-iot/umbra/broker/listener"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/dashboard"
	"github.com/umbra-iot/umbra/internal/gate"
	"github.com/umbra-iot/umbra/internal/rest"
)

// newHTTPServer bounds the time of every request, whoever makes it: to be read, and then to be answered and its answer
// to be taken. The first ends where the body does. Event streams set deadlines of their own, and [http.Hijacker] takes
// them from WebSockets.
func (s *server) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:        s.handler(),
		ReadTimeout:    s.cfg.RequestTimeout,
		WriteTimeout:   rest.AnswerTimeouts * s.cfg.RequestTimeout,
		IdleTimeout:    s.cfg.IdleTimeout,
		MaxHeaderBytes: s.cfg.HeaderBytes,
		ConnContext:    listener.WithConn,
		ConnState:      gate.Follow,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// handler routes by hand what is not REST: [http.ServeMux] would clean the paths of topics.
func (s *server) handler() http.Handler {
	options := rest.Options{
		Things:         s.things,
		Broker:         s.broker,
		Feed:           s.feed,
		Log:            s.log,
		PayloadBytes:   s.cfg.Broker.PayloadBytes,
		RequestTimeout: s.cfg.RequestTimeout,
		Objects:        s.objects,
		Mappings:       s.mappings,
		Sealer:         s.sealer,
		Warnings:       s.warnings,
		Engine:         s.engine,
		Audit:          s.audit,
		Quotas:         s.quotas,
	}
	if s.cfg.Presence {
		options.Presence = s.broker.Presence
	}
	if s.authn != nil {
		options.Rights = s.rights
	}
	api := rest.New(options)
	health := s.metrics.HTTP(rest.Recognize(s.recognize, api))
	api = s.metrics.HTTP(rest.RefuseOtherSites(s.cfg.Origins, s.log, rest.Guard(s.authenticate, s.log, api)))
	scrape := rest.Guard(s.authenticate, s.log, rest.Permit(options, auth.GetMetrics, s.metrics.Handler()))
	page := dashboard.Handler()
	webSocket := s.estranged(s.vouched(s.broker.WebSocket()))
	return s.ofOwnHosts(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch c := gateConn(r); {
		case r.URL.Path == "/mqtt":
			webSocket.ServeHTTP(w, r)
		case c != nil && (c.Kind() == gate.WS || c.Kind() == gate.WSS):
			http.NotFound(w, r)
		case s.cfg.Dashboard && dashboard.Serves(r.URL.Path):
			page.ServeHTTP(w, r)
		case r.URL.Path == "/metrics":
			scrape.ServeHTTP(w, r)
		case isHealth(r):
			health.ServeHTTP(w, r)
		default:
			api.ServeHTTP(w, r)
		}
	}))
}

// ofOwnHosts has requests refused that pages of other sites may have led here, where nobody is asked who he is.
func (s *server) ofOwnHosts(next http.Handler) http.Handler {
	checks := map[string]bool{} // by the name of the listener
	for _, l := range s.cfg.All() {
		checks[l.Name()] = l.ChecksHosts()
	}
	checked := rest.RefuseOtherHosts(s.cfg.Hosts, s.log, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := gateConn(r); c == nil || !checks[c.Listener()] || isHealth(r) {
			next.ServeHTTP(w, r)
			return
		}
		checked.ServeHTTP(w, r)
	})
}

// isHealth reports whether a request is one that is answered whoever makes it.
func isHealth(r *http.Request) bool { return r.URL.Path == "/livez" || r.URL.Path == "/readyz" }

// gateConn returns the connection that a request came on.
func gateConn(r *http.Request) *gate.Conn {
	c, _ := listener.ConnOf(r.Context()).(*gate.Conn)
	return c
}
