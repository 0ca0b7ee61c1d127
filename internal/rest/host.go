package rest

import (
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// RefuseOtherHosts returns next behind a check of the host that requests are
// for: an IP address, localhost or a name that ends with it, or one that a
// pattern of names is for. Others are answered with 421. A page whose site has
// a name of its own, which leads to this server by now (DNS rebinding), is so
// kept from what it could reach otherwise, as to its browser it is the server's
// own.
func RefuseOtherHosts(names []string, log *slog.Logger, next http.Handler) http.Handler {
	a := newAPI(Options{Log: log})
	refuse := a.identify(a.serve(func(_ http.ResponseWriter, r *http.Request) error {
		a.quiet.Log(r.Context(), slog.LevelWarn, sourceOf(r), "request refused: the setting hosts does not list its host",
			"host", r.Host, "remote", r.RemoteAddr, "trace_id", traceID(r))
		return refusal(http.StatusMisdirectedRequest, "Requests may not be for this host: use localhost or an IP address, or list the name in the setting hosts")
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isOwnHost(r.Host, names) {
			refuse.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isOwnHost reports whether a host, perhaps with a port, is one of this machine whoever resolves it, or one of names.
func isOwnHost(host string, names []string) bool {
	name := (&url.URL{Host: host}).Hostname()
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	for _, p := range names {
		if ok, _ := path.Match(strings.ToLower(p), name); ok { // the settings have no bad patterns
			return true
		}
	}
	return false
}
