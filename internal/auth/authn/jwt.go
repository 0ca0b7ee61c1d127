package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/credential"
)

// Bounds of what is read of others.
const (
	maxJWT  = 16 << 10
	maxJWKS = 1 << 20
)

// Times of the keys of an issuer.
const (
	keysFresh  = 10 * time.Minute // then they are read again
	keysPause  = 10 * time.Second // between two attempts to find a key that is not known
	keysExpiry = 24 * time.Hour   // of keys that cannot be read again
)

// JWTOptions say which tokens of another issuer count.
type JWTOptions struct {
	Keys       string   // JWKS: a file, or an http(s) URL
	Issuer     string   // iss has to be this
	Audience   string   // aud has to have this
	Algorithms []string // default RS256, PS256, ES256, EdDSA; never one with a shared secret
	NameClaim  string   // default sub
	GroupClaim string   // default groups
	Client     *http.Client
	Now        func() time.Time
}

// JWTs verifies tokens of another issuer. Its methods may be called at the same time.
type JWTs struct {
	o          JWTOptions
	algorithms []jose.SignatureAlgorithm

	reading sync.Mutex // is held while the keys are read
	mu      sync.Mutex // guards what follows
	keys    jose.JSONWebKeySet
	read    time.Time   // when keys were read
	tried   time.Time   // when they were to be read last
	seen    os.FileInfo // of the file of the keys, when it was looked at last; nil when it was not there
	missing error
}

// JWTAlgorithms are those that may count: of key pairs.
func JWTAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// NewJWTs returns a verifier. It reads no keys yet.
func NewJWTs(o JWTOptions) (*JWTs, error) {
	if o.Issuer == "" || o.Audience == "" {
		return nil, errors.New("authn: JWTs need an issuer and an audience")
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
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
	j := &JWTs{o: o}
	for _, name := range o.Algorithms {
		if !slices.Contains(JWTAlgorithms(), name) {
			return nil, fmt.Errorf("authn: algorithm %q is not one of %s", name, strings.Join(JWTAlgorithms(), ", "))
		}
		j.algorithms = append(j.algorithms, jose.SignatureAlgorithm(name))
	}
	return j, nil
}

// newClient returns a client that goes where it is told and nowhere else.
func newClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// verify returns the principal of a token.
func (j *JWTs) verify(ctx context.Context, text string) (*auth.Principal, error) {
	if len(text) > maxJWT {
		return nil, fmt.Errorf("%w: JWT is too long", auth.ErrDenied)
	}
	token, err := jwt.ParseSigned(text, j.algorithms)
	if err != nil || len(token.Headers) != 1 {
		return nil, fmt.Errorf("%w: JWT: %w", auth.ErrDenied, err)
	}
	key, err := j.key(ctx, token.Headers[0])
	if err != nil {
		return nil, err
	}
	var (
		claims jwt.Claims
		all    map[string]any
	)
	if err := token.Claims(key.Key, &claims, &all); err != nil {
		return nil, fmt.Errorf("%w: JWT: %w", auth.ErrDenied, err)
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
	return &auth.Principal{
		ID: auth.NewID(auth.JWT, claims.Issuer+"#"+claims.Subject), Kind: auth.JWT, Name: name,
		Groups: stringsOf(all[j.o.GroupClaim]), Expires: claims.Expiry.Time().Add(time.Minute),
	}, nil
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

// key returns the key that a token names. One that is not known may be new.
func (j *JWTs) key(ctx context.Context, h jose.Header) (*jose.JSONWebKey, error) {
	k, due, tried := j.known(h)
	switch {
	case k != nil && !due:
		return k, nil
	case k == nil:
		j.reading.Lock()
	case !j.reading.TryLock(): // the key counts while somebody reads
		return k, nil
	}
	defer j.reading.Unlock()
	if due {
		j.refresh(ctx, tried)
	}
	if k, _, _ := j.known(h); k != nil {
		return k, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.missing != nil {
		return nil, fmt.Errorf("%w: keys of the issuer: %w", auth.ErrUnavailable, j.missing)
	}
	return nil, fmt.Errorf("%w: JWT is signed by a key that the issuer does not have", auth.ErrDenied)
}

// known returns the key for a header, if it counts, whether the keys have to be read, and when they were to be last.
func (j *JWTs) known(h jose.Header) (k *jose.JSONWebKey, due bool, tried time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.o.Now()
	if now.Sub(j.read) < keysExpiry {
		k = j.find(h)
	}
	stale := k == nil || now.Sub(j.read) > keysFresh
	return k, j.replaced() || stale && now.Sub(j.tried) > keysPause, j.tried
}

// refresh reads the keys, unless somebody else has done so since tried. j.reading is held.
func (j *JWTs) refresh(ctx context.Context, tried time.Time) {
	j.mu.Lock()
	done := !j.tried.Equal(tried)
	if !done {
		j.tried = j.o.Now()
	}
	j.mu.Unlock()
	if done {
		return
	}
	keys, err := j.load(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.missing = err; err == nil {
		j.keys, j.read = *keys, j.tried
	}
}

// replaced reports whether the keys are in a file that is not as it was.
func (j *JWTs) replaced() bool {
	if j.remote() {
		return false
	}
	info, err := os.Stat(j.o.Keys)
	if err != nil {
		info = nil
	}
	was := j.seen
	j.seen = info
	return !same(info, was)
}

func (j *JWTs) remote() bool {
	return strings.HasPrefix(j.o.Keys, "http://") || strings.HasPrefix(j.o.Keys, "https://")
}

// find returns the key that has the id of the header, or is the only one when there is no id.
func (j *JWTs) find(h jose.Header) *jose.JSONWebKey {
	for i := range j.keys.Keys {
		k := &j.keys.Keys[i]
		fits := k.KeyID == h.KeyID || h.KeyID == "" && len(j.keys.Keys) == 1
		if fits && k.IsPublic() && k.Use != "enc" && (k.Algorithm == "" || k.Algorithm == h.Algorithm) {
			return k
		}
	}
	return nil
}

// load reads the keys.
func (j *JWTs) load(ctx context.Context) (*jose.JSONWebKeySet, error) {
	data, err := j.fetch(ctx)
	if err != nil {
		return nil, err
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("authn: JWKS: %w", err)
	}
	return &keys, nil
}

func (j *JWTs) fetch(ctx context.Context) ([]byte, error) {
	if !j.remote() {
		return os.ReadFile(j.o.Keys)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, j.o.Keys, nil) // others wait for it; the client has a timeout
	if err != nil {
		return nil, err
	}
	resp, err := j.o.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("authn: JWKS: %s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxJWKS))
}
