package redisstore_test

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/redisstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

func TestOpenEviction(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t, "--maxmemory-policy", "allkeys-lru")
	_, err := redisstore.Open(t.Context(), r.URL, statestore.Options{}, redisstore.Options{})
	if err == nil || !strings.Contains(err.Error(), "allkeys-lru") || !strings.Contains(err.Error(), "noeviction") {
		t.Errorf("Open(evicting Redis) = %v, want an error that names the policy and the remedy", err)
	}
	open(t, r.URL, redisstore.Options{AllowEviction: true})
}

func TestOpenPassword(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t, "--requirepass", "right-one")
	host := strings.TrimPrefix(r.URL, "redis://")
	for _, userinfo := range []string{":wrong-secret@", "nobody:wrong-secret@", ""} {
		_, err := redisstore.Open(t.Context(), "redis://"+userinfo+host, statestore.Options{}, redisstore.Options{})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("Open(redis://%s...) = %v, want an error without the password", userinfo, err)
		}
	}
	open(t, "redis://:right-one@"+host, redisstore.Options{})
}

func TestOpenURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, want string }{
		{"", "not a Redis URL"},
		{"redis://", "not a Redis URL"},
		{"redis://:secret@host:port:port/0", "not a Redis URL"},
		{"redis://:secret%@host/0", "not a Redis URL"},
		{"http://:secret@host/0", "invalid URL scheme"},
		{"redis://:secret@127.0.0.1:1/zero", "invalid database number"},
		{"redis://:secret@127.0.0.1:1/0?unknown=1", "unexpected option: unknown"},
		{"redis://:secret@127.0.0.1:1/0", "connection refused"},
	} {
		_, err := redisstore.Open(t.Context(), c.url, statestore.Options{}, redisstore.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Open(%q) = %v, want %q and no password", c.url, err, c.want)
		}
	}
}

// TestOpenSilent opens a server that accepts connections and says nothing.
func TestOpenSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begun := time.Now()
	if _, err := redisstore.Open(t.Context(), "redis://"+l.Addr().String(), statestore.Options{}, redisstore.Options{}); err == nil {
		t.Error("Open(silent server) = nil, want an error")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Open(silent server) took %v, want about 2 s", took)
	}
}

func TestOpenFormat(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	r.Do("SET umbra:format 9")
	_, err := redisstore.Open(t.Context(), r.URL, statestore.Options{}, redisstore.Options{})
	if err == nil || !strings.Contains(err.Error(), `data format "9"`) {
		t.Errorf("Open(later format) = %v, want an error that names it", err)
	}
	open(t, r.URL, redisstore.Options{Prefix: "another"})
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t, "--appendfsync", "always")
	s := open(t, r.URL, redisstore.Options{})
	got, err := s.Report(t.Context())
	if err != nil {
		t.Fatalf("Report() = %v", err)
	}
	if got.Version == "" || !got.AppendOnly || got.AppendFsync != "always" || got.MaxMemoryPolicy != "noeviction" || got.Evicts() {
		t.Errorf("Report() = %+v, want the settings of the server", got)
	}
	if want := "nothing but a lost disk or a failover"; got.Loss() != want {
		t.Errorf("Loss() = %q, want %q", got.Loss(), want)
	}
	r.Do("CONFIG SET appendfsync everysec")
	if got, err = s.Report(t.Context()); err != nil || !strings.Contains(got.Loss(), "seconds") {
		t.Errorf("Report() after everysec = %+v, %v", got, err)
	}
}

// startCluster starts a Redis Cluster of three nodes and returns its URL.
func startCluster(t *testing.T) string {
	t.Helper()
	var nodes []*storetest.RedisServer
	var hosts []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, bus, _ := net.SplitHostPort(l.Addr().String())
		l.Close()
		nodes = append(nodes, storetest.Redis(t, "--cluster-enabled", "yes", "--cluster-port", bus))
		u, err := url.Parse(nodes[len(nodes)-1].URL)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, u.Host)
		nodes[0].Do(fmt.Sprintf("CLUSTER MEET 127.0.0.1 %s %s", u.Port(), bus))
	}
	for i, slots := range []string{"0 5460", "5461 10922", "10923 16383"} {
		nodes[i].Do("CLUSTER ADDSLOTSRANGE " + slots)
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, node := range nodes {
		// Every node has to know all slots.
		for !strings.Contains(node.Do("CLUSTER INFO"), "cluster_state:ok") || !strings.Contains(node.Do("CLUSTER INFO"), "cluster_known_nodes:3") {
			if time.Now().After(deadline) {
				t.Fatalf("the cluster is not up: %s", node.Do("CLUSTER INFO"))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return fmt.Sprintf("redis://%s?addr=%s&addr=%s", hosts[0], hosts[1], hosts[2])
}

func TestCluster(t *testing.T) {
	t.Parallel()
	storetest.Run(t, opener(startCluster(t)))
}
