package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/policy"
	"github.com/umbra-iot/umbra/internal/objects"
)

// Kinds of objects.
const (
	KindPolicy     = "policy"     // the body is the document
	KindAttachment = "attachment" // named by its target; the body is a list of names of policies
	KindThing      = "thing"      // the body is a Thing
)

// Follow takes over the policies, attachments and things of a store, now and whenever they change.
func (e *Engine) Follow(ctx context.Context, s *objects.Store) error {
	return errors.Join(
		s.Watch(ctx, KindPolicy, func(list []objects.Object) {
			policies := map[string]document{}
			for _, o := range list {
				policies[o.Name] = e.compile(o)
			}
			e.replace(func(s *source) { s.policies = policies })
		}),
		s.Watch(ctx, KindAttachment, func(list []objects.Object) {
			attachments := map[string][]string{}
			for _, o := range list {
				attachments[o.Name] = body[[]string](e, o)
			}
			e.replace(func(s *source) { s.attachments = attachments })
		}),
		s.Watch(ctx, KindThing, func(list []objects.Object) {
			e.replace(func(s *source) { s.things = e.things(s.things, list) })
		}),
	)
}

// things decodes the things of a store, but for those that are known already: there may be many.
func (e *Engine) things(known map[string]Thing, list []objects.Object) map[string]Thing {
	things := make(map[string]Thing, len(list))
	for _, o := range list {
		t, ok := known[o.Name]
		if !ok || t.version != o.Version {
			t = body[Thing](e, o)
			t.origin, t.version = originStore, o.Version
		}
		things[o.Name] = t
	}
	return things
}

// replace changes what is known of the store. Maps are replaced, as a state may have them.
func (e *Engine) replace(change func(*source)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.stored)
	e.rebuild()
}

// compile makes a policy of what is stored. One that is not understood, perhaps because a newer
// version has stored it, allows nothing.
func (e *Engine) compile(o objects.Object) document {
	p, err := policy.Parse(o.Name, o.Body)
	if err != nil {
		e.log.Error("a stored policy is not understood: it allows nothing", "policy", o.Name, "error", err)
		p = policy.Salvage(o.Name, o.Body)
	}
	return document{o.Body, p, originStore}
}

// body decodes what is stored. What cannot be decoded counts as empty.
func body[T any](e *Engine, o objects.Object) (v T) {
	if err := json.Unmarshal(o.Body, &v); err != nil {
		e.log.Error("a stored object is not understood", "kind", o.Kind, "name", o.Name, "error", err)
	}
	return v
}

// Info describes a policy.
type Info struct {
	Name       string          `json:"name"`
	Origin     string          `json:"origin"` // "built-in", "file" or "store"
	Statements int             `json:"statements"`
	Targets    []string        `json:"targets,omitempty"` // to whom it is attached
	Document   json.RawMessage `json:"document,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"` // about the document: what is perhaps misspelt in it
}

// Policies describes all policies that are in force, by name, without their documents.
func (e *Engine) Policies() []Info {
	s := e.state.Load()
	var list []Info
	for name := range s.policies {
		list = append(list, s.info(name))
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Policy describes a policy with its document and warnings; false when there is none.
func (e *Engine) Policy(name string) (Info, bool) {
	s := e.state.Load()
	d, ok := s.policies[name]
	if !ok {
		return Info{}, false
	}
	in := s.info(name)
	in.Document, in.Warnings = d.text, Doubts(d.text)
	return in, true
}

// Doubts returns what is perhaps misspelt in a document, see [policy.Doubts].
func Doubts(text []byte) []string {
	known := policy.Known{Attributes: auth.CertificateAttributeNames()}
	for _, a := range auth.Actions() {
		known.Actions = append(known.Actions, a.String())
	}
	return policy.Doubts(text, known)
}

func (s *state) info(name string) Info {
	d := s.policies[name]
	in := Info{Name: name, Origin: d.origin, Statements: d.policy.Len()}
	for target, names := range s.attachments {
		if slices.Contains(names, name) {
			in.Targets = append(in.Targets, target)
		}
	}
	slices.Sort(in.Targets)
	return in
}

// CheckTarget refuses what no policy can be attached to.
func CheckTarget(target string) error {
	kind, name, found := strings.Cut(target, ":")
	switch {
	case target == string(auth.Anonymous):
		return nil
	case !found || name == "":
	case kind+":" == auth.GroupPrefix:
		return nil
	case kind+":" == KindPrefix:
		if slices.Contains(auth.Kinds(), auth.Kind(name)) {
			return nil
		}
		return fmt.Errorf("authz: there is no kind %q of principals; there are %s", name, kinds())
	case IsPrincipal(target):
		return nil
	}
	return fmt.Errorf("authz: %q is neither a principal such as user:alice, nor group:NAME, kind:KIND or anonymous", target)
}

// IsPrincipal reports whether id can be the ID of somebody in particular.
func IsPrincipal(id string) bool {
	kind, name, _ := strings.Cut(id, ":")
	return name != "" && kind != string(auth.Anonymous) && slices.Contains(auth.Kinds(), auth.Kind(kind))
}

// kinds lists the kinds of principals.
func kinds() string {
	var names []string
	for _, k := range auth.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}
