package rest

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/shadow"
)

// need is the permission that an operation asks for.
type need struct {
	action auth.Action // 0: none
	name   func(*http.Request) string
}

// needOf returns what an operation asks for; false when nobody has said.
func needOf(method, pattern string) (need, bool) {
	switch method + " " + pattern {
	case "GET /livez", "GET /readyz", "GET /v1/whoami", "GET /v1/version", "GET /v1/schemas/{$}", "GET /v1/schemas/{file}", "GET /v1/openapi.json":
		return need{}, true // they tell nothing of others; readyz tells more to some
	case "GET /v1/events": // each event is asked for
		return need{}, true
	case "GET /things/{thing}/shadow", "GET /v1/things/{thing}/shadow", "GET /v1/things/{thing}/delta", "GET /v1/things/{thing}/events":
		return need{auth.GetThingShadow, shadowResource}, true
	case "POST /things/{thing}/shadow", "PATCH /v1/things/{thing}/shadow":
		return need{auth.UpdateThingShadow, shadowResource}, true
	case "DELETE /things/{thing}/shadow", "DELETE /v1/things/{thing}/shadow":
		return need{auth.DeleteThingShadow, shadowResource}, true
	case "GET /api/things/shadow/ListNamedShadowsForThing/{thing}", "GET /v1/things/{thing}":
		return need{auth.ListNamedShadows, pathValue("thing")}, true
	case "GET /v1/things":
		return need{auth.ListThings, everything}, true
	case "POST /topics/{topic...}":
		return need{auth.Publish, pathValue("topic")}, true
	case "GET /retainedMessage/{topic...}":
		return need{auth.GetRetainedMessage, pathValue("topic")}, true
	case "GET /retainedMessage":
		return need{auth.ListRetainedMessages, everything}, true
	case "GET /connections/{clientId}":
		return need{auth.GetConnection, pathValue("clientId")}, true
	case "DELETE /connections/{clientId}":
		return need{auth.DeleteConnection, pathValue("clientId")}, true
	case "GET /connections/{clientId}/subscriptions":
		return need{auth.ListSubscriptions, pathValue("clientId")}, true
	}
	return adminNeed(method, pattern)
}

// adminNeed is needOf for what operators do.
func adminNeed(method, pattern string) (need, bool) {
	switch method + " " + pattern {
	case "GET /v1/credentials/{kind}":
		return need{auth.ListCredentials, pathValue("kind")}, true
	case "POST /v1/credentials/{kind}":
		return need{auth.PutCredential, pathValue("kind")}, true
	case "PUT /v1/credentials/{kind}/{id}":
		return need{auth.PutCredential, credentialResource}, true
	case "DELETE /v1/credentials/{kind}/{id}":
		return need{auth.DeleteCredential, credentialResource}, true
	case "GET /v1/policies":
		return need{auth.ListPolicies, everything}, true
	case "GET /v1/policies/{policy}":
		return need{auth.GetPolicy, pathValue("policy")}, true
	case "PUT /v1/policies/{policy}":
		return need{auth.PutPolicy, pathValue("policy")}, true
	case "DELETE /v1/policies/{policy}":
		return need{auth.DeletePolicy, pathValue("policy")}, true
	case "PUT /v1/policies/{policy}/targets/{target}", "DELETE /v1/policies/{policy}/targets/{target}":
		return need{auth.AttachPolicy, pathValue("policy")}, true
	case "GET /v1/registry":
		return need{auth.ListRegistry, everything}, true
	case "GET /v1/registry/{thing}":
		return need{auth.GetRegisteredThing, pathValue("thing")}, true
	case "PUT /v1/registry/{thing}":
		return need{auth.PutRegisteredThing, pathValue("thing")}, true
	case "DELETE /v1/registry/{thing}":
		return need{auth.DeleteRegisteredThing, pathValue("thing")}, true
	case "POST /v1/policy-test":
		return need{auth.TestPolicy, everything}, true
	case "GET /v1/things/{thing}/devices":
		return need{auth.GetThingShadow, pathValue("thing")}, true
	case "GET /v1/mappings/{mapping}", "PUT /v1/mappings/{mapping}", "DELETE /v1/mappings/{mapping}",
		"GET /v1/mapping-events", "POST /v1/mapping-events", "GET /v1/mappings", "GET /v1/mappings/errors", "GET /v1/mappings/orphans", "DELETE /v1/mappings/orphans/{topic...}":
		return need{auth.Administer, everything}, true
	case "GET /v1/audit":
		return need{auth.GetAudit, everything}, true
	}
	return need{auth.Administer, everything}, false
}

func everything(*http.Request) string { return "" }

func pathValue(name string) func(*http.Request) string {
	return func(r *http.Request) string { return r.PathValue(name) }
}

func credentialResource(r *http.Request) string { return r.PathValue("kind") + "/" + r.PathValue("id") }

// audited is a handler of which it is recorded who has changed a credential or a registered thing.
func (a *api) audited(rt Route, h handler) handler {
	n, _ := needOf(rt.Method, rt.Pattern)
	switch n.action {
	case auth.PutCredential, auth.DeleteCredential, auth.PutRegisteredThing, auth.DeleteRegisteredThing:
	default:
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h(w, r)
		a.record(r, n.action, n.name(r), err)
		return err
	}
}

// shadowResource names the shadow that a request is about as policies do: thing, or thing/name.
func shadowResource(r *http.Request) string {
	return resourceOf(shadow.ID{Thing: r.PathValue("thing"), Name: r.URL.Query().Get("name")})
}

func resourceOf(id shadow.ID) string {
	if id.Name == "" {
		return id.Thing
	}
	return id.Thing + "/" + id.Name
}

type rightsKey struct{}

// rightsOf returns what whoever makes a request may do; nil: everything.
func rightsOf(ctx context.Context) auth.Rights {
	r, _ := ctx.Value(rightsKey{}).(auth.Rights)
	return r
}

// permit is a handler that whoever may not call it gets 403 from.
func (a *api) permit(rt Route, h handler) handler {
	if a.Rights == nil {
		return h
	}
	n, _ := needOf(rt.Method, rt.Pattern)
	return func(w http.ResponseWriter, r *http.Request) error {
		rights := a.Rights(r)
		if n.action != 0 && !auth.Allowed(rights, n.action, n.name(r)) {
			return a.forbid(r, n)
		}
		ctx := context.WithValue(r.Context(), rightsKey{}, rights)
		return h(w, r.WithContext(ctx))
	}
}

// still reports whether the request of a stream would be permitted now too, by a credential that still counts.
func (a *api) still(r *http.Request, l *listener) bool {
	if !l.who.CountsAt(a.Now()) {
		return false
	}
	n, _ := needOf(http.MethodGet, r.Pattern)
	return n.action == 0 || auth.Allowed(rightsOf(r.Context()), n.action, n.name(r))
}

// forbid tells the operator why a request is refused, as far as that does not flood the log, and the client no more than that it is.
func (a *api) forbid(r *http.Request, n need) error {
	p := auth.FromContext(r.Context())
	a.quiet.Log(r.Context(), slog.LevelWarn, sourceOf(r), "request denied",
		"principal", p.String(), "action", n.action.String(), "resource", n.action.Resource()+n.name(r), "remote", r.RemoteAddr, "trace_id", traceID(r))
	return errForbidden
}

// sourceOf returns where a request comes from, for the quiet log.
func sourceOf(r *http.Request) string {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return auth.Source(from.Addr()).String()
}

// author says who asks, for the history of shadows.
func author(r *http.Request) shadow.Author {
	by := shadow.Author{Channel: "rest"}
	if p := auth.FromContext(r.Context()); !p.IsAnonymous() {
		by.Principal = p.ID
	}
	return by
}

// Permit returns next for those who may do an action on everything; others get 403.
func Permit(o Options, action auth.Action, next http.Handler) http.Handler {
	a := newAPI(o)
	if a.Rights == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if auth.Allowed(a.Rights(r), action, "") {
			next.ServeHTTP(w, r)
			return
		}
		a.writeError(w, r, a.forbid(r, need{action, everything}))
	})
}
