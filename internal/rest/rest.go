// Package rest is the HTTP API: the AWS IoT data plane with AWS's paths,
// bodies, headers and errors, and Umbra's own API under /v1/, which adds what
// AWS has no name for: lists of things, entity tags, single values of a
// document, streams of changes.
//
// A handler translates one request to calls of [things.Service] or
// [broker.Broker] and returns an error; one function writes errors, as AWS
// does or as problem+json (RFC 9457), and decides what is logged.
//
// openapi.json describes every route, and the tests hold the two together.
package rest

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/presence"
	"github.com/umbra-iot/umbra/internal/audit"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/mappings"
	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/internal/quiet"
	"github.com/umbra-iot/umbra/things"
)

// Defaults of Options.
const (
	DefaultPayloadBytes   = 128 << 10
	DefaultRequestTimeout = 10 * time.Second
	DefaultKeepAlive      = 15 * time.Second
)

// AnswerTimeouts is how many times Options.RequestTimeout a client may take until it has an answer, or what is sent of an
// event stream at once. Then its connection ends.
const AnswerTimeouts = 3

// Options of the handler. Things, Broker and Feed are required.
type Options struct {
	Things         *things.Service
	Broker         *broker.Broker
	Feed           *Feed               // gets the messages that Broker gets
	Log            *slog.Logger        // default: discards
	Now            func() time.Time    // default time.Now
	PayloadBytes   int                 // of a request body; default 128 KiB
	RequestTimeout time.Duration       // for the answer, streams aside, see AnswerTimeouts; default 10 s
	Objects        *objects.Store      // has the credentials, policies and mappings
	Mappings       *mappings.Directory // with Objects, for mappings of the store; nil: there are none
	Sealer         *credential.Sealer
	Rights         func(*http.Request) auth.Rights   // of whoever makes a request; nil: everything is allowed
	Engine         *authz.Engine                     // with Objects, for /v1/policies; nil: there are none
	Audit          *audit.Log                        // nil records nothing
	Quotas         Quotas                            // of principals
	Presence       func(thing string) presence.State // whether a thing is connected; nil: that is not kept, and not shown
	Warnings       func() []string                   // about settings and files, told by /readyz?verbose to those who may see metrics; nil: there are none
	KeepAlive      time.Duration                     // between signs of life on a silent stream; default 15 s
}

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.PayloadBytes == 0 {
		o.PayloadBytes = DefaultPayloadBytes
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = DefaultRequestTimeout
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = DefaultKeepAlive
	}
}

// api has the handlers as methods.
type api struct {
	Options
	quiet *quiet.Log // for what clients can bring about as often as they like
	ready readiness
}

func newAPI(o Options) *api {
	o.setDefaults()
	return &api{Options: o, quiet: quiet.New(o.Log, o.Now)}
}

// handler answers a request, or returns why not before it has written anything.
type handler func(w http.ResponseWriter, r *http.Request) error

// Route is an operation of the API.
type Route struct {
	Method  string
	Pattern string // of [http.ServeMux], without method
	Query   string // names of the parameters of the query, with spaces between them
	stream  bool   // goes on until somebody ends it
	handle  handler
}

// New returns the handler of the HTTP API. After it has served a request, the
// Pattern of that request is the one of the route, for metrics. Requests are
// read as long as the ReadTimeout of the server allows.
func New(o Options) http.Handler {
	a := newAPI(o)
	byPattern := map[string][]Route{}
	for _, rt := range a.routes() {
		byPattern[rt.Pattern] = append(byPattern[rt.Pattern], rt)
	}
	mux := http.NewServeMux()
	for pattern, routes := range byPattern {
		mux.Handle(pattern, a.dispatch(routes))
	}
	mux.Handle("/", a.serve(notFound))
	return a.identify(a.recoverPanics(a.refuseUnclean(mux)))
}

// Routes returns all operations, in the order of the documentation.
func Routes() []Route { return (&api{}).routes() }

func (a *api) routes() []Route {
	get, post, put, patch, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	return append(append(a.policyRoutes(), a.mappingRoutes()...), []Route{
		{get, "/things/{thing}/shadow", "name", false, a.getThingShadow},
		{post, "/things/{thing}/shadow", "name", false, a.updateThingShadow},
		{del, "/things/{thing}/shadow", "name", false, a.deleteThingShadow},
		{get, "/api/things/shadow/ListNamedShadowsForThing/{thing}", "pageSize nextToken", false, a.listNamedShadows},
		{post, "/topics/{topic...}", "qos retain contentType responseTopic messageExpiry", false, a.publish},
		{get, "/retainedMessage/{topic...}", "", false, a.getRetainedMessage},
		{get, "/retainedMessage", "maxResults nextToken", false, a.listRetainedMessages},
		{get, "/connections/{clientId}", "includeSocketInformation", false, a.getConnection},
		{del, "/connections/{clientId}", "cleanSession preventWillMessage", false, a.deleteConnection},
		{get, "/connections/{clientId}/subscriptions", "maxResults nextToken", false, a.listSubscriptions},

		{get, "/v1/things", "prefix limit page", false, a.listThings},
		{get, "/v1/things/{thing}", "", false, a.getThing},
		{get, "/v1/things/{thing}/shadow", "name path", false, a.getShadow},
		{patch, "/v1/things/{thing}/shadow", "name", false, a.patchShadow},
		{del, "/v1/things/{thing}/shadow", "name", false, a.deleteShadow},
		{get, "/v1/things/{thing}/delta", "name", false, a.getDelta},
		{get, "/v1/things/{thing}/events", "name lastEventId snapshot", true, a.shadowEvents},
		{get, "/v1/events", "prefix lastEventId", true, a.allEvents},
		{get, "/v1/things/{thing}/devices", "", false, a.getDevices},
		{get, "/v1/mappings", "", false, a.listMappings},
		{get, "/v1/mapping-events", "match all seconds", true, a.watchMappings},
		{post, "/v1/mapping-events", "match all seconds", true, a.watchMappings},
		{get, "/v1/mappings/errors", "", false, a.mappingErrors},
		{get, "/v1/mappings/orphans", "limit", false, a.listOrphans},
		{del, "/v1/mappings/orphans/{topic...}", "", false, a.deleteOrphan},
		{get, "/v1/credentials/{kind}", "", false, a.listCredentials},
		{post, "/v1/credentials/{kind}", "", false, a.makeCredential},
		{put, "/v1/credentials/{kind}/{id}", "", false, a.putUser},
		{del, "/v1/credentials/{kind}/{id}", "", false, a.deleteCredential},
		{get, "/v1/whoami", "", false, a.getWhoami},
		{get, "/v1/version", "", false, a.getVersion},
		{get, "/v1/schemas/{$}", "", false, a.listSchemas},
		{get, "/v1/schemas/{file}", "", false, a.getSchema},
		{get, "/v1/openapi.json", "", false, a.getOpenAPI},

		{get, "/livez", "", false, a.livez},
		{get, "/readyz", "verbose", false, a.readyz},
	}...)
}

// dispatch chooses among the operations on one path.
func (a *api) dispatch(routes []Route) http.Handler {
	handlers := map[string]http.Handler{}
	for _, rt := range routes {
		h := a.serve(a.counted(a.permit(rt, a.audited(rt, rt.checked()))))
		if !rt.stream {
			h = a.limitTime(h)
		}
		handlers[rt.Method] = h
		if rt.Method == http.MethodGet && !rt.stream {
			handlers[http.MethodHead] = h
		}
	}
	var allow []string
	for method := range handlers {
		allow = append(allow, method)
	}
	slices.Sort(allow)
	refuse := a.serve(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		return refusal(http.StatusMethodNotAllowed, "Method %s is not allowed on this path", r.Method)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, ok := handlers[r.Method]; ok {
			h.ServeHTTP(w, r)
			return
		}
		refuse.ServeHTTP(w, r)
	})
}

// checked is the handler of a route, which sees no query that could be misunderstood: a parameter that is left out of
// account may be what the change of a whole shadow was to be confined by. The native API therefore refuses parameters
// that the route does not know; AWS ignores them.
func (rt Route) checked() handler {
	known, strict := strings.Fields(rt.Query), strings.HasPrefix(rt.Pattern, "/v1/")
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := checkQuery(r, known, strict); err != nil {
			return err
		}
		return rt.handle(w, r)
	}
}

// serve makes a handler one of net/http.
func (a *api) serve(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.writeError(w, r, err)
		}
	})
}

func notFound(http.ResponseWriter, *http.Request) error {
	return refusal(http.StatusNotFound, "No such path")
}
