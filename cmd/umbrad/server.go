package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/audit"
	"github.com/umbra-iot/umbra/internal/auth/authn"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/config"
	"github.com/umbra-iot/umbra/internal/gate"
	"github.com/umbra-iot/umbra/internal/mappings"
	"github.com/umbra-iot/umbra/internal/metrics"
	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/internal/rest"
	"github.com/umbra-iot/umbra/internal/version"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/things"
)

// Bounds of the end of the server: together less than the 10 s that it promises.
const (
	drainTimeout = 4 * time.Second // of connections, and then of the requests that they left
	closeTimeout = 1500 * time.Millisecond
)

const (
	sweepInterval = 10 * time.Minute
	sweepTimeout  = time.Minute
)

// Times of the look at the store.
const (
	watchInterval = time.Second
	watchTimeout  = 2 * time.Second
)

// serve runs a server with the settings cfg, of which it is known what is weak, until ctx ends. What is started first ends last: the store,
// the service, the MQTT server, the listeners.
func serve(ctx context.Context, cfg *config.Config, weak []string, log *slog.Logger, stdout io.Writer) (err error) {
	if choosesPort(cfg) && wasClosed(os.Stdout) {
		return errors.New("the standard output is closed: nobody would learn the ports")
	}
	log.Info("starting", "version", version.Get().String(), "store", cfg.StoreName())
	store, kind, err := openStore(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, within(closeTimeout, store.Close)) }()
	s, err := newServer(ctx, cfg, store, kind, log)
	if err != nil {
		return err
	}
	s.weak = weak
	defer s.closeServices()
	if err := s.engine.Follow(ctx, s.objects); err != nil {
		return fmt.Errorf("reading policies: %w", err)
	}
	if err := s.followCredentials(ctx); err != nil { // what the last run has left is sent and kept by who counts now
		return err
	}
	if err := s.broker.Restore(ctx); err != nil {
		return fmt.Errorf("reading sessions: %w", err)
	}
	if err := s.things.Start(ctx); err != nil {
		return fmt.Errorf("announcing what the last run left: %w", err)
	}
	s.broker.Start()
	s.mappings.Use(s.useMappings)
	s.watch(s.reload)
	if s.authn != nil && s.authn.JWT != nil {
		s.watch(s.authn.JWT.Refresh) // apart from the files: an issuer may take its time
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	if cfg.Open() {
		log.Warn("anybody who reaches this server may read and change everything", "listeners", addresses(s.listeners))
	}
	for _, w := range weak {
		log.Warn("settings are weak", "warning", w)
	}
	if _, err = fmt.Fprintln(stdout, s.readyLine()); err != nil {
		s.gate.Close()
		return fmt.Errorf("telling that the server is ready: %w", err)
	}
	return s.run(ctx)
}

// server is the parts of umbrad above the store.
type server struct {
	cfg      *config.Config
	weak     []string // settings, and what to do about them
	log      *slog.Logger
	metrics  *metrics.Metrics
	feed     *rest.Feed
	broker   *broker.Broker
	things   *things.Service
	objects  *objects.Store
	mappings *mappings.Directory
	authn    *authn.Authenticator // nil when everybody is let in

	directory *authn.Directory
	sealer    *credential.Sealer // nil without authentication
	strangers *gate.Budget
	quotas    rest.Quotas

	connections int // that there may be at a time
	engine      *authz.Engine
	audit       *audit.Log

	gate      *gate.Gate
	listeners []*listening
	watchers  []watcher
}

func newServer(ctx context.Context, cfg *config.Config, store statestore.Store, kind string, log *slog.Logger) (*server, error) {
	s := &server{cfg: cfg, log: log, metrics: metrics.New(), feed: rest.NewFeed()}
	if err := s.authorize(); err != nil {
		return nil, err
	}
	measured := s.metrics.Store(store, kind)
	s.objects = objects.New(objects.Options{Objects: measured, Log: log})
	options := broker.Options{Log: log, Version: version.Get().Version, StoreTimeout: cfg.CommitTimeout}
	if err := s.openMappings(ctx); err != nil {
		return nil, err
	}
	options.Mappings, options.NativeTopics, options.KeepRetained = s.mappings.Set(), cfg.NativeTopics == "on", cfg.KeepRetained
	if kind != "memory" {
		options.Store = measured
	}
	options.Presence, options.Origins = cfg.Presence, cfg.Origins
	if cfg.AWSStrict {
		options.Profile = broker.AWS()
	}
	s.strangers = gate.NewBudget(cfg.StrangerBytes)
	options.Strangers = s.strangers
	s.setLimits(&options)
	if err := errors.Join(s.prepare(), s.openAuthentication(cfg)); err != nil {
		return nil, err
	}
	if s.authn != nil {
		options.Authenticator, options.Guard, options.Denied = s.authn, s.engine, s.refused
	}
	var err error
	if s.broker, err = broker.New(options); err != nil {
		return nil, err
	}
	changed := s.changed
	if cfg.Authz.AuditShadows == "off" {
		changed = nil
	}
	s.things = things.New(things.Options{
		Store:         measured,
		Publisher:     things.Publishers{s.broker, s.feed},
		Changed:       changed,
		Limits:        cfg.Shadow,
		Quota:         cfg.Quota,
		NamedShadows:  cfg.NamedShadows,
		Log:           log,
		CacheBytes:    cfg.CacheBytes,
		CommitTimeout: cfg.CommitTimeout,
		TombstoneAge:  cfg.TombstoneAge,
	})
	s.broker.SetService(s.things)
	s.metrics.Broker(s.broker.Stats)
	s.metrics.Mappings(s.broker.MappingStats)
	s.metrics.Things(s.things.Stats)
	if s.authn != nil {
		s.metrics.Logins(s.authn.Failures)
	}
	return s, nil
}

// run serves until ctx ends or a listener fails.
func (s *server) run(ctx context.Context) error {
	web := s.newHTTPServer()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(s.gate.Serve)
	g.Go(func() error { return s.broker.ServeTCP(s.gate.MQTT()) })
	g.Go(func() error {
		if err := web.Serve(s.gate.HTTP()); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("http: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		s.watchRights(ctx)
		return nil
	})
	for _, w := range s.watchers {
		g.Go(func() error {
			w.run(ctx)
			return nil
		})
	}
	g.Go(func() error { return s.objects.Run(ctx) })
	g.Go(func() error {
		s.sweep(ctx)
		return nil
	})
	g.Go(func() error {
		s.watchStore(ctx)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		s.log.Info("stopping")
		s.drain(web)
		return nil
	})
	return g.Wait()
}

// drain stops accepting, ends the event streams and waits for what clients have under way.
func (s *server) drain(web *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	s.gate.Close()
	s.feed.Close()
	var g errgroup.Group
	g.Go(func() error {
		if err := web.Shutdown(ctx); err != nil {
			s.log.Warn("http requests did not end in time", "err", err)
			web.Close()
		}
		return nil
	})
	g.Go(func() error {
		if err := s.broker.Shutdown(ctx); err != nil {
			s.log.Warn("mqtt connections did not end in time", "err", err)
		}
		return nil
	})
	_ = g.Wait() // both log what went wrong
}

// closeServices waits for requests, and for what sessions have left to be stored.
func (s *server) closeServices() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := s.things.Close(ctx); err != nil {
		s.log.Warn("requests did not end in time", "err", err)
	}
	if err := s.broker.Close(ctx); err != nil {
		s.log.Warn("not everything is stored", "err", err)
	}
	if err := s.audit.Close(); err != nil {
		s.log.Warn("audit records may be lost", "err", err)
	}
}

// sweep removes what has expired from the store, now and then, until ctx ends.
func (s *server) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sweepCtx, cancel := context.WithTimeout(ctx, sweepTimeout)
		if err := s.things.Sweep(sweepCtx); err != nil && ctx.Err() == nil {
			s.log.Warn("expired data stays for now", "err", err)
		}
		cancel()
	}
}

// watchStore logs when the store stops to answer and when it answers again, until ctx ends.
func (s *server) watchStore(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var gone time.Time // zero while the store answers
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pingCtx, cancel := context.WithTimeout(ctx, watchTimeout)
		err := s.things.Ready(pingCtx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && gone.IsZero():
			gone = time.Now()
			s.log.Warn("store does not answer", "err", err)
		case err == nil && !gone.IsZero():
			s.log.Info("store answers again", "after", time.Since(gone).Round(time.Millisecond))
			gone = time.Time{}
		}
	}
}

// within runs f and waits for its end, but not for longer than timeout: the process ends then.
func within(timeout time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(timeout):
		return errors.New("the store did not close in time")
	}
}
