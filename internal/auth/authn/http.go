package authn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/sigv4"
)

// ErrTooLarge is the error of a signed request whose body is too large to be verified.
var ErrTooLarge = errors.New("authn: body of a signed request is too large")

// Request authenticates a request of HTTP that came by a listener. peer is who
// the connection itself says that the client is, nil for nobody. The errors of
// signed requests are those of package sigv4 too.
func (a *Authenticator) Request(r *http.Request, listener string, peer *auth.Principal) (*auth.Principal, error) {
	var remote netip.Addr
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		remote = from.Addr().Unmap()
	}
	p, err := a.request(r, listener, peer, remote)
	if errors.Is(err, auth.ErrNoCredentials) && r.Header.Get("X-Requested-With") != "" {
		a.failures.note(err) // a page wants to know whether it has to ask for a login
		return nil, err
	}
	if err != nil {
		username, _, _ := r.BasicAuth()
		tried := Attempt{Principal: claimed(peer, ""), Method: methodOf(peer), Listener: listener, Remote: remote}
		a.fail(r.Context(), tried, err, "method", r.Method, "path", r.URL.EscapedPath(), "username", told(username))
	}
	return p, err
}

// request does Request for one that comes from an address.
func (a *Authenticator) request(r *http.Request, listener string, peer *auth.Principal, remote netip.Addr) (*auth.Principal, error) {
	methods := a.Methods[listener]
	if len(methods) == 0 {
		return auth.Nobody(), nil
	}
	if sigv4.IsSigned(r) {
		return a.bySignature(r, methods)
	}
	s := shown{Listener: listener, Remote: remote}
	header := r.Header.Get("Authorization")
	scheme, rest, _ := strings.Cut(header, " ")
	switch {
	case header == "":
		return a.byPeer(peer, methods)
	case strings.EqualFold(scheme, "Bearer"):
		s.Secret = strings.TrimSpace(rest)
		return a.bySecret(r.Context(), methods, s)
	}
	var ok bool
	if s.Username, s.Secret, ok = r.BasicAuth(); !ok {
		return nil, fmt.Errorf("%w: scheme of Authorization is not known", auth.ErrDenied)
	}
	return a.bySecret(r.Context(), methods, s)
}

// ShowsCredentials reports whether a request itself, and not only its connection, says who makes it.
func ShowsCredentials(r *http.Request) bool {
	return r.Header.Get("Authorization") != "" || sigv4.IsSigned(r)
}

// bySignature finds out who has signed a request.
func (a *Authenticator) bySignature(r *http.Request, methods []Method) (*auth.Principal, error) {
	id, err := sigv4.Key(r)
	if err != nil {
		return nil, &refusal{Key, string(auth.Anonymous), fmt.Errorf("%w: %w", auth.ErrDenied, err)}
	}
	if !a.uses(methods, Key) {
		return nil, &refusal{Key, a.claimOfKey(id), fmt.Errorf("%w: signatures do not count here", auth.ErrDenied)}
	}
	p, err := a.byKey(r, id)
	if err != nil {
		return nil, &refusal{Key, a.claimOfKey(id), err}
	}
	return p, nil
}

// byKey reads the body, whose hash is signed, and puts it back. Before that it looks at all else.
func (a *Authenticator) byKey(r *http.Request, id string) (*auth.Principal, error) {
	if err := a.signatures.CheckTime(r); err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrDenied, err)
	}
	key, ok := a.Directory.key(id)
	if !ok {
		return nil, fmt.Errorf("%w: %w", auth.ErrDenied, sigv4.ErrKey)
	}
	body, err := a.readBody(r)
	if err != nil {
		return nil, err
	}
	if err := a.signatures.Verify(r, body, key.Secret); err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrDenied, err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return a.Directory.follow(key.Principal(id)), nil
}

// readBody reads a body of bounded size, whose memory counts as that of a stranger while it is read.
func (a *Authenticator) readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > int64(a.BodyBytes) {
		return nil, ErrTooLarge
	}
	if a.Reserve != nil {
		size := a.BodyBytes
		if r.ContentLength > 0 {
			size = int(r.ContentLength)
		}
		release, ok := a.Reserve(r, size)
		if !ok {
			return nil, fmt.Errorf("%w: too many signed requests at a time", auth.ErrUnavailable)
		}
		defer release()
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(a.BodyBytes)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrDenied, err)
	}
	if len(body) > a.BodyBytes {
		return nil, ErrTooLarge
	}
	return body, nil
}
