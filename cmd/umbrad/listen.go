package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authn"
	"github.com/umbra-iot/umbra/internal/config"
	"github.com/umbra-iot/umbra/internal/gate"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

// filesInterval is how often files are looked at.
const filesInterval = time.Second

// listening is a listener.
type listening struct {
	config.Listener
	addr net.Addr         // nil until it is open
	tls  *tlsfiles.Config // nil without TLS
}

// prepare reads the files of TLS of all listeners, before anything of the last run is sent: they say whose certificates
// count.
func (s *server) prepare() (err error) {
	for _, l := range s.cfg.All() {
		ln := &listening{Listener: l}
		if l.Kind.IsTLS() {
			if ln.tls, err = tlsfiles.Load(filesOf(l)); err != nil {
				return fmt.Errorf("%s: %w", l.Kind, err)
			}
		}
		s.listeners = append(s.listeners, ln)
	}
	return nil
}

// listen opens all listeners.
func (s *server) listen(ctx context.Context) error {
	o := gate.Options{
		Log: s.log, Handshake: s.cfg.Handshake, HandshakeBytes: s.cfg.HandshakeBytes, Budget: s.strangers,
		PerAddress: s.cfg.PerAddress, Connections: s.connections,
	}
	if s.authn != nil {
		o.Refused = func(listener string, remote netip.Addr, cert *x509.Certificate, why error) {
			s.authn.RefuseCertificate(ctx, listener, remote, cert, why)
		}
	}
	s.gate = gate.New(o)
	s.metrics.Gate(s.gate.Stats)
	for _, l := range s.listeners {
		if err := s.open(ctx, l); err != nil {
			s.gate.Close()
			return fmt.Errorf("%s: %w", l.Kind, err)
		}
	}
	return nil
}

func (s *server) open(ctx context.Context, l *listening) (err error) {
	spec := gate.Spec{
		Name: l.Name(), Kind: l.Kind, Address: l.Address, TLS: l.tls, Proxies: l.Proxies, Connections: l.Connections, Rate: l.Rate,
	}
	if l.tls != nil {
		spec.Identify = func(state tls.ConnectionState) (*auth.Principal, error) {
			return authn.FromConnection(state, authn.Identity(l.TLS.Identity), tlsfiles.Chains(state), l.tls.Counts)
		}
	}
	if l.addr, err = s.gate.Listen(ctx, spec); err != nil {
		return err
	}
	s.log.Info("listening", "listener", l.Kind, "address", l.addr.String(), "auth", strings.Join(l.Auth, ","))
	return nil
}

// certificateCounts reports whether a client certificate with these chains counts on one of the listeners.
func (s *server) certificateCounts(chains []byte) bool {
	return slices.ContainsFunc(s.listeners, func(l *listening) bool {
		return l.tls != nil && slices.Contains(l.Auth, string(authn.Certificate)) && l.tls.Counts(chains)
	})
}

// checkFiles finds what is wrong with the files of TLS and of keys for JWT before anything is opened, and what is weak.
func checkFiles(cfg *config.Config) (weak []string, err error) {
	if _, err := authn.NewDirectory(authn.DirectoryOptions{File: cfg.Users}); err != nil {
		return nil, err
	}
	if cfg.JWT.Keys != "" {
		if _, err := newJWTs(cfg, slog.New(slog.DiscardHandler)); err != nil {
			return nil, err
		}
	}
	for _, l := range cfg.All() {
		if !l.Kind.IsTLS() {
			continue
		}
		files, err := tlsfiles.Load(filesOf(l))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Kind, err)
		}
		weak = append(weak, weakFiles(l, files, time.Now())...)
	}
	slices.Sort(weak)
	return slices.Compact(weak), nil // listeners may share a file
}

func filesOf(l config.Listener) tlsfiles.Files {
	f := tlsfiles.Files{
		Cert: l.TLS.Cert, Key: l.TLS.Key, ClientCA: l.TLS.ClientCA, CRL: l.TLS.CRL,
		ClientCert: l.TLS.ClientCert, MinVersion: tls.VersionTLS12, Protocols: l.Kind.Protocols(),
	}
	if l.TLS.MinVersion == "1.3" {
		f.MinVersion = tls.VersionTLS13
	}
	return f
}

// readyLine is what umbrad prints when it is ready: the first listeners for MQTT and HTTP, the store, and
// then the listeners with TLS and all others.
func (s *server) readyLine() string {
	first := map[gate.Kind]string{gate.MQTT: config.Off, gate.HTTP: config.Off}
	var more strings.Builder
	for _, l := range s.listeners {
		if first[l.Kind] == config.Off {
			first[l.Kind] = l.addr.String()
		} else {
			fmt.Fprintf(&more, " %s=%s", l.Kind, l.addr)
		}
	}
	return fmt.Sprintf("umbrad ready mqtt=%s http=%s store=%s%s", first[gate.MQTT], first[gate.HTTP], s.cfg.StoreName(), more.String())
}

// addresses are those of the listeners that let everybody in.
func addresses(all []*listening) []string {
	var list []string
	for _, l := range all {
		if l.IsAnonymous() {
			list = append(list, l.addr.String())
		}
	}
	return list
}

// watcher looks at something again and again.
type watcher struct {
	look   func(ctx context.Context, force bool)
	hangUp chan os.Signal
}

// watch has look called from run on, each second and at SIGHUP. force is true for a signal: what has not changed, as far
// as that is seen, is to be read too. From now on the signal does not end the process, where there is something to read.
func (s *server) watch(look func(ctx context.Context, force bool)) {
	w := watcher{look: look, hangUp: make(chan os.Signal, 1)}
	if usesFiles(s.cfg) {
		signal.Notify(w.hangUp, syscall.SIGHUP)
	}
	s.watchers = append(s.watchers, w)
}

// run looks until ctx ends.
func (w watcher) run(ctx context.Context) {
	defer signal.Stop(w.hangUp)
	tick := time.NewTicker(filesInterval)
	defer tick.Stop()
	for {
		force := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.hangUp:
			force = true
		}
		w.look(ctx, force)
	}
}

// reload takes over files that have changed, and ends what is over because time goes on.
func (s *server) reload(_ context.Context, force bool) {
	for _, l := range s.listeners {
		if l.tls != nil {
			s.refresh(l, force)
		}
	}
	s.mappings.Reload(force)
	s.engine.Reload(force)
	if err := s.directory.Reload(force); err != nil {
		s.log.Error("file of users cannot be used, the old one stays in force", "error", err)
	}
	if s.authn == nil {
		return
	}
	s.broker.RecheckTimed()
	now := time.Now()
	s.feed.Recheck(func(p *auth.Principal) bool { return !p.CountsAt(now) })
}

// refresh reads the files of a listener, and ends the connections whose certificates do not count any more.
func (s *server) refresh(l *listening, force bool) {
	changed, err := l.tls.Reload(force)
	if err != nil {
		s.log.Error("files of TLS cannot be used, the old ones stay in force", "listener", l.Name(), "error", err)
		return
	}
	if !changed {
		return
	}
	s.log.Info("files of TLS are read again", "listener", l.Name(), "certificate_until", l.tls.NotAfter())
	now := time.Now()
	if until, stale := l.tls.Stale(now); stale {
		s.log.Warn("revocation list should have been replaced", "listener", l.Name(), "until", until)
	}
	s.endStale() // at first: who is cut off leaves a will
	s.gate.Recheck(l.Name(), func(state tls.ConnectionState) error { return l.tls.Check(state, time.Now()) })
}

// warnings tells what the settings leave open, and which files cannot be used now.
func (s *server) warnings() []string {
	list := slices.Concat(s.weak, s.engine.Problems(), s.directory.Problems())
	if s.authn != nil && s.authn.JWT != nil {
		list = append(list, s.authn.JWT.Problems()...)
	}
	for _, l := range s.listeners {
		if l.tls != nil && l.tls.Problem() != nil {
			list = append(list, l.Name()+": files of TLS cannot be used, the old ones are in force; the log says why")
		}
	}
	return list
}

// usesFiles reports whether there is something to read again at SIGHUP.
func usesFiles(cfg *config.Config) bool {
	isFile := func(mappings string) bool {
		_, preset := mapping.Preset(mappings)
		return !preset
	}
	if cfg.Users != "" || cfg.JWT.Keys != "" || cfg.Authz.Policies != "" || slices.ContainsFunc(cfg.Mappings, isFile) {
		return true
	}
	for _, l := range cfg.All() {
		if l.Kind.IsTLS() {
			return true
		}
	}
	return false
}
