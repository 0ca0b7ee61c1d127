package authn

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
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

	counting atomic.Pointer[credential.File]

	mu       sync.Mutex // guards what follows
	fromFile *credential.File
	stored   credential.File
	state    reload.State
	there    bool // the file has been read: it is not to vanish
	onChange func(ids map[string]bool)
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
	d.counting.Store(&credential.File{})
	if err := d.Reload(true); err != nil {
		return nil, err
	}
	return d, nil
}

// OnChange has fn called after each change, with the IDs of the principals
// whose credentials are gone or not the same any more. It is set before the first one.
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
	_, missing := os.Stat(d.file)
	if missing != nil && d.there {
		return fmt.Errorf("authn: %w", missing)
	}
	f, err := credential.ReadFile(d.file)
	if err != nil {
		return err
	}
	d.fromFile, d.there = f, missing == nil
	return nil
}

// Problems tells what cannot be used now, so that something older is in force. It is fit for strangers, as it does not say why.
func (d *Directory) Problems() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.Problem() == nil {
		return nil
	}
	return []string{"file of users cannot be used, the old one is in force; the log says why"}
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
	now := &credential.File{
		Users:  over(d.stored.Users, d.fromFile.Users),
		Keys:   over(d.stored.Keys, d.fromFile.Keys),
		Tokens: over(d.stored.Tokens, d.fromFile.Tokens),
	}
	d.counting.Store(now)
	if d.onChange == nil {
		return
	}
	gone := map[string]bool{}
	changed(gone, auth.User, old.Users, now.Users)
	changed(gone, auth.AccessKey, old.Keys, now.Keys)
	changed(gone, auth.Token, old.Tokens, now.Tokens)
	if len(gone) > 0 {
		d.onChange(gone)
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

func changed[T any](gone map[string]bool, kind auth.Kind, old, now map[string]T) {
	for name, was := range old {
		if is, ok := now[name]; !ok || !reflect.DeepEqual(was, is) {
			gone[auth.NewID(kind, name)] = true
		}
	}
}

// current returns p, who has shown a credential of the directory, and which is valid as long as still is true for all that count.
func (d *Directory) current(p *auth.Principal, still func(*credential.File) bool) *auth.Principal {
	p.Valid = func() bool { return still(d.counting.Load()) }
	return p
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
