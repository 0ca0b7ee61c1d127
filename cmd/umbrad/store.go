package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/internal/config"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/statestore/pebblestore"
	"github.com/umbra-iot/umbra/statestore/redisstore"
	"github.com/umbra-iot/umbra/things"
)

// Pauses between two attempts to open a store.
const (
	firstPause = 250 * time.Millisecond // then twice as long each time
	mostPause  = 4 * time.Second
)

// checkStore finds what is wrong with the name of a store before anything is opened.
func checkStore(name string) error {
	if kind, _, _ := strings.Cut(name, ":"); kind == "redis" || kind == "rediss" {
		return redisstore.CheckURL(name)
	}
	return nil
}

// openStore opens the store of cfg, trying again for as long as cfg says, which is longer while Redis loads its data. kind is
// its scheme.
func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (store statestore.Store, kind string, err error) {
	kind, rest, _ := strings.Cut(cfg.Store, ":")
	options := statestore.Options{HistoryLimit: cfg.History.Versions, HistoryAge: cfg.History.Age, Redo: things.Redo}
	if options.HistoryLimit == 0 {
		options.HistoryLimit = -1
	}
	began, isLoading := time.Now(), false
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		switch kind {
		case "memory":
			return memstore.New(options), kind, nil
		case "pebble":
			store, err = openPebble(rest, options, log)
		default:
			store, err = openRedis(ctx, cfg, options, log)
		}
		deadline := began.Add(cfg.StoreWait)
		if isLoading = redisstore.IsLoading(err) || isLoading && isTimeout(err); isLoading {
			deadline = began.Add(max(cfg.StoreWait, cfg.Redis.LoadWait))
		}
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return store, kind, err
		}
		log.Warn("store is not ready yet", "store", cfg.StoreName(), "err", err, "waits_until", deadline)
		select {
		case <-ctx.Done():
		case <-time.After(min(pause, time.Until(deadline))):
		}
	}
}

// isTimeout reports whether there was no answer in time, as it happens now and then while Redis loads its data.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// openPebble opens a store whose failure ends the process: nobody knows what the disk holds then, a new process reads
// what it does, and clients that got no acknowledgement send again.
func openPebble(dir string, options statestore.Options, log *slog.Logger) (statestore.Store, error) {
	store, err := pebblestore.Open(dir, options, pebblestore.Options{Log: log, FS: disk(), OnFailure: die, OpenFiles: openFiles(0).store})
	if err != nil {
		return nil, err // not a nil *Store in a Store that is not nil
	}
	return store, nil
}

// redisStore has a name among the nodes of its Redis.
type redisStore struct {
	*redisstore.Store
	node *node // nil when the settings name it
}

// Close implements [statestore.Store].
func (s redisStore) Close() error {
	err := s.Store.Close()
	if s.node != nil {
		err = errors.Join(err, s.node.close())
	}
	return err
}

func openRedis(ctx context.Context, cfg *config.Config, options statestore.Options, log *slog.Logger) (_ statestore.Store, err error) {
	s := redisStore{}
	name := cfg.Redis.Node
	if name == "" {
		if s.node, err = openNode(cfg.Data); err != nil {
			return nil, fmt.Errorf("naming this node (redis-node does it too): %w", err)
		}
		name = s.node.name
	}
	s.Store, err = redisstore.Open(ctx, cfg.Store, options, redisstore.Options{
		Prefix:        cfg.Redis.Prefix,
		Node:          name,
		AllowEviction: cfg.Redis.AllowEviction,
	})
	if err != nil {
		if s.node != nil {
			err = errors.Join(err, s.node.close())
		}
		return nil, err
	}
	report, err := s.Report(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("asking Redis for its durability: %w", err), s.Close())
	}
	level := slog.LevelInfo
	if !report.AppendOnly {
		level = slog.LevelWarn
	}
	log.Log(ctx, level, "durability of redis", "node", name, "redis", report)
	return s, nil
}
