package redisstore

import (
	"cmp"
	"context"
	"log/slog"
	"strconv"
	"strings"
)

// Durability is what the settings of a Redis promise. A setting that the server
// does not tell is "unknown".
type Durability struct {
	Version         string // of Redis
	AppendOnly      bool   // writes go to an append-only file
	AppendFsync     string // "always": synced before the answer; "everysec"; "no"
	MaxMemoryPolicy string // "noeviction", or which keys are deleted when memory is full
	Replicas        int    // connected now
	MinReplicas     string // min-replicas-to-write
}

// Evicts reports whether Redis may delete shadows when its memory is full.
func (d Durability) Evicts() bool {
	return d.MaxMemoryPolicy != "noeviction" && d.MaxMemoryPolicy != unknown
}

// tooOld reports whether a Redis of this version lacks commands that shadows are kept with: XADD with NOMKSTREAM came
// with 6.2.
func (d Durability) tooOld() bool {
	first, rest, _ := strings.Cut(d.Version, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	return err == nil && err2 == nil && (major < 6 || major == 6 && minor < 2)
}

// Loss says in words what an acknowledged commit does not survive.
func (d Durability) Loss() string {
	switch {
	case !d.AppendOnly:
		return "a restart of Redis loses what is newer than its last snapshot"
	case d.AppendFsync == "always":
		return "nothing but a lost disk or a failover"
	case d.AppendFsync == "everysec":
		return "a crash of Redis (kill -9 too) or a power failure can lose up to the last two seconds"
	case d.AppendFsync == unknown:
		return "not known, as Redis does not tell its appendfsync"
	}
	return "a power failure loses what the system had not yet written"
}

// LogValue implements slog.LogValuer.
func (d Durability) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("version", d.Version),
		slog.Bool("appendonly", d.AppendOnly),
		slog.String("appendfsync", d.AppendFsync),
		slog.String("maxmemory_policy", d.MaxMemoryPolicy),
		slog.Int("replicas", d.Replicas),
		slog.String("min_replicas_to_write", d.MinReplicas),
		slog.String("loss", d.Loss()),
	)
}

// unknown stands for settings that the server does not tell.
const unknown = "unknown"

// Report asks Redis for its settings; of a cluster, one node.
func (s *Store) Report(ctx context.Context) (Durability, error) {
	text, err := s.client.Info(ctx).Result()
	if err != nil {
		return Durability{}, s.failure("info", err)
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	replicas, _ := strconv.Atoi(info["connected_slaves"])
	return Durability{
		Version:         cmp.Or(info["redis_version"], unknown),
		AppendOnly:      info["aof_enabled"] == "1",
		AppendFsync:     s.setting(ctx, "appendfsync"),
		MaxMemoryPolicy: cmp.Or(info["maxmemory_policy"], unknown),
		Replicas:        replicas,
		MinReplicas:     s.setting(ctx, "min-replicas-to-write"),
	}, nil
}

// setting asks for a setting; hosted servers often refuse to tell.
func (s *Store) setting(ctx context.Context, name string) string {
	values, err := s.client.ConfigGet(ctx, name).Result()
	if err != nil {
		return unknown
	}
	return cmp.Or(values[name], unknown)
}
