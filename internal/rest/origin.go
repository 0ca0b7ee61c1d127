package rest

import (
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// RefuseOtherSites returns next behind a check of where browsers have their
// requests from: what a page of another site than the server's own wants to
// change is answered with 403, unless origins list the site. They are patterns
// of hosts, as those of WebSockets are. Programs that are no browsers are not
// concerned, and neither is what only reads: no page of another site gets to see
// the answer.
func RefuseOtherSites(origins []string, log *slog.Logger, next http.Handler) http.Handler {
	a := newAPI(Options{Log: log})
	var protection http.CrossOriginProtection
	refuse := a.identify(a.serve(func(http.ResponseWriter, *http.Request) error {
		return refusal(http.StatusForbidden, "Pages of other sites may change nothing, unless the setting websocket-origins lists them")
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if protection.Check(r) != nil && !isListed(r.Header.Get("Origin"), origins) {
			refuse.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isListed reports whether one of the patterns is for an origin.
func isListed(origin string, patterns []string) bool {
	u, err := url.Parse(strings.ToLower(origin))
	if err != nil {
		return false
	}
	for _, p := range patterns {
		site := u.Host
		if strings.Contains(p, "://") {
			site = u.Scheme + "://" + u.Host
		}
		if ok, _ := path.Match(strings.ToLower(p), site); ok { // the settings have no bad patterns
			return true
		}
	}
	return false
}
