package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"strings"
	"sync/atomic"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/policy"
)

// remembered is how many decisions a connection remembers. Most publish on a few topics.
const remembered = 8

// rights are what a connection or request may do.
type rights struct {
	engine *Engine
	who    *auth.Principal
	link   auth.Link
	bound  atomic.Pointer[bound]
}

// bound is rights under one state.
type bound struct {
	state  *state
	rights *policy.Rights
	scopes *policy.Rights // nil: no restriction
	recent [remembered]atomic.Pointer[decision]
}

// decision is one that was made.
type decision struct {
	action  auth.Action
	name    string
	allowed bool
	told    atomic.Bool // of a denial
}

// Rights implements [auth.Guard].
func (e *Engine) Rights(p *auth.Principal, l auth.Link) auth.Rights {
	if p == nil {
		p = auth.Nobody()
	}
	return &rights{engine: e, who: p, link: l}
}

// Allows implements [auth.Rights].
func (r *rights) Allows(a auth.Action, name string) bool {
	d := r.decide(a, name)
	if d.allowed {
		return true
	}
	r.engine.denied.Add(1)
	if !d.told.Swap(true) {
		r.tell(a, name)
	}
	return false
}

// Shows implements [auth.Rights].
func (r *rights) Shows(a auth.Action, name string) bool { return r.decide(a, name).allowed }

// tell tells of a denial.
func (r *rights) tell(a auth.Action, name string) {
	resource := string(r.engine.appendResource(nil, a, name))
	r.engine.log.Debug("denied", "principal", r.who.ID, "client_id", r.link.ClientID, "action", a.String(), "resource", resource)
	if r.engine.tell != nil {
		r.engine.tell(r.who, r.link, a.String(), strings.TrimPrefix(resource, r.engine.prefix))
	}
}

// decide makes a decision, or remembers it.
func (r *rights) decide(a auth.Action, name string) *decision {
	b := r.current()
	slot := &b.recent[(maphash.String(r.engine.seed, name)+uint64(a))%remembered]
	if d := slot.Load(); d != nil && d.action == a && d.name == name {
		return d
	}
	var buf [256]byte
	resource := r.engine.appendResource(buf[:0], a, name)
	d := &decision{action: a, name: name, allowed: b.rights.Allows(a.String(), resource) && (b.scopes == nil || b.scopes.Allows(a.String(), resource))}
	if !b.rights.Timed(a.String()) {
		d.name = strings.Clone(name)
		slot.Store(d)
	}
	return d
}

// Timed implements [auth.Rights].
func (r *rights) Timed(a auth.Action) bool { return r.current().rights.Timed(a.String()) }

// current returns the rights under the current state.
func (r *rights) current() *bound {
	s := r.engine.state.Load()
	if b := r.bound.Load(); b != nil && b.state == s {
		return b
	}
	b := r.engine.bindCurrent(s, r.who, r.link)
	r.bound.Store(b)
	return b
}

// bindCurrent is bind for who p is now. Who is nobody any more may do nothing.
func (e *Engine) bindCurrent(s *state, p *auth.Principal, l auth.Link) *bound {
	if e.who == nil {
		return e.bind(s, p, l)
	}
	if now, ok := e.who(p); ok {
		return e.bind(s, now, l)
	}
	return &bound{state: s, rights: s.set(nil).Bind(e.env(s, p, l))}
}

func (e *Engine) bind(s *state, p *auth.Principal, l auth.Link) *bound {
	env := e.env(s, p, l)
	b := &bound{state: s, rights: s.set(e.names(s, p)).Bind(env)}
	if p.Scopes != nil {
		b.scopes = policy.NewSet([]*policy.Policy{scopesPolicy(p.Scopes)}, nil).Bind(env)
	}
	return b
}

// scopesPolicy allows the actions of some scopes.
func scopesPolicy(scopes []string) *policy.Policy {
	text, err := json.Marshal(map[string]any{
		"Version": "2012-10-17", "Statement": map[string]any{"Effect": "Allow", "Action": scopes, "Resource": "*"},
	})
	if err != nil {
		text = nil // never: these are strings
	}
	p, err := policy.Parse("scopes", text)
	if err != nil {
		return policy.Salvage("scopes", text) // scopes that make no sense allow nothing
	}
	return p
}

// env is what policies can know.
func (e *Engine) env(s *state, p *auth.Principal, l auth.Link) *policy.Env {
	env := &policy.Env{
		MQTT: l.MQTT, ClientID: l.ClientID, Certificate: p.Attributes, SourceIP: l.Remote, Secure: l.Secure, Domain: l.Domain,
		PrincipalID: p.ID, PrincipalType: string(p.Kind), Name: p.Name, Groups: p.Groups, Now: e.now,
	}
	if p.Kind == auth.Certificate {
		env.CertificateID = strings.TrimPrefix(p.ID, string(auth.Certificate)+":")
	}
	if l.MQTT {
		env.Thing = s.thing(p, l.ClientID)
	}
	if l.Persistent {
		env.ConnectAttributes = append(env.ConnectAttributes, "PersistentConnect")
	}
	if l.WillTopic != "" {
		env.ConnectAttributes = append(env.ConnectAttributes, "LastWill")
		env.LastWillTopic = e.prefix + auth.Publish.Resource() + l.WillTopic
	}
	return env
}

// appendResource appends the ARN of what an action is about.
func (e *Engine) appendResource(dst []byte, a auth.Action, name string) []byte {
	kind := a.Resource()
	if kind == "" {
		return append(dst, '*')
	}
	dst = append(dst, e.prefix...)
	dst = append(dst, kind...)
	return append(dst, name...)
}

// Explain says why somebody may do something or not. Action is a name as in policies; resource is an
// ARN, "*", or what comes in the ARN after the account, such as "topic/a".
func (e *Engine) Explain(p *auth.Principal, l auth.Link, action, resource string) policy.Explanation {
	if p == nil {
		p = auth.Nobody()
	}
	if !p.CountsAt(e.now()) {
		return policy.Explanation{Reason: "the credential has expired"}
	}
	if resource != "*" && !strings.HasPrefix(resource, "arn:") {
		resource = e.prefix + resource
	}
	b := e.bind(e.state.Load(), p, l)
	why := b.rights.Explain(action, resource)
	if why.Allowed && b.scopes != nil && !b.scopes.Allows(action, []byte(resource)) {
		return policy.Explanation{Reason: fmt.Sprintf("the scopes of the credential do not include it, though %s", why.Reason)}
	}
	return why
}

// decode is strict: it takes one JSON value without unknown members.
func decode(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err //nolint:wrapcheck // the caller says which file
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the document")
	}
	return nil
}
