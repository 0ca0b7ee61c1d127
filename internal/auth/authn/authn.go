// Package authn finds out who somebody is: it turns what clients of MQTT and
// HTTP show into principals. Each listener has a list of methods, and only
// those count there.
//
// What is shown has to be right. A client whose password is wrong is refused,
// although its certificate alone would have let it in; who shows nothing is
// nobody where the list has [Anonymous], and is refused elsewhere.
package authn

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/umbra-iot/umbra/internal/auth"
)

// Method is a way to prove who one is.
type Method string

// The methods.
const (
	Anonymous   Method = "anonymous" // showing nothing
	Certificate Method = "certificate"
	Password    Method = "password"
	Key         Method = "key"
	Token       Method = "token"
	JWT         Method = "jwt"
	Webhook     Method = "webhook"
)

// Options of an Authenticator.
type Options struct {
	// Methods has the methods of each listener by its name. A listener without
	// any lets everybody in as nobody.
	Methods map[string][]Method
}

// Authenticator is an [auth.Authenticator] for MQTT, and authenticates requests
// of HTTP. Its methods may be called at the same time.
type Authenticator struct {
	methods map[string][]Method
}

// New returns an authenticator.
func New(o Options) *Authenticator { return &Authenticator{methods: o.Methods} }

// Authenticate implements [auth.Authenticator].
func (a *Authenticator) Authenticate(_ context.Context, c *auth.Credentials) (*auth.Principal, error) {
	methods := a.methods[c.Listener]
	if len(methods) == 0 {
		return auth.Nobody(), nil
	}
	if c.HasPassword {
		return nil, fmt.Errorf("%w: no method of %s takes a password", auth.ErrDenied, c.Listener)
	}
	return byPeer(c.Peer, methods)
}

// byPeer decides about a client that shows nothing beside its connection.
func byPeer(peer *auth.Principal, methods []Method) (*auth.Principal, error) {
	switch {
	case peer != nil && (peer.Kind != auth.Certificate || slices.Contains(methods, Certificate)):
		return peer, nil
	case slices.Contains(methods, Anonymous):
		return auth.Nobody(), nil
	}
	return nil, auth.ErrNoCredentials
}

// Request authenticates a request of HTTP that came by a listener. peer is who
// the connection itself says that the client is, nil for nobody.
func (a *Authenticator) Request(r *http.Request, listener string, peer *auth.Principal) (*auth.Principal, error) {
	methods := a.methods[listener]
	if len(methods) == 0 {
		return auth.Nobody(), nil
	}
	if ShowsCredentials(r) {
		return nil, fmt.Errorf("%w: no method of %s takes them", auth.ErrDenied, listener)
	}
	return byPeer(peer, methods)
}

// ShowsCredentials reports whether a request itself, and not only its connection, says who makes it.
func ShowsCredentials(r *http.Request) bool {
	return r.Header.Get("Authorization") != "" || r.URL.Query().Has("X-Amz-Signature")
}
