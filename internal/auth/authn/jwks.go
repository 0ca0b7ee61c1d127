package authn

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/reload"
)

// maxJWKS bounds what is read of a JWKS, in bytes.
const maxJWKS = 1 << 20

// Times of the keys of an issuer.
const (
	keysPause  = 10 * time.Second // between two attempts to read keys that cannot be read, or to find one that is not known
	keysExpiry = 24 * time.Hour   // of keys of a URL that cannot be read again
	filePause  = time.Second / 2  // between two attempts to read a file that cannot be read and has not changed
)

// keySet is the keys of an issuer: a JWKS (RFC 7517) in a file, or at a URL. Its methods may be called at the same time.
type keySet struct {
	source   string
	interval time.Duration // between two looks at a URL
	client   *http.Client
	now      func() time.Time
	log      *slog.Logger
	changed  func() // is told that there are other keys; nil for nobody

	reading sync.Mutex // is held while the keys are read
	mu      sync.Mutex // guards what follows
	keys    []signingKey
	read    time.Time // when keys were read
	tried   time.Time // when they were to be read last
	state   reload.State
}

// signingKey is a key and its thumbprint (RFC 7638, with SHA-256).
type signingKey struct {
	jose.JSONWebKey
	thumbprint string
}

// find returns the keys that a token may be signed by, but for those that it is not: see match. When none is known
// there may be a new one.
func (s *keySet) find(ctx context.Context, h jose.Header, but []signingKey) ([]signingKey, error) {
	keys, due := s.known(h, but)
	switch {
	case len(keys) > 0 && !due:
		return keys, nil
	case len(keys) == 0:
		s.reading.Lock()
	case !s.reading.TryLock(): // the keys count while somebody reads
		return keys, nil
	}
	defer s.reading.Unlock()
	if _, due := s.known(h, but); due { // nobody has read them meanwhile
		s.load(ctx)
	}
	if keys, _ := s.known(h, but); len(keys) > 0 {
		return keys, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.state.Problem(); err != nil {
		return nil, fmt.Errorf("%w: keys of the issuer: %w", auth.ErrUnavailable, err)
	}
	return nil, fmt.Errorf("%w: JWT is signed by a key that the issuer does not have", auth.ErrDenied)
}

// refresh reads the keys when that is due, or in any case when forced.
func (s *keySet) refresh(ctx context.Context, force bool) {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	due := force || s.due()
	s.mu.Unlock()
	if due {
		s.load(ctx)
	}
}

// due reports whether the keys have to be read, whoever asks. mu is held.
func (s *keySet) due() bool {
	if s.remote() {
		return s.olderThan(s.interval) && s.now().Sub(s.tried) > min(keysPause, s.interval)
	}
	stamp := s.stamp()
	return s.state.Changed(stamp) || s.state.Problem() != nil && s.now().Sub(s.tried) >= filePause
}

// stamp is that of the file of the keys, or always the same for a URL.
func (s *keySet) stamp() reload.Stamp {
	if s.remote() {
		return ""
	}
	return reload.StampOf(os.Stat, s.source)
}

func (s *keySet) olderThan(age time.Duration) bool { return s.now().Sub(s.read) > age }

// known returns the keys for a header but for some, if they count, and whether the keys have to be read.
func (s *keySet) known(h jose.Header, but []signingKey) (keys []signingKey, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.remote() || !s.olderThan(keysExpiry) {
		keys = s.match(h, but)
	}
	return keys, s.due() || len(keys) == 0 && s.now().Sub(s.tried) > keysPause
}

// maxCandidates bounds how many keys are tried for a token.
const maxCandidates = 8

// match returns the first keys that have the id of the header, or any id when it has none, and are for its algorithm:
// an id may be that of several keys of different kinds (RFC 7517, 4.5). Those of but are left out. mu is held.
func (s *keySet) match(h jose.Header, but []signingKey) []signingKey {
	var list []signingKey
	for i := range s.keys {
		k := &s.keys[i]
		if (h.KeyID == "" || k.KeyID == h.KeyID) && k.fits(h.Algorithm) && len(list) < maxCandidates {
			list = append(list, *k)
		}
	}
	return slices.DeleteFunc(list, func(k signingKey) bool {
		return slices.ContainsFunc(but, func(b signingKey) bool { return b.thumbprint == k.thumbprint })
	})
}

// fits reports whether a key may have made a signature of an algorithm.
func (k *signingKey) fits(algorithm string) bool {
	if k.Algorithm != "" && k.Algorithm != algorithm {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return algorithm == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	}
	return false
}

// has reports whether a key with this thumbprint is there, or may be, as none were read yet. Keys that are too old for
// anybody to log in are, too.
func (s *keySet) has(thumbprint string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read.IsZero() {
		return true
	}
	for i := range s.keys {
		if s.keys[i].thumbprint == thumbprint {
			return true
		}
	}
	return false
}

// load reads the keys. Those that were read before stay when it fails. reading is held.
func (s *keySet) load(ctx context.Context) {
	s.mu.Lock()
	s.tried = s.now()
	s.mu.Unlock()
	stamp := s.stamp()
	keys, err := s.fetch(ctx)
	if s.replace(keys, stamp, err) && s.changed != nil {
		s.changed()
	}
}

// replace puts keys in place of the old ones, unless they could not be read, and reports whether they are others.
func (s *keySet) replace(keys []signingKey, stamp reload.Stamp, err error) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.state.Problem()
	if tell := s.state.Done(stamp, err); err != nil {
		if tell {
			s.log.Error("keys for JWT cannot be read, the old ones stay in force", "error", err)
		}
		return false
	}
	changed = !slices.EqualFunc(keys, s.keys, func(a, b signingKey) bool { return a.thumbprint == b.thumbprint })
	if changed || before != nil {
		s.log.Info("keys for JWT are read", "keys", len(keys))
	}
	s.keys, s.read = keys, s.tried
	return changed
}

func (s *keySet) remote() bool {
	return strings.HasPrefix(s.source, "http://") || strings.HasPrefix(s.source, "https://")
}

func (s *keySet) fetch(ctx context.Context) ([]signingKey, error) {
	if !s.remote() {
		data, err := os.ReadFile(s.source)
		if err != nil {
			return nil, fmt.Errorf("authn: JWKS: %w", err)
		}
		return parseKeys(data)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, s.source, nil) // others wait for it; the client has a timeout
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("authn: JWKS: %w", withoutURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("authn: JWKS: %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS))
	if err != nil {
		return nil, fmt.Errorf("authn: JWKS: %w", err)
	}
	return parseKeys(data)
}

// parseKeys returns the public keys for signatures of a JWKS. Keys of kinds that are not known are left out (RFC 7517,
// 5); an object without "keys" is no JWKS, and not one that withdraws all keys.
func parseKeys(data []byte) ([]signingKey, error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("authn: JWKS: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New(`authn: JWKS: there is no array "keys"`)
	}
	keys := make([]signingKey, 0, len(*set.Keys))
	for _, text := range *set.Keys {
		var k signingKey
		if err := json.Unmarshal(text, &k.JSONWebKey); err != nil || !k.IsPublic() || k.Use == "enc" {
			continue
		}
		sum, err := k.Thumbprint(crypto.SHA256)
		if err != nil {
			continue
		}
		k.thumbprint = base64.RawURLEncoding.EncodeToString(sum)
		keys = append(keys, k)
	}
	return keys, nil
}
