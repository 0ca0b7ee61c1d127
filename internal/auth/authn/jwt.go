package authn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/credential"
)

// JWTOptions say which tokens of another issuer count.
type JWTOptions struct {
	Keys       string        // JWKS: a file, or an http(s) URL
	Interval   time.Duration // between two looks at a URL; default 10 min
	Issuer     string        // iss has to be this
	Audience   string        // aud has to have this
	Algorithms []string      // default RS256, PS256, ES256, EdDSA; never one with a shared secret
	NameClaim  string        // default sub
	GroupClaim string        // default groups
	Bytes      int           // of a token at most; default 16 KiB
	Client     *http.Client
	Now        func() time.Time
	Log        *slog.Logger // default: discard
}

// JWTs verifies tokens of another issuer. Its methods may be called at the same time.
type JWTs struct {
	o          JWTOptions
	algorithms []jose.SignatureAlgorithm
	keys       keySet
}

// JWTAlgorithms are those that may count: of key pairs.
func JWTAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// NewJWTs returns a verifier. It reads the keys of a file, and fails when that cannot be done; those of a URL it does
// not read yet, since the issuer need not be there.
func NewJWTs(o JWTOptions) (*JWTs, error) {
	if o.Issuer == "" || o.Audience == "" {
		return nil, errors.New("authn: JWTs need an issuer and an audience")
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	if o.Bytes == 0 {
		o.Bytes = 16 << 10
	}
	if o.NameClaim == "" {
		o.NameClaim = "sub"
	}
	if o.GroupClaim == "" {
		o.GroupClaim = "groups"
	}
	if o.Client == nil {
		o.Client = newClient(5 * time.Second)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Interval == 0 {
		o.Interval = 10 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	j := &JWTs{o: o, keys: keySet{source: o.Keys, interval: o.Interval, client: o.Client, now: o.Now, log: o.Log}}
	for _, name := range o.Algorithms {
		if !slices.Contains(JWTAlgorithms(), name) {
			return nil, fmt.Errorf("authn: algorithm %q is not one of %s", name, strings.Join(JWTAlgorithms(), ", "))
		}
		j.algorithms = append(j.algorithms, jose.SignatureAlgorithm(name))
	}
	if j.keys.remote() {
		return j, nil
	}
	j.keys.load(context.Background())
	if err := j.keys.state.Problem(); err != nil {
		return nil, err
	}
	return j, nil
}

// Refresh reads the keys again when that is due: a file that has changed, a URL after the interval; or, when forced,
// in any case. Keys that cannot be read leave the old ones in force; the log says why.
func (j *JWTs) Refresh(ctx context.Context, force bool) { j.keys.refresh(ctx, force) }

// OnChange has fn called after each change of the keys. It is set before the first one.
func (j *JWTs) OnChange(fn func()) { j.keys.changed = fn }

// Problems tells what cannot be used now, so that something older is in force.
func (j *JWTs) Problems() []string {
	j.keys.mu.Lock()
	defer j.keys.mu.Unlock()
	switch {
	case j.keys.state.Problem() != nil:
		return []string{"keys for JWT cannot be read, the old ones are in force; the log says why"}
	case len(j.keys.keys) == 0 && !j.keys.read.IsZero():
		return []string{"jwt-keys: there is no public key for signatures among them, so no JWT counts"}
	}
	return nil
}

// newClient returns a client that goes where it is told and nowhere else.
func newClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// withoutURL is an error of a client without the URL, whose query may have a secret in it.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// verify returns the principal of a token.
func (j *JWTs) verify(ctx context.Context, text string) (*auth.Principal, error) {
	if len(text) > j.o.Bytes {
		return nil, fmt.Errorf("%w: JWT is too long", auth.ErrDenied)
	}
	token, err := jwt.ParseSigned(text, j.algorithms)
	if err != nil || len(token.Headers) != 1 {
		return nil, fmt.Errorf("%w: JWT: %w", auth.ErrDenied, err)
	}
	claims, all, thumbprint, err := j.open(ctx, token)
	if err != nil {
		return nil, err
	}
	now := j.o.Now()
	if claims.Expiry == nil {
		return nil, fmt.Errorf("%w: JWT never expires", auth.ErrDenied)
	}
	if err := claims.ValidateWithLeeway(jwt.Expected{Issuer: j.o.Issuer, AnyAudience: jwt.Audience{j.o.Audience}, Time: now}, time.Minute); err != nil {
		return nil, fmt.Errorf("%w: JWT: %w", auth.ErrDenied, err)
	}
	name, _ := all[j.o.NameClaim].(string)
	if claims.Subject == "" || name == "" || len(name) > credential.MaxName {
		return nil, fmt.Errorf("%w: JWT has no sub or no usable %s", auth.ErrDenied, j.o.NameClaim)
	}
	return j.follow(&auth.Principal{
		ID: auth.NewID(auth.JWT, claims.Issuer+"#"+claims.Subject), Kind: auth.JWT, Name: name,
		Groups: stringsOf(all[j.o.GroupClaim]), Expires: claims.Expiry.Time().Add(time.Minute), Proof: []byte(thumbprint),
	}), nil
}

// follow has p, whose proof is the thumbprint of the key of his token, know when the issuer withdraws that.
func (j *JWTs) follow(p *auth.Principal) *auth.Principal {
	p.Standing = func() auth.Standing {
		if !j.keys.has(string(p.Proof)) {
			return auth.Withdrawn
		}
		return auth.Unchanged
	}
	return p
}

// open returns the claims of a token that is signed by a key of the issuer, and the thumbprint of that one. When a token
// does not say by which, and it is none of those that are known, there may be a new one.
func (j *JWTs) open(ctx context.Context, token *jwt.JSONWebToken) (claims jwt.Claims, all map[string]any, thumbprint string, err error) {
	h := token.Headers[0]
	keys, err := j.keys.find(ctx, h, nil)
	if err != nil {
		return claims, nil, "", err
	}
	claims, all, thumbprint, err = claimsOf(token, keys)
	if h.KeyID == "" && errors.Is(err, jose.ErrCryptoFailure) {
		if keys, err = j.keys.find(ctx, h, keys); err != nil {
			return claims, nil, "", err
		}
		claims, all, thumbprint, err = claimsOf(token, keys)
	}
	if err != nil {
		return claims, nil, "", fmt.Errorf("%w: JWT: %w", auth.ErrDenied, err)
	}
	return claims, all, thumbprint, nil
}

// claimsOf returns the claims of a token that is signed by one of the keys, and the thumbprint of that one.
func claimsOf(token *jwt.JSONWebToken, keys []signingKey) (claims jwt.Claims, all map[string]any, thumbprint string, err error) {
	for i := range keys {
		if err = token.Claims(keys[i].Key, &claims, &all); err == nil {
			return claims, all, keys[i].thumbprint, nil
		}
	}
	return jwt.Claims{}, nil, "", err
}

// stringsOf is a claim that is a list of strings, or one of them.
func stringsOf(claim any) []string {
	switch v := claim.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		var list []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	return nil
}
