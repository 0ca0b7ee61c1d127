// Package credential has the credentials that Umbra itself gives out: users with
// passwords, access keys that sign like those of AWS, and bearer tokens. They
// are kept in the store, where all nodes see them, and in a file, which needs no
// running server.
//
// Of passwords and tokens only hashes are kept. The secret of an access key has
// to be known to verify a signature: the store has it sealed (see [Sealer]), the
// file as it is, with mode 600.
package credential

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/password"
)

// Grant is what a credential brings beside the proof who somebody is.
type Grant struct {
	Groups   []string  `json:"groups,omitempty" yaml:"groups,omitempty,flow"`
	Policies []string  `json:"policies,omitempty" yaml:"policies,omitempty,flow"`
	Expires  time.Time `json:"expires,omitzero" yaml:"expires,omitempty"` // zero is never
}

// User is somebody with a password.
type User struct {
	Grant `yaml:",inline"`
	Hash  string `json:"hash" yaml:"hash"` // of the password, see package password
}

// AccessKey is a key that signs requests.
type AccessKey struct {
	Grant  `yaml:",inline"`
	Name   string `json:"name,omitempty" yaml:"name,omitempty"`     // who has it: the name of the principal
	Secret string `json:"secret,omitempty" yaml:"secret,omitempty"` // in a file
	Sealed []byte `json:"sealed,omitempty" yaml:"-"`                // in the store
}

// Token is a bearer token.
type Token struct {
	Grant `yaml:",inline"`
	Name  string `json:"name,omitempty" yaml:"name,omitempty"`
	Hash  string `json:"hash" yaml:"hash"` // SHA-256 of the secret part, in hex

	// Scopes are as in auth.Principal: nil does not confine, an empty list, which files may not have, confines to nothing.
	Scopes []string `json:"scopes,omitzero" yaml:"scopes,omitempty,flow"`
}

// MaxName is the length of the longest name, in bytes.
const MaxName = 128

// CheckName refuses names of users that would be mistaken for something else in
// IDs, URLs and logs.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) {
		return fmt.Errorf("a name has 1 to %d bytes of UTF-8", MaxName)
	}
	for _, r := range name {
		if unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`/\"'*?+#$:,`, r) {
			return fmt.Errorf("%q may not have %q in it", name, r)
		}
	}
	return nil
}

// ErrPassword is the error of a password that cannot be one.
var ErrPassword = errors.New("a password has 8 to 1024 bytes")

// minPassword is the length of the shortest password, in bytes.
const minPassword = 8

// SetPassword gives a user a password.
func (u *User) SetPassword(text []byte) error {
	if len(text) < minPassword || len(text) > password.MaxBytes {
		return ErrPassword
	}
	u.Hash = password.Hash(text)
	return nil
}

// Principal returns the principal of a user who has proved who he is.
func (u User) Principal(name string) *auth.Principal {
	return &auth.Principal{
		ID: auth.NewID(auth.User, name), Kind: auth.User, Name: name, Groups: u.Groups, Policies: u.Policies, Expires: u.Expires,
		Proof: proofOf(u.Hash),
	}
}

// proofOf tells a credential from one with another secret, as far as what verifies that is another. Nobody can guess the
// secret by it: a hash of a password has salt, and the other secrets are too long.
func proofOf(verifier string) []byte {
	sum := sha256.Sum256([]byte(verifier))
	return sum[:]
}

// Sizes of what is made up, in bytes.
const (
	keyIDBytes  = 10 // 16 characters of base32
	secretBytes = 30 // 40 characters of base64, as AWS has them
	tokenBytes  = 32
	idBytes     = 8
)

// NewAccessKey makes up a key. Its id looks like those of AWS, which some clients check.
func NewAccessKey(name string, g Grant) (id string, k AccessKey) {
	id = "AKIA" + base32.StdEncoding.EncodeToString(random(keyIDBytes))
	return id, AccessKey{Grant: g, Name: name, Secret: base64.StdEncoding.EncodeToString(random(secretBytes))}
}

// Principal returns the principal of who signs with a key.
func (k AccessKey) Principal(id string) *auth.Principal {
	return &auth.Principal{
		ID: auth.NewID(auth.AccessKey, id), Kind: auth.AccessKey, Name: k.Name, Groups: k.Groups, Policies: k.Policies, Expires: k.Expires,
		Proof: proofOf(k.Secret),
	}
}

// tokenPrefix begins every token, so that one that got lost is recognized.
const tokenPrefix = "umbra_"

// NewToken makes up a token. Its text is umbra_ID_SECRET; it is not kept, only what verifies it.
func NewToken(name string, scopes []string, g Grant) (id, text string, t Token) {
	id = hex.EncodeToString(random(idBytes))
	secret := base64.RawURLEncoding.EncodeToString(random(tokenBytes))
	return id, tokenPrefix + id + "_" + secret, Token{Grant: g, Name: name, Scopes: scopes, Hash: hashOf(secret)}
}

// SplitToken returns the parts of a token; false when a text is none.
func SplitToken(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "_")
}

// IsTokenID reports whether a text looks like the id of a token that was made up here, and not like a part of a secret.
func IsTokenID(s string) bool {
	id, err := hex.DecodeString(s)
	return err == nil && len(id) == idBytes
}

// IsKeyID reports whether a text looks like the id of an access key, of Umbra or AWS, and not like its secret.
func IsKeyID(s string) bool {
	const shortest, longest = 16, 32
	other := func(c rune) bool { return (c < 'A' || c > 'Z') && (c < '0' || c > '9') }
	return len(s) >= shortest && len(s) <= longest && !strings.ContainsFunc(s, other)
}

// Verify reports whether secret is that of the token.
func (t Token) Verify(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(hashOf(secret)), []byte(t.Hash)) == 1
}

// Principal returns the principal of who shows a token.
func (t Token) Principal(id string) *auth.Principal {
	return &auth.Principal{
		ID: auth.NewID(auth.Token, id), Kind: auth.Token, Name: t.Name, Groups: t.Groups, Policies: t.Policies,
		Scopes: t.Scopes, Expires: t.Expires, Proof: proofOf(t.Hash),
	}
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
