package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/umbra-iot/umbra/internal/audit"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authn"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/config"
	"github.com/umbra-iot/umbra/internal/rest"
	"github.com/umbra-iot/umbra/shadow"
)

// newEngine returns what decides about permissions, with the policies of the files.
func newEngine(cfg *config.Config, o authz.Options) (*authz.Engine, error) {
	o.Region, o.Account = cfg.Authz.Region, cfg.Authz.Account
	if cfg.Authz.Default != "" {
		o.Default = strings.Split(cfg.Authz.Default, ",")
	}
	if cfg.Authz.Policies != "" {
		if _, err := os.Stat(cfg.Authz.Policies); err != nil {
			return nil, fmt.Errorf("policies: %w", err)
		}
		o.Files = os.DirFS(cfg.Authz.Policies)
	}
	e, err := authz.New(o)
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	return e, nil
}

// checkPolicies finds what is wrong with the files of policies, and what is weak or perhaps misspelt in them.
func checkPolicies(cfg *config.Config) (weak []string, err error) {
	e, err := newEngine(cfg, authz.Options{})
	if err != nil {
		return nil, err
	}
	weak = weakPolicies(cfg, e)
	for _, d := range e.Doubts() {
		weak = append(weak, "policies: "+d)
	}
	return weak, nil
}

// authorize makes the parts that authorization needs. Where nobody is asked who he is everything stays allowed.
func (s *server) authorize() (err error) {
	if s.audit, err = audit.Open(audit.Options{File: s.cfg.Authz.AuditFile, FileBytes: s.cfg.Authz.AuditBytes, Log: s.log}); err != nil {
		return err
	}
	s.engine, err = newEngine(s.cfg, authz.Options{Log: s.log, Denied: s.denied, Known: s.known, Current: s.current})
	return err
}

// known returns the principal of a credential of the directory.
func (s *server) known(id string) (*auth.Principal, bool) { return s.directory.Principal(id) }

// current returns who somebody is by his credential as it is now.
func (s *server) current(p *auth.Principal) (*auth.Principal, bool) { return s.directory.Current(p) }

// denied records what policies do not allow somebody.
func (s *server) denied(p *auth.Principal, l auth.Link, action, resource string) {
	s.recordDenial(p, l, action, resource, "")
}

// refused records what the MQTT server does not allow somebody, and why.
func (s *server) refused(p *auth.Principal, l auth.Link, a auth.Action, name, why string) {
	s.recordDenial(p, l, a.String(), a.Resource()+name, why)
}

func (s *server) recordDenial(p *auth.Principal, l auth.Link, action, resource, detail string) {
	r := audit.Record{
		Principal: p.String(), Action: action, Resource: resource, Outcome: audit.Denied, Detail: detail, ClientID: l.ClientID,
		Source: p.String(),
	}
	if l.Remote.IsValid() {
		r.Remote = l.Remote.String()
	}
	if p.IsAnonymous() {
		r.Source = auth.Source(l.Remote).String()
	}
	s.audit.Add(r)
}

// loginFailed records who could not log in.
func (s *server) loginFailed(ctx context.Context, a authn.Attempt) {
	r := audit.Record{
		Principal: a.Principal, Action: audit.Login, Resource: "listener/" + a.Listener, Outcome: audit.Unauthenticated,
		Detail: a.Reason(), ClientID: a.ClientID, TraceID: rest.TraceID(ctx),
		Source: auth.Source(a.Remote).String(), // who somebody is nobody knows
	}
	if a.Remote.IsValid() {
		r.Remote = a.Remote.String()
	}
	s.audit.Add(r)
}

// changed records who has changed a shadow.
func (s *server) changed(id shadow.ID, by shadow.Author, c *shadow.Change) {
	if s.cfg.Authz.AuditShadows == "desired" && !c.Desires() {
		return
	}
	r := audit.Record{
		Principal: by.Principal, Action: audit.UpdateShadow, Resource: "thing/" + id.Thing, Outcome: audit.Done,
		Detail: fmt.Sprintf("version %d, by %s", c.After.Version(), by.Channel), ClientID: by.ClientID,
	}
	if r.Principal == "" {
		r.Principal = string(auth.Anonymous)
	}
	if id.Name != "" {
		r.Resource += "/" + id.Name
	}
	if c.Op() == shadow.OpDelete {
		r.Action = audit.DeleteShadow
	}
	s.audit.Add(r)
}

// rights returns what whoever makes a request may do.
func (s *server) rights(r *http.Request) auth.Rights {
	var shown auth.Credentials
	gateConn(r).Complete(&shown)
	return s.engine.Rights(auth.FromContext(r.Context()), auth.Link{Remote: shown.Remote, Secure: shown.Secure, Domain: shown.Domain})
}

// watchRights ends the connections and streams of those who may not have them any more when policies have changed, until ctx ends.
func (s *server) watchRights(ctx context.Context) {
	if s.authn == nil {
		return
	}
	changed := make(chan struct{}, 1)
	s.engine.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			s.broker.Recheck()
			s.feed.Recheck(nil)
		}
	}
}
