package rest

import (
	"math"
	"net/http"
	"strconv"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/quota"
	"github.com/umbra-iot/umbra/shadow"
)

// Quotas bound what each principal uses. The zero value bounds nothing.
type Quotas struct {
	Book *quota.Book                      // with what the principals use over MQTT
	Of   func(*http.Request) quota.Limits // of whoever makes a request; nil: no bounds
}

var (
	errTooManyRequests = &shadow.Error{Code: http.StatusTooManyRequests, Message: "Too Many Requests"}
	errTooManyAtATime  = &shadow.Error{Code: http.StatusTooManyRequests, Message: "Too many connections and requests at a time"}
)

// counted is a handler that each principal may call so often, and so many times at once.
func (a *api) counted(h handler) handler {
	if a.Quotas.Of == nil {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		owner, most := auth.FromContext(r.Context()).Owner(), a.Quotas.Of(r)
		if wait, ok := a.Quotas.Book.Spend(owner, quota.Requests, quota.Cost(1, most.Requests), 0, a.Now()); !ok {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
			return errTooManyRequests
		}
		if !a.Quotas.Book.Take(owner, quota.Connections, 1, most.Connections) {
			w.Header().Set("Retry-After", "1")
			return errTooManyAtATime
		}
		defer a.Quotas.Book.Give(owner, quota.Connections, 1)
		return h(w, r)
	}
}
