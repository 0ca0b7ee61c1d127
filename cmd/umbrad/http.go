package main

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/umbra-iot/umbra/internal/rest"
)

const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// newHTTPServer has no timeout of a whole request or response, as event streams and WebSockets last:
// the REST handler bounds its other requests itself.
func (s *server) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// handler routes by hand what is not REST: [http.ServeMux] would clean the paths of topics.
func (s *server) handler() http.Handler {
	api := s.metrics.HTTP(rest.New(rest.Options{
		Things:         s.things,
		Broker:         s.broker,
		Feed:           s.feed,
		Log:            s.log,
		PayloadBytes:   s.cfg.Broker.PayloadBytes,
		RequestTimeout: s.cfg.RequestTimeout,
	}))
	webSocket, scrape := s.broker.WebSocket(), s.metrics.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/mqtt":
			webSocket.ServeHTTP(w, r)
		case "/metrics":
			scrape.ServeHTTP(w, r)
		default:
			api.ServeHTTP(w, r)
		}
	})
}
