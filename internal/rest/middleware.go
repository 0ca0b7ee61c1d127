package rest

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
)

type traceKey struct{}

// TraceID returns the name that a request of HTTP has in answers and in the log, by its context; "" for others.
func TraceID(ctx context.Context) string {
	id, _ := ctx.Value(traceKey{}).(string)
	return id
}

func traceID(r *http.Request) string { return TraceID(r.Context()) }

// identify names each request, and logs it when it is done.
func (a *api) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if traceID(r) != "" { // named already, on its way through Guard
			next.ServeHTTP(w, r)
			return
		}
		begin := time.Now()
		id := uuid.NewString()
		w.Header().Set("x-amzn-RequestId", id)
		w.Header().Set("X-Content-Type-Options", "nosniff") // what clients have sent is of no other type in a browser
		ctx := context.WithValue(r.Context(), traceKey{}, id)
		inner := r.WithContext(ctx)
		next.ServeHTTP(w, inner)
		r.Pattern = inner.Pattern
		a.Log.DebugContext(ctx, "http request",
			"method", r.Method, "path", r.URL.EscapedPath(), "trace_id", id, "duration", time.Since(begin))
	})
}

// recoverPanics turns a defect into an answer and a line in the log.
func (a *api) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v) // net/http's own way to drop a connection
			default:
				a.writeError(w, r, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// refuseUnclean answers paths with empty and dot segments, which [http.ServeMux]
// would redirect to the path without them: of a topic that is another topic.
func (a *api) refuseUnclean(next http.Handler) http.Handler {
	refuse := a.serve(func(http.ResponseWriter, *http.Request) error {
		return refusal(http.StatusNotFound, "No such path: escape each / of a name as %%2F")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") {
			refuse.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// limitTime bounds how long the request may take to be answered. How long it may be read is for [http.Server] to say,
// which knows when it began.
func (a *api) limitTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), a.RequestTimeout)
		defer cancel()
		inner := r.WithContext(ctx)
		next.ServeHTTP(w, inner)
	})
}
