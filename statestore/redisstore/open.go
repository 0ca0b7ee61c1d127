package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/umbra-iot/umbra/statestore"
)

const (
	// format is the version of the data format of this package.
	format = "3"
	// ioTimeout bounds dialing, sending and each reply, unless the URL says otherwise.
	ioTimeout = 1500 * time.Millisecond
)

// Options are what only this store needs. The zero value means the defaults.
type Options struct {
	Prefix        string // of all keys, without braces; default "umbra"
	Node          string // name of this node, unique among those that share the Redis and the same after a restart; default "node"
	AllowEviction bool   // accept a maxmemory-policy that silently deletes shadows
}

// Open connects to the Redis at a URL:
//
//	redis://[user:password@]host:port/db                 a single server; rediss:// with TLS
//	redis://host:port/db?master_name=M&addr=host2:port2  the master M of these Sentinels
//	redis://host:port?addr=host2:port2                   a Redis Cluster with these and other nodes
//
// Further parameters are those of go-redis' ParseURL, ParseFailoverURL and
// ParseClusterURL, such as read_timeout and pool_size. Open fails when Redis
// does not answer in about 2 seconds, is older than 6.2, may evict keys, or has
// data of another format. Errors contain no password. See [IsLoading] for one that passes.
//
// Open turns off the log of the go-redis package for the whole program: it has
// no format of its own to fit ours, and repeats what is returned as errors.
func Open(ctx context.Context, rawURL string, o statestore.Options, ro Options) (*Store, error) {
	logging.Disable()
	o = o.WithDefaults()
	connected := new(atomic.Int64)
	client, err := newClient(rawURL, func(context.Context, *redis.Conn) error {
		connected.Store(o.Now().UnixMilli())
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("redisstore: %w", err)
	}
	prefix := cmp.Or(ro.Prefix, "umbra")
	if strings.ContainsAny(prefix, "{}") {
		return nil, fmt.Errorf("redisstore: prefix %q has braces", prefix)
	}
	s := newStore(client, connected, o, newKeys(prefix, cmp.Or(ro.Node, "node")))
	if err := s.check(ctx, ro.AllowEviction); err != nil {
		return nil, fmt.Errorf("redisstore: open: %w", errors.Join(err, client.Close()))
	}
	s.background.Go(s.flushIdle)
	return s, nil
}

// check refuses a Redis that cannot hold shadows.
func (s *Store) check(ctx context.Context, allowEviction bool) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		return err
	}
	d, err := s.Report(ctx)
	if err != nil {
		return err
	}
	if d.tooOld() {
		return fmt.Errorf("this is Redis %s, at least 6.2 is needed", d.Version)
	}
	if d.Evicts() && !allowEviction {
		return fmt.Errorf("maxmemory-policy is %s, which silently deletes shadows: set it to noeviction", d.MaxMemoryPolicy)
	}
	if err := s.client.SetNX(ctx, s.keys.format(), format, 0).Err(); err != nil {
		return err
	}
	found, err := s.client.Get(ctx, s.keys.format()).Result()
	if err != nil {
		return err
	}
	if found != format {
		return fmt.Errorf("data format %q is not the one of this program, %s: use the version of it that wrote the data, or another prefix", found, format)
	}
	if err := s.loadOutbox(ctx); err != nil {
		return err
	}
	return s.loadPuts(ctx)
}

// CheckURL reports what Open would not accept about a URL, without a connection.
func CheckURL(rawURL string) error {
	client, err := newClient(rawURL, nil)
	if err != nil {
		return err
	}
	return client.Close()
}

// newClient returns the client for a URL. It does not connect; when it does, it calls onConnect.
func newClient(rawURL string, onConnect func(context.Context, *redis.Conn) error) (redis.UniversalClient, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		// The error of url.Parse shows the URL, and with it the password.
		return nil, errors.New("not a Redis URL such as redis://user:password@host:6379/0")
	}
	switch query := u.Query(); {
	case query.Has("master_name"):
		o, err := redis.ParseFailoverURL(rawURL)
		if err != nil {
			return nil, err
		}
		setFailover(o)
		o.OnConnect = onConnect
		return redis.NewFailoverClient(o), nil
	case query.Has("addr"):
		o, err := redis.ParseClusterURL(rawURL)
		if err != nil {
			return nil, err
		}
		setCluster(o)
		o.OnConnect = onConnect
		return redis.NewClusterClient(o), nil
	}
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, err
	}
	setSingle(o)
	o.OnConnect = onConnect
	return redis.NewClient(o), nil
}

// The three kinds of options have the same fields with different types around
// them. The client itself never repeats a command: only Store knows which may be.

func setSingle(o *redis.Options) {
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.DialTimeout = cmp.Or(o.DialTimeout, ioTimeout)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, ioTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, ioTimeout)
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func setFailover(o *redis.FailoverOptions) {
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.DialTimeout = cmp.Or(o.DialTimeout, ioTimeout)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, ioTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, ioTimeout)
}

func setCluster(o *redis.ClusterOptions) {
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.DialTimeout = cmp.Or(o.DialTimeout, ioTimeout)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, ioTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, ioTimeout)
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
