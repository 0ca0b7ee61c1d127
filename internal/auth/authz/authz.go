// Package authz says which policies count for whom, and so what everybody may do.
//
// Policies are of three origins: those that are built in (device, app, operator,
// admin, read-only), those of a folder of files, and those that operators put
// into the store while the service runs. A name of the folder takes the place of
// a built-in one, a name of the store that of both.
//
// A policy counts for a principal to whom it is attached: by the ID of the
// principal ("user:alice"), by a group ("group:operators"), by a kind
// ("kind:cert", everybody with a certificate), or because the credential itself
// names it. A principal without policies may do nothing.
//
// What counts for a connection is bound once, and again when policies,
// attachments or things have changed: decisions are as quick as package policy,
// and a change is in force with the next one.
package authz

import (
	"cmp"
	"embed"
	"fmt"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/policy"
)

// Defaults of Options: those of AWS's own examples.
const (
	DefaultRegion  = "us-east-1"
	DefaultAccount = "123456789012"
)

// KindPrefix begins the target of a policy that is for all principals of a kind: "kind:cert".
const KindPrefix = "kind:"

//go:embed builtin/*.json
var builtin embed.FS

// Options of an Engine. The zero value works.
type Options struct {
	Region  string   // of the ARNs of resources; default us-east-1
	Account string   // of the same; default 123456789012
	Files   fs.FS    // policies *.json, attachments.json and things.json, see Reload; nil for none
	Default []string // policies of principals that have none, except of nobody
	Log     *slog.Logger
	Now     func() time.Time // default time.Now

	// Known returns the principal of who shows the credential with an ID, a new one each time; false when no credential
	// is known that has it. Default: none is.
	Known func(id string) (*auth.Principal, bool)

	// Current returns who a principal is by what his credential brings now; false when it is gone. It is asked when
	// somebody's policies are looked for, again after Renew. Default: he stays who he was.
	Current func(p *auth.Principal) (*auth.Principal, bool)

	// Denied is told of decisions against somebody, except of what is not shown to him. One that is made
	// again and again may be told once. It returns soon. Default: nobody is told.
	Denied func(p *auth.Principal, l auth.Link, action, resource string)
}

// Engine decides. It implements [auth.Guard]. Its methods may be called at the same time.
type Engine struct {
	prefix    string // of ARNs
	log       *slog.Logger
	now       func() time.Time
	builtin   source
	denied    atomic.Uint64
	tell      func(p *auth.Principal, l auth.Link, action, resource string) // may be nil
	known     func(id string) (*auth.Principal, bool)                       // may be nil
	who       func(p *auth.Principal) (*auth.Principal, bool)               // may be nil
	byDefault []string
	seed      maphash.Seed

	mu      sync.Mutex // guards what follows
	files   source
	folder  folder // its dir does not change
	stored  source
	changed []func()

	state atomic.Pointer[state]
}

// source is policies, attachments and things of one origin.
type source struct {
	policies    map[string]document
	attachments map[string][]string // names of policies by target
	things      map[string]Thing
}

// Origins of policies and things.
const (
	originBuiltIn = "built-in"
	originFile    = "file"
	originStore   = "store"
)

// document is a policy as text and compiled.
type document struct {
	text   []byte
	policy *policy.Policy
	origin string
}

// state is what decisions are made of. It does not change; another one takes its place.
type state struct {
	source
	sets *sync.Map // names of policies, joined: *policy.Set
}

// New returns an engine that knows the built-in policies and those of the files.
func New(o Options) (*Engine, error) {
	e := &Engine{
		prefix: "arn:aws:iot:" + cmp.Or(o.Region, DefaultRegion) + ":" + cmp.Or(o.Account, DefaultAccount) + ":",
		log:    o.Log, now: o.Now, seed: maphash.MakeSeed(), tell: o.Denied, known: o.Known, who: o.Current, byDefault: o.Default,
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	own, err := fs.Sub(builtin, "builtin")
	if err != nil {
		return nil, fmt.Errorf("authz: %w", err)
	}
	if e.builtin, err = readFiles(own, originBuiltIn); err != nil {
		return nil, err
	}
	if e.folder.dir = o.Files; o.Files != nil {
		stamp := stampOf(o.Files)
		files, err := readFiles(o.Files, originFile)
		if err != nil {
			return nil, err
		}
		e.folder.state.Done(stamp, nil)
		e.takeFiles(files)
	}
	e.rebuild()
	return e, nil
}

// with returns s and what other has, which takes the place of what has the same name; attachments add up.
func (s source) with(other source) source {
	sum := source{policies: map[string]document{}, attachments: map[string][]string{}, things: s.things}
	if len(s.things) == 0 {
		sum.things = other.things // there may be many: they are copied only where both have some
	} else if len(other.things) > 0 {
		sum.things = maps.Clone(s.things)
		maps.Copy(sum.things, other.things)
	}
	for _, from := range []source{s, other} {
		maps.Copy(sum.policies, from.policies)
		for target, names := range from.attachments {
			sum.attachments[target] = append(slices.Clone(sum.attachments[target]), names...)
		}
	}
	return sum
}

// rebuild puts a new state in place after a change of files or of what is stored. mu is held, but by New.
func (e *Engine) rebuild() {
	e.state.Store(&state{source: e.builtin.with(e.files).with(e.stored), sets: &sync.Map{}})
	for _, fn := range e.changed {
		fn()
	}
}

// Renew has Current asked again by whoever decides next, because credentials have changed. OnChange is not told.
func (e *Engine) Renew() {
	e.mu.Lock()
	defer e.mu.Unlock()
	same := *e.state.Load()
	e.state.Store(&same)
}

// OnChange has fn called after every change of policies, attachments or things. fn returns soon.
func (e *Engine) OnChange(fn func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changed = append(e.changed, fn)
}

// Denied returns how often something was denied.
func (e *Engine) Denied() uint64 { return e.denied.Load() }

// Names returns the names of the policies that count for a principal, sorted. Some of them may not exist.
func (e *Engine) Names(p *auth.Principal) []string { return e.names(e.state.Load(), p) }

func (e *Engine) names(s *state, p *auth.Principal) []string {
	var names []string
	if p == nil {
		p = auth.Nobody()
	}
	names = append(names, p.Policies...)
	names = append(names, s.attachments[p.ID]...)
	names = append(names, s.attachments[KindPrefix+string(p.Kind)]...)
	for _, g := range p.Groups {
		names = append(names, s.attachments[auth.GroupPrefix+g]...)
	}
	if len(names) == 0 && !p.IsAnonymous() {
		return e.byDefault
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Principal returns the principal of who shows the credential with an ID, for questions about him; false when no
// credential is known that has it.
func (e *Engine) Principal(id string) (*auth.Principal, bool) {
	if e.known == nil {
		return nil, false
	}
	return e.known(id)
}

// set returns the policies of some names, compiled together. A name without a policy allows nothing.
func (s *state) set(names []string) *policy.Set {
	key := strings.Join(names, "\x00")
	if known, ok := s.sets.Load(key); ok {
		return known.(*policy.Set) //nolint:forcetypeassert // nothing else is in it
	}
	var list []*policy.Policy
	for _, name := range names {
		if d, ok := s.policies[name]; ok {
			list = append(list, d.policy)
		}
	}
	var actions []string
	for _, a := range auth.Actions() {
		actions = append(actions, a.String())
	}
	made, _ := s.sets.LoadOrStore(key, policy.NewSet(list, actions))
	return made.(*policy.Set) //nolint:forcetypeassert // nothing else is in it
}
