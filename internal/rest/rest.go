// Package rest is the HTTP API: the AWS IoT data plane, and Umbra's own API
// under /v1/.
package rest

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/things"
)

// Options of the handler. Things, Broker and Feed are required.
type Options struct {
	Things         *things.Service
	Broker         *broker.Broker
	Feed           *Feed
	Log            *slog.Logger     // default slog.Default()
	Now            func() time.Time // default time.Now
	PayloadBytes   int              // a request body; default 128 KiB
	RequestTimeout time.Duration    // of one request, streams aside; default 10 s
}

// New returns the handler of the HTTP API.
func New(o Options) http.Handler {
	return http.NotFoundHandler()
}
