package rest

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/sigv4"
	"github.com/umbra-iot/umbra/shadow"
)

// Authenticate finds out who makes a request. Its error is one of package auth,
// or has a *shadow.Error to answer with.
type Authenticate func(*http.Request) (*auth.Principal, error)

// Guard returns next behind authentication: the requests that it gets carry
// their principal, see [auth.FromContext], all others are answered with 401, or
// with what AWS answers to a signature that is wrong. With nil everybody is let in.
func Guard(who Authenticate, log *slog.Logger, next http.Handler) http.Handler {
	if who == nil {
		return next
	}
	a := newAPI(Options{Log: log})
	return a.identify(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := who(r)
		if err == nil {
			inner := r.WithContext(auth.NewContext(r.Context(), p))
			next.ServeHTTP(w, inner)
			r.Pattern = inner.Pattern
			return
		}
		a.Log.DebugContext(r.Context(), "request is not authenticated",
			"method", r.Method, "path", r.URL.EscapedPath(), "remote", r.RemoteAddr, "trace_id", traceID(r), "error", err)
		a.writeError(w, r, unauthenticated(w, r, err))
	}))
}

// Recognize returns next for requests that nobody has to prove anything for: those that show who makes them, and rightly,
// carry their principal, see [auth.FromContext]. All others go on without one.
func Recognize(who Authenticate, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner := r
		if p, err := who(r); err == nil {
			inner = r.WithContext(auth.NewContext(r.Context(), p))
		}
		next.ServeHTTP(w, inner)
		r.Pattern = inner.Pattern
	})
}

// unauthenticated is what a client is told that is not known.
func unauthenticated(w http.ResponseWriter, r *http.Request, err error) error {
	if told, ok := errors.AsType[*shadow.Error](err); ok {
		return told
	}
	for _, s := range []struct {
		err  error
		text string // as AWS says it
	}{
		{sigv4.ErrKey, "The security token included in the request is invalid."},
		{sigv4.ErrTime, "Signature expired or not yet valid"},
		{sigv4.ErrMalformed, "Authorization is not complete: it needs Credential for iotdata or iotdevicegateway, SignedHeaders with host, Signature, the date, and no X-Amz-Expires but 1 to 604800"},
		{sigv4.ErrSignature, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method."},
	} {
		if errors.Is(err, s.err) {
			return refusal(http.StatusForbidden, "%s", s.text)
		}
	}
	if errors.Is(err, auth.ErrUnavailable) {
		w.Header().Set("Retry-After", "1")
		return refusal(http.StatusServiceUnavailable, "Authentication is not possible now")
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="umbra"`)
	if r.Header.Get("X-Requested-With") == "" { // a browser would ask for a password over the page that asks for one itself
		w.Header().Add("WWW-Authenticate", `Basic realm="umbra", charset="UTF-8"`)
	}
	return refusal(http.StatusUnauthorized, "Unauthorized")
}
