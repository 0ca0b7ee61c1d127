// Package authn finds out who somebody is: it turns what clients of MQTT and
// HTTP show into principals. Each listener has a list of methods, and only
// those count there.
//
// What is shown has to be right. A client whose password is wrong is refused,
// although its certificate alone would have let it in; who shows nothing is
// nobody where the list has [Anonymous], and is refused elsewhere. Every check
// is bounded in time, memory and number, and one that cannot be made refuses.
package authn

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/auth/password"
	"github.com/umbra-iot/umbra/internal/auth/sigv4"
	"github.com/umbra-iot/umbra/internal/quiet"
)

// Method is a way to prove who one is.
type Method string

// The methods.
const (
	Anonymous   Method = "anonymous"   // showing nothing
	Certificate Method = "certificate" // of the TLS connection
	Password    Method = "password"    // of a user
	Key         Method = "key"         // AWS Signature Version 4
	Token       Method = "token"       // bearer token of Umbra, also as password
	JWT         Method = "jwt"         // of another issuer, also as password
	Webhook     Method = "webhook"     // what somebody else says
)

// Options of an Authenticator.
type Options struct {
	// Methods has the methods of each listener by its name. A listener without
	// any lets everybody in as nobody.
	Methods   map[string][]Method
	Directory *Directory // nil: there are no users, keys and tokens
	Passwords *password.Checker
	JWT       *JWTs     // nil when the method is not used
	Webhook   *Webhooks // nil when the method is not used
	// Certificates reports whether a client certificate of an earlier run, with the proof that FromConnection got, counts
	// now, whatever its time. It is quick, and takes no lock that is held while certificates are taken back. Nil when
	// nobody can tell.
	Certificates func(proof []byte) bool

	Skew      time.Duration // of clocks, for signatures; default 5 min
	BodyBytes int           // of signed requests; default 128 KiB
	// Reserve takes memory for the body of a request by somebody who is not known yet, and returns how to give it
	// back; false when there is none. Nil is no bound.
	Reserve func(r *http.Request, bytes int) (release func(), ok bool)
	Now     func() time.Time
	Log     *slog.Logger                   // of failed logins, some of each address and some in all; default: discard
	Failed  func(context.Context, Attempt) // is told of each failed login and returns at once; nil for nobody
}

// Authenticator is an [auth.Authenticator] for MQTT, and authenticates requests
// of HTTP. Its methods may be called at the same time.
type Authenticator struct {
	Options
	signatures sigv4.Verifier
	failures   failures
}

// New returns an authenticator.
func New(o Options) *Authenticator {
	if o.Directory == nil {
		o.Directory, _ = NewDirectory(DirectoryOptions{}) // there is no file that could not be read
	}
	if o.Passwords == nil {
		o.Passwords = password.NewChecker(password.Options{})
	}
	if o.BodyBytes == 0 {
		o.BodyBytes = 128 << 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Authenticator{Options: o, signatures: sigv4.Verifier{Skew: o.Skew, Now: o.Now}}
	a.failures.log = quiet.New(o.Log, o.Now)
	return a
}

// shown is a secret that a client shows, and what is known of the client.
type shown struct {
	Listener, ClientID, Username, Secret string
	Remote                               netip.Addr
}

// Authenticate implements [auth.Authenticator].
func (a *Authenticator) Authenticate(ctx context.Context, c *auth.Credentials) (*auth.Principal, error) {
	p, err := a.client(ctx, c)
	if err != nil {
		tried := Attempt{Principal: claimed(c.Peer, c.Username), Method: methodOf(c.Peer), Listener: c.Listener, ClientID: c.ClientID, Remote: c.Remote}
		a.fail(ctx, tried, err, "client_id", c.ClientID, "username", told(c.Username))
	}
	return p, err
}

// Recall implements [auth.Authenticator]. Nobody can tell what a webhook would say.
func (a *Authenticator) Recall(p *auth.Principal) {
	switch p.Kind {
	case auth.User, auth.AccessKey, auth.Token:
		a.Directory.follow(p)
	case auth.JWT:
		if a.JWT != nil && p.Proof != nil {
			a.JWT.follow(p)
		}
	case auth.Certificate:
		if a.Certificates != nil && p.Proof != nil {
			followCertificate(p, a.Certificates)
		}
	}
}

// client authenticates a client of MQTT.
func (a *Authenticator) client(ctx context.Context, c *auth.Credentials) (*auth.Principal, error) {
	methods := a.Methods[c.Listener]
	if len(methods) == 0 {
		return auth.Nobody(), nil
	}
	s := shown{Listener: c.Listener, ClientID: c.ClientID, Username: c.Username, Secret: string(c.Password), Remote: c.Remote}
	if c.HasPassword {
		return a.bySecret(ctx, methods, s)
	}
	p, err := a.byPeer(c.Peer, methods)
	if errors.Is(err, auth.ErrNoCredentials) && c.Username != "" && a.uses(methods, Webhook) {
		return a.Webhook.ask(ctx, s)
	}
	return p, err
}

// uses reports whether a method counts and can be used.
func (a *Authenticator) uses(methods []Method, m Method) bool {
	switch m {
	case JWT:
		return a.JWT != nil && slices.Contains(methods, m)
	case Webhook:
		return a.Webhook != nil && slices.Contains(methods, m)
	}
	return slices.Contains(methods, m)
}

// byPeer decides about a client that shows nothing beside its connection.
func (a *Authenticator) byPeer(peer *auth.Principal, methods []Method) (*auth.Principal, error) {
	switch {
	case !peer.CountsAt(a.Now()):
		return nil, fmt.Errorf("%w: what the connection began with does not count any more", auth.ErrDenied)
	case peer != nil && (peer.Kind != auth.Certificate || slices.Contains(methods, Certificate)):
		return peer, nil
	case slices.Contains(methods, Anonymous):
		return auth.Nobody(), nil
	}
	return nil, auth.ErrNoCredentials
}

// bySecret finds the method that a secret is for, and asks it.
func (a *Authenticator) bySecret(ctx context.Context, methods []Method, s shown) (*auth.Principal, error) {
	m := a.methodFor(methods, s)
	p, err := a.ask(ctx, m, s)
	if err != nil {
		return nil, &refusal{method: m, claimed: a.claimOf(m, s), err: err}
	}
	return p, nil
}

// methodFor returns the method that a secret is for, "" for none.
func (a *Authenticator) methodFor(methods []Method, s shown) Method {
	_, _, isToken := credential.SplitToken(s.Secret)
	switch {
	case isToken && a.uses(methods, Token):
		return Token
	case looksLikeJWT(s.Secret) && a.uses(methods, JWT):
		return JWT
	case s.Username != "" && a.uses(methods, Password):
		// A user whose time is over is known: his password is not for the webhook.
		if _, known := a.Directory.Principal(auth.NewID(auth.User, s.Username)); known || !a.uses(methods, Webhook) {
			return Password
		}
		return Webhook
	case a.uses(methods, Webhook):
		return Webhook
	}
	return ""
}

// ask has a method decide about a secret.
func (a *Authenticator) ask(ctx context.Context, m Method, s shown) (*auth.Principal, error) {
	switch m {
	case Token:
		return a.byToken(s.Secret)
	case JWT:
		return a.JWT.verify(ctx, s.Secret)
	case Password:
		return a.byPassword(ctx, s)
	case Webhook:
		return a.Webhook.ask(ctx, s)
	}
	return nil, fmt.Errorf("%w: no method is for what is shown", auth.ErrDenied)
}

func (a *Authenticator) byToken(text string) (*auth.Principal, error) {
	id, secret, _ := credential.SplitToken(text)
	t, ok := a.Directory.token(id)
	if !ok || !t.Verify(secret) {
		return nil, fmt.Errorf("%w: token is not known, expired or wrong", auth.ErrDenied)
	}
	return a.Directory.follow(t.Principal(id)), nil
}

// byPassword takes as long for a user who does not exist as for a wrong password.
func (a *Authenticator) byPassword(ctx context.Context, s shown) (*auth.Principal, error) {
	u, ok := a.Directory.user(s.Username)
	if !ok {
		u = credential.User{}
	}
	right, err := a.Passwords.Verify(ctx, auth.Source(s.Remote).String(), u.Hash, []byte(s.Secret))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", auth.ErrUnavailable, err)
	case !ok:
		return nil, fmt.Errorf("%w: user is not known or expired", auth.ErrDenied)
	case !right:
		return nil, fmt.Errorf("%w: wrong password", auth.ErrDenied)
	}
	return a.Directory.follow(u.Principal(s.Username)), nil
}

// looksLikeJWT reports whether a text has the form of a JWT: three parts, of which the first is a JSON object in base64.
// Passwords of three parts have not.
func looksLikeJWT(s string) bool {
	header, _, _ := strings.Cut(s, ".")
	text, err := base64.RawURLEncoding.DecodeString(header)
	return err == nil && strings.Count(s, ".") == 2 && bytes.HasPrefix(text, []byte("{")) && json.Valid(text)
}
