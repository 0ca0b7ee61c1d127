package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authn"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/auth/password"
	"github.com/umbra-iot/umbra/internal/config"
	"github.com/umbra-iot/umbra/internal/rest"
	"github.com/umbra-iot/umbra/shadow"
)

// openAuthentication reads the credentials. s.authn stays nil when no listener has methods of authentication.
func (s *server) openAuthentication(cfg *config.Config) error {
	methods := map[string][]authn.Method{}
	for _, l := range cfg.All() {
		for _, m := range l.Auth {
			methods[l.Name()] = append(methods[l.Name()], authn.Method(m))
		}
	}
	o := authn.DirectoryOptions{File: cfg.Users, Log: s.log}
	var err error
	if len(methods) > 0 {
		if o.Sealer, err = credential.OpenSealer(cfg.SecretsKey); err != nil {
			return err
		}
	}
	s.sealer = o.Sealer
	if s.directory, err = authn.NewDirectory(o); err != nil || len(methods) == 0 {
		return err
	}
	who := authn.Options{
		Methods: methods, Directory: s.directory, Passwords: password.NewChecker(passwordOptions(cfg)),
		Skew: cfg.Skew, BodyBytes: cfg.Broker.PayloadBytes, Reserve: s.reserve, Log: s.log, Failed: s.loginFailed,
		Certificates: s.certificateCounts,
	}
	if cfg.JWT.Keys != "" {
		if who.JWT, err = newJWTs(cfg, s.log); err != nil {
			return err
		}
	}
	if cfg.Webhook.URL != "" {
		who.Webhook = authn.NewWebhooks(authn.WebhookOptions{
			URL: cfg.Webhook.URL, Timeout: cfg.Webhook.Timeout, Remember: cfg.Webhook.Remember, Parallel: cfg.Webhook.Requests,
			Waiting: cfg.Logins.Waiting, Each: cfg.Logins.Address, Entries: cfg.Logins.Remembered,
		})
	}
	s.authn = authn.New(who)
	return nil
}

func passwordOptions(cfg *config.Config) password.Options {
	return password.Options{
		Parallel: cfg.PasswordChecks, Waiting: cfg.Logins.Waiting, Each: cfg.Logins.Address, Entries: cfg.Logins.Remembered,
	}
}

func newJWTs(cfg *config.Config, log *slog.Logger) (*authn.JWTs, error) {
	j, err := authn.NewJWTs(authn.JWTOptions{
		Keys: cfg.JWT.Keys, Interval: cfg.JWT.Interval, Issuer: cfg.JWT.Issuer, Audience: cfg.JWT.Audience, Algorithms: cfg.JWT.Algorithms,
		NameClaim: cfg.JWT.NameClaim, GroupClaim: cfg.JWT.GroupClaim, Bytes: cfg.JWT.Bytes, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("jwt-keys: %w", err)
	}
	return j, nil
}

// followCredentials takes over the credentials of the store. When they change, those count from then on that are there
// then, and connections of others end.
func (s *server) followCredentials(ctx context.Context) error {
	if err := s.directory.Follow(ctx, s.objects); err != nil {
		return fmt.Errorf("reading credentials: %w", err)
	}
	s.directory.OnChange(func(ids map[string]bool) {
		s.engine.Renew()
		s.log.Info("credentials have changed", "principals", len(ids), "connections_ended", s.endStale())
	})
	if s.authn != nil && s.authn.JWT != nil {
		s.authn.JWT.OnChange(func() { s.endStale() })
	}
	return nil
}

// endStale ends the connections and streams whose credentials do not count any more, and returns how many connections it has ended.
func (s *server) endStale() (connections int) {
	now := time.Now()
	s.feed.Recheck(func(p *auth.Principal) bool { return !p.CountsAt(now) })
	return s.broker.Recheck()
}

// authenticate finds out who makes a request. Its connection is that of a stranger no more.
func (s *server) authenticate(r *http.Request) (*auth.Principal, error) {
	p, err := s.identify(r)
	if err == nil {
		gateConn(r).Admit()
	}
	return p, err
}

// identify is authenticate for a request that leaves its connection what it is.
func (s *server) identify(r *http.Request) (*auth.Principal, error) {
	if s.authn == nil {
		return auth.Nobody(), nil
	}
	c := gateConn(r)
	p, err := s.authn.Request(r, c.Listener(), c.Peer())
	if errors.Is(err, authn.ErrTooLarge) {
		err = &shadow.Error{Code: http.StatusRequestEntityTooLarge, Message: "The payload exceeds the maximum size allowed"}
	}
	return p, err
}

// recognize finds out who asks for the details of health, if he or his connection says so. Who does not has not failed to
// log in.
func (s *server) recognize(r *http.Request) (*auth.Principal, error) {
	if s.authn == nil || !r.URL.Query().Has("verbose") || !authn.ShowsCredentials(r) && gateConn(r).Peer() == nil {
		return auth.Nobody(), nil
	}
	return s.identify(r)
}

// reserve takes memory for the body of a request, of whom nobody knows yet who makes it.
func (s *server) reserve(r *http.Request, bytes int) (release func(), ok bool) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.RequestTimeout)
	defer cancel()
	c := gateConn(r)
	return c.Release, c.Reserve(ctx, bytes)
}

// estranged makes the connection of a request that of a stranger: a WebSocket is one until its CONNECT packet is
// accepted, whatever its connection was before.
func (s *server) estranged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.reserve(r, 0); !ok {
			http.Error(w, "Too many connections", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// vouched lets the request that begins a WebSocket prove who its client is. One that shows nothing goes on: its
// CONNECT packet may. What it shows counts for the WebSocket, and not for other requests of the connection.
func (s *server) vouched(next http.Handler) http.Handler {
	if s.authn == nil {
		return next
	}
	guarded := rest.Guard(s.identify, s.log, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !authn.ShowsCredentials(r) {
			next.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}
