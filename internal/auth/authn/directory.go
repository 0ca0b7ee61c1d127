package authn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/internal/reload"
)

// Kinds of objects that are credentials.
const (
	KindUser  = "user"
	KindKey   = "key"
	KindToken = "token"
)

// Directory is the credentials that count: those of a file and those of the
// store. A credential of the file takes the place of one with the same name in
// the store, so that an operator who has locked himself out gets in again. Its
// methods may be called at the same time.
type Directory struct {
	file   string
	sealer *credential.Sealer
	log    *slog.Logger
	now    func() time.Time

	counting atomic.Pointer[counting]

	mu       sync.Mutex // guards what follows
	fromFile *credential.File
	stored   credential.File
	state    reload.State
	there    bool // the file has been read: it is not to vanish
	onChange func(ids map[string]bool)
}

// counting is the credentials that count. It does not change.
type counting struct {
	credential.File
	heirs map[string]string // by owner, the ID of the first principal with such a key or token
}

// note makes a key or token the heir of its owner, unless there is one before it.
func (c *counting) note(kind auth.Kind, name, id string) {
	p := auth.Principal{ID: auth.NewID(kind, id), Kind: kind, Name: name}
	if first, ok := c.heirs[p.Owner()]; !ok || p.ID < first {
		c.heirs[p.Owner()] = p.ID
	}
}

// DirectoryOptions of a Directory.
type DirectoryOptions struct {
	File   string             // "" for none
	Sealer *credential.Sealer // opens the secrets of access keys in the store; nil when there are none
	Log    *slog.Logger       // default: discard
	Now    func() time.Time   // default time.Now
}

// NewDirectory reads the file.
func NewDirectory(o DirectoryOptions) (*Directory, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Directory{file: o.File, sealer: o.Sealer, log: o.Log, now: o.Now, fromFile: &credential.File{}}
	d.counting.Store(&counting{})
	if err := d.Reload(true); err != nil {
		return nil, err
	}
	return d, nil
}

// OnChange has fn called after each change, with the IDs of the principals
// whose credentials are new, gone or not the same any more. It is set before the first one.
func (d *Directory) OnChange(fn func(ids map[string]bool)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onChange = fn
}

// Follow takes over the credentials of the store, now and when they change.
func (d *Directory) Follow(ctx context.Context, s *objects.Store) error {
	for _, kind := range []string{KindUser, KindKey, KindToken} {
		if err := s.Watch(ctx, kind, func(list []objects.Object) { d.take(kind, list) }); err != nil {
			return fmt.Errorf("authn: %w", err)
		}
	}
	return nil
}

// Reload reads the file again, if it has changed, or could not be used last time, or in any case when forced. When it
// cannot be used, what was read before stays in force. The error says why: at first, and then as often as
// [reload.State.Done] says, or when forced; see Problems.
func (d *Directory) Reload(force bool) error {
	if d.file == "" {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	stamp := reload.StampOf(os.Stat, d.file)
	if !force && !d.state.Due(stamp) {
		return nil
	}
	err := d.read()
	tell := d.state.Done(stamp, err)
	switch {
	case err == nil && !d.there:
		d.log.Warn("file of users is not there, and counts as empty until it is", "file", d.file)
		d.merge()
		return nil
	case err == nil:
		d.log.Info("file of users is read", "users", len(d.fromFile.Users), "keys", len(d.fromFile.Keys), "tokens", len(d.fromFile.Tokens))
		d.merge()
		return nil
	case tell, force:
		return err
	default:
		return nil
	}
}

// read reads the file. At first it need not be there. mu is held.
func (d *Directory) read() error {
	f, err := credential.ReadFile(d.file)
	if missing := errors.Is(err, fs.ErrNotExist); err != nil && (d.there || !missing) {
		return err
	}
	d.fromFile, d.there = f, err == nil
	return nil
}

// Problems tells what cannot be used now, so that something older is in force, or nothing.
func (d *Directory) Problems() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.state.Problem() != nil:
		return []string{"file of users cannot be used, the old one is in force; the log says why"}
	case d.file != "" && !d.there:
		return []string{"file of users is not there, and counts as empty until it is"}
	}
	return nil
}

// take takes over the objects of a kind. One that cannot be read is left out: it lets nobody in.
func (d *Directory) take(kind string, list []objects.Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch kind {
	case KindUser:
		d.stored.Users = decode[credential.User](d, list)
	case KindToken:
		d.stored.Tokens = decode[credential.Token](d, list)
	case KindKey:
		d.stored.Keys = decode[credential.AccessKey](d, list)
		for id, k := range d.stored.Keys {
			secret, err := d.unseal(id, k)
			if err != nil {
				d.log.Error("access key cannot be used", "key", id, "error", err)
				delete(d.stored.Keys, id)
				continue
			}
			k.Secret = secret
			d.stored.Keys[id] = k
		}
	}
	d.merge()
}

func (d *Directory) unseal(id string, k credential.AccessKey) (string, error) {
	if d.sealer == nil {
		return "", fmt.Errorf("authn: no key for the secrets of the store")
	}
	return d.sealer.Open(id, k.Sealed)
}

func decode[T any](d *Directory, list []objects.Object) map[string]T {
	all := make(map[string]T, len(list))
	for _, o := range list {
		var v T
		if err := json.Unmarshal(o.Body, &v); err != nil {
			d.log.Error("credential cannot be read", "kind", o.Kind, "name", o.Name, "error", err)
			continue
		}
		all[o.Name] = v
	}
	return all
}

// merge puts file and store together, and tells what has changed. mu is held.
func (d *Directory) merge() {
	old := d.counting.Load()
	now := &counting{heirs: map[string]string{}, File: credential.File{
		Users:  over(d.stored.Users, d.fromFile.Users),
		Keys:   over(d.stored.Keys, d.fromFile.Keys),
		Tokens: over(d.stored.Tokens, d.fromFile.Tokens),
	}}
	for id, k := range now.Keys {
		now.note(auth.AccessKey, k.Name, id)
	}
	for id, t := range now.Tokens {
		now.note(auth.Token, t.Name, id)
	}
	d.counting.Store(now)
	if d.onChange == nil {
		return
	}
	ids := map[string]bool{}
	changed(ids, auth.User, old.Users, now.Users)
	changed(ids, auth.AccessKey, old.Keys, now.Keys)
	changed(ids, auth.Token, old.Tokens, now.Tokens)
	if len(ids) > 0 {
		d.onChange(ids)
	}
}

func over[T any](below, above map[string]T) map[string]T {
	all := maps.Clone(below)
	if all == nil {
		all = map[string]T{}
	}
	maps.Copy(all, above)
	return all
}

func changed[T any](ids map[string]bool, kind auth.Kind, old, now map[string]T) {
	for name, was := range old {
		if is, ok := now[name]; !ok || !reflect.DeepEqual(was, is) {
			ids[auth.NewID(kind, name)] = true
		}
	}
	for name := range now {
		if _, ok := old[name]; !ok {
			ids[auth.NewID(kind, name)] = true
		}
	}
}

// follow has p, who has shown a credential of the directory, in this run or an earlier one, know what becomes of it.
func (d *Directory) follow(p *auth.Principal) *auth.Principal {
	p.Standing = func() auth.Standing {
		now, ok := d.Principal(p.ID)
		switch {
		case !ok, p.Proof != nil && !bytes.Equal(p.Proof, now.Proof):
			return auth.Withdrawn
		case !sameGrant(p, now):
			return auth.Changed
		}
		return auth.Unchanged
	}
	return p
}

// sameGrant reports whether two principals have the same by their credentials.
func sameGrant(a, b *auth.Principal) bool {
	return a.Name == b.Name && a.Expires.Equal(b.Expires) && slices.Equal(a.Groups, b.Groups) && slices.Equal(a.Policies, b.Policies) &&
		slices.Equal(a.Scopes, b.Scopes) && (a.Scopes == nil) == (b.Scopes == nil)
}

// Current returns who p is by his credential as it is now, whatever was shown. When that is gone, it is another one of the
// same owner, who may take over what p has left; false when there is none. Who has no credential of the directory stays
// as he is.
func (d *Directory) Current(p *auth.Principal) (*auth.Principal, bool) {
	switch p.Kind {
	case auth.User, auth.AccessKey, auth.Token:
	default:
		return p, true
	}
	if now, ok := d.Principal(p.ID); ok && now.Owner() == p.Owner() {
		return now, true
	}
	return d.Principal(d.counting.Load().heirs[p.Owner()])
}

// Principal returns the principal of who shows the credential with an ID (user:NAME, key:ID, token:ID), expired or not;
// false when there is none.
func (d *Directory) Principal(id string) (*auth.Principal, bool) {
	kind, name, _ := strings.Cut(id, ":")
	all := d.counting.Load()
	switch auth.Kind(kind) {
	case auth.User:
		u, ok := all.Users[name]
		return u.Principal(name), ok
	case auth.AccessKey:
		k, ok := all.Keys[name]
		return k.Principal(name), ok
	case auth.Token:
		t, ok := all.Tokens[name]
		return t.Principal(name), ok
	}
	return nil, false
}

func (d *Directory) expired(g credential.Grant) bool {
	return !g.Expires.IsZero() && !d.now().Before(g.Expires)
}

// user returns a user whose credential has not expired.
func (d *Directory) user(name string) (credential.User, bool) {
	u, ok := d.counting.Load().Users[name]
	return u, ok && !d.expired(u.Grant)
}

func (d *Directory) key(id string) (credential.AccessKey, bool) {
	k, ok := d.counting.Load().Keys[id]
	return k, ok && !d.expired(k.Grant)
}

func (d *Directory) token(id string) (credential.Token, bool) {
	t, ok := d.counting.Load().Tokens[id]
	return t, ok && !d.expired(t.Grant)
}
