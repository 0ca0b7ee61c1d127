// Package password hashes and checks passwords with argon2id [RFC 9106]. A hash
// has the text form that is usual for it,
//
//	$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH
//
// with salt and hash in base64 without padding, so that parameters may rise
// later.
//
// A check costs memory and time on purpose. [Checker] bounds how much all checks
// together may cost, and remembers what was right for a while, so that a fleet
// that reconnects is not held up.
package password

import (
	"container/list"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/umbra-iot/umbra/internal/turns"
)

// Parameters of new hashes: the first choice of OWASP for argon2id.
const (
	memoryKiB = 19 * 1024
	passes    = 2
	lanes     = 1
	saltBytes = 16
	hashBytes = 32
)

// Bounds of the parameters of hashes that are checked: nobody who writes a file of
// users may make a check arbitrarily expensive by mistake.
const (
	maxMemoryKiB = 256 * 1024
	maxPasses    = 16
	maxLanes     = 16
	maxBytes     = 64
)

// MaxBytes is the length of the longest password.
const MaxBytes = 1024

// ErrHash is the error of what is no hash.
var ErrHash = errors.New("password: not a hash of argon2id")

var encoding = base64.RawStdEncoding.Strict()

// Hash returns the hash of a password with a new salt.
func Hash(password []byte) string {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	sum := argon2.IDKey(password, salt, passes, memoryKiB, lanes, hashBytes)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memoryKiB, passes, lanes,
		encoding.EncodeToString(salt), encoding.EncodeToString(sum))
}

type parsed struct {
	memory, passes uint32
	lanes          uint8
	salt, sum      []byte
}

func parse(hash string) (p parsed, err error) {
	part := strings.Split(hash, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != fmt.Sprint("v=", argon2.Version) {
		return p, ErrHash
	}
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.lanes); err != nil {
		return p, ErrHash
	}
	if p.salt, err = encoding.DecodeString(part[4]); err != nil {
		return p, ErrHash
	}
	if p.sum, err = encoding.DecodeString(part[5]); err != nil {
		return p, ErrHash
	}
	if p.memory < 8*uint32(p.lanes) || p.memory > maxMemoryKiB || p.passes < 1 || p.passes > maxPasses ||
		p.lanes < 1 || p.lanes > maxLanes || len(p.salt) < 8 || len(p.salt) > maxBytes || len(p.sum) < 16 || len(p.sum) > maxBytes {
		return p, ErrHash
	}
	return p, nil
}

// Check finds out whether a text is a hash that Verify takes.
func Check(hash string) error {
	_, err := parse(hash)
	return err
}

// Verify reports whether a password has this hash. It takes as long for a wrong one.
func Verify(hash string, password []byte) (bool, error) {
	p, err := parse(hash)
	if err != nil {
		return false, err
	}
	sum := argon2.IDKey(password, p.salt, p.passes, p.memory, p.lanes, uint32(len(p.sum)))
	return subtle.ConstantTimeCompare(sum, p.sum) == 1, nil
}

// Options of a Checker. The zero value works.
type Options struct {
	Parallel int           // checks at a time, each of which takes 19 MiB; default 2
	Waiting  int           // further ones that wait for their turn; default 256
	Each     int           // of both together those of one source; default 32
	Remember time.Duration // how long a right password is remembered; default 5 min
	Entries  int           // of them at most; default 10000
	Now      func() time.Time
}

// Checker checks passwords. Its methods may be called at the same time.
type Checker struct {
	turns    *turns.Turns
	remember time.Duration
	entries  int
	now      func() time.Time
	key      []byte // of the memory: who reads it learns no passwords
	dummy    string // hash for users that do not exist

	mu    sync.Mutex // guards what follows
	known map[[sha256.Size]byte]*list.Element
	byAge *list.List // of *entry, the oldest first
}

type entry struct {
	sum   [sha256.Size]byte
	until time.Time
}

// NewChecker returns a checker that remembers nothing yet.
func NewChecker(o Options) *Checker {
	setDefault(&o.Parallel, 2)
	setDefault(&o.Remember, 5*time.Minute)
	setDefault(&o.Entries, 10000)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Checker{
		turns:    turns.New(turns.Options{Parallel: o.Parallel, Waiting: o.Waiting, Each: o.Each}),
		remember: o.Remember, entries: o.Entries, now: o.Now, key: []byte(rand.Text()), dummy: Hash([]byte(rand.Text())),
		known: map[[sha256.Size]byte]*list.Element{}, byAge: list.New(),
	}
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Verify is the function Verify, within the bounds of the checker. An empty
// hash, of a user that does not exist, takes as long as a wrong password. It
// returns [turns.ErrBusy] when too many wait, in all or from this source, and the error of ctx.
func (c *Checker) Verify(ctx context.Context, source, hash string, password []byte) (bool, error) {
	if len(password) > MaxBytes {
		return false, nil
	}
	sum := c.sum(hash, password)
	if hash != "" && c.remembers(sum) {
		return true, nil
	}
	end, err := c.turns.Take(ctx, source)
	if err != nil {
		return false, fmt.Errorf("password: %w", err)
	}
	defer end()
	if hash == "" {
		_, err := Verify(c.dummy, password)
		return false, err
	}
	ok, err := Verify(hash, password)
	if ok {
		c.note(sum)
	}
	return ok, err
}

// sum is what a right password is remembered by. With the hash in it, a changed password is not remembered.
func (c *Checker) sum(hash string, password []byte) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, c.key)
	fmt.Fprintf(m, "%d:%s", len(hash), hash)
	m.Write(password)
	m.Sum(sum[:0])
	return sum
}

func (c *Checker) remembers(sum [sha256.Size]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.known[sum]
	return ok && c.now().Before(e.Value.(*entry).until)
}

func (c *Checker) note(sum [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.known[sum]; ok {
		c.byAge.Remove(old)
	} else if len(c.known) >= c.entries {
		oldest := c.byAge.Front()
		delete(c.known, oldest.Value.(*entry).sum)
		c.byAge.Remove(oldest)
	}
	c.known[sum] = c.byAge.PushBack(&entry{sum: sum, until: c.now().Add(c.remember)})
}
