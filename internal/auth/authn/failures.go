package authn

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/quiet"
)

// Attempt is a login that has failed. What the client has made up is in it as it came, of any length; what was to
// prove it is not.
type Attempt struct {
	Principal string // ID of who the client claims to be, "anonymous" when it claims nothing
	Method    Method // that it tried; "" when no method is for what it shows
	Listener  string
	ClientID  string // "" over HTTP
	Remote    netip.Addr
	Err       error
}

// Reason says why, in words.
func (a Attempt) Reason() string {
	if errors.Is(a.Err, auth.ErrNoCredentials) {
		return "nothing was shown that counts here"
	}
	text := strings.TrimPrefix(a.Err.Error(), auth.ErrDenied.Error()+": ")
	text = strings.TrimPrefix(text, "auth: ")
	if a.Method == "" {
		return text
	}
	return string(a.Method) + ": " + text
}

// refusal is why a login has failed, and what was tried.
type refusal struct {
	method  Method
	claimed string // ID of a principal
	err     error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Failures counts failed logins since the start.
type Failures struct {
	None        int64 // nothing was shown that counts
	Denied      int64 // what was shown is wrong
	Unavailable int64 // nobody could tell
}

// failures counts failed logins, and logs them as far as that does not flood the log: guessing costs disk space else.
type failures struct {
	log *quiet.Log

	mu    sync.Mutex // guards what follows
	count Failures
}

// note counts a failed login.
func (f *failures) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, auth.ErrNoCredentials):
		f.count.None++
	case errors.Is(err, auth.ErrUnavailable):
		f.count.Unavailable++
	default:
		f.count.Denied++
	}
}

// add counts a failed login and perhaps logs it. The error says nothing that is secret.
func (f *failures) add(ctx context.Context, a Attempt, attrs ...any) {
	f.note(a.Err)
	f.log.Log(ctx, slog.LevelWarn, auth.Source(a.Remote).String(), "login failed",
		append(attrs, "principal", a.Principal, "listener", a.Listener, "remote", a.Remote.String(), "error", a.Err.Error())...)
}

// Failures returns how many logins have failed.
func (a *Authenticator) Failures() Failures {
	a.failures.mu.Lock()
	defer a.failures.mu.Unlock()
	return a.failures.count
}

// fail notes a failed login: counts it, perhaps logs it with attrs, and tells of it.
func (a *Authenticator) fail(ctx context.Context, tried Attempt, err error, attrs ...any) {
	if r, ok := errors.AsType[*refusal](err); ok {
		tried.Method, tried.Principal = r.method, r.claimed
	}
	tried.Err = err
	a.failures.add(ctx, tried, attrs...)
	if a.Options.Failed != nil {
		a.Options.Failed(ctx, tried)
	}
}

// RefuseCertificate notes that a client could not connect at a listener with its certificate, which need not be
// verified, and why.
func (a *Authenticator) RefuseCertificate(ctx context.Context, listener string, remote netip.Addr, cert *x509.Certificate, why error) {
	tried := Attempt{
		Principal: auth.NewID(auth.Certificate, auth.CertificateID(cert)), Method: Certificate, Listener: listener, Remote: remote,
	}
	a.fail(ctx, tried, fmt.Errorf("%w: %q: %w", auth.ErrDenied, cert.Subject.CommonName, why))
}

// claimed is who a client says it is that shows no secret.
func claimed(peer *auth.Principal, username string) string {
	if peer.IsAnonymous() && username != "" {
		return auth.NewID(auth.User, told(username))
	}
	return peer.String()
}

// told is a user name as it is written down: of a token that is shown in its place, only how it begins.
func told(username string) string {
	id, secret, _ := credential.SplitToken(username)
	switch {
	case credential.IsTokenID(id):
		return strings.TrimSuffix(username, secret) + "…"
	case looksLikeJWT(username):
		return "ey…"
	}
	return username
}

// methodOf returns how a connection has proved who it is, "" when it has not.
func methodOf(peer *auth.Principal) Method {
	switch {
	case peer.IsAnonymous():
		return ""
	case peer.Kind == auth.Certificate:
		return Certificate
	case peer.Kind == auth.User:
		return Password
	}
	return Method(peer.Kind)
}

// claimOf is who a client says it is that shows a secret for a method.
func (a *Authenticator) claimOf(m Method, s shown) string {
	kind, name := auth.User, told(s.Username)
	switch m {
	case Token:
		kind = auth.Token
		name, _, _ = credential.SplitToken(s.Secret)
		if _, known := a.Directory.Principal(auth.NewID(kind, name)); !known && !credential.IsTokenID(name) {
			name = "" // it may be a part of a password
		}
	case JWT:
		if kind = auth.JWT; len(s.Secret) <= a.JWT.o.Bytes {
			name = subjectOf(s.Secret)
		}
	case Webhook:
		kind = auth.Webhook
	}
	if name == "" {
		return string(auth.Anonymous)
	}
	return auth.NewID(kind, name)
}

// claimOfKey is who a signed request says it is from: the id of an access key.
func (a *Authenticator) claimOfKey(id string) string {
	claimed := auth.NewID(auth.AccessKey, id)
	if _, known := a.Directory.Principal(claimed); !known && !credential.IsKeyID(id) {
		return string(auth.Anonymous) // it may be a secret
	}
	return claimed
}

// subjectOf is what a JWT, which is not verified, says of whom it is; "" for nothing.
func subjectOf(token string) string {
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Subject == "" {
		return ""
	}
	return claims.Issuer + "#" + claims.Subject
}
