package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

const (
	devices = 200
	rounds  = 5 // of each server, in turns; the table has medians
	warmUp  = 500 * time.Millisecond
	measure = 3 * time.Second
	bound   = 2 * time.Minute // of one measurement
)

// server is something that devices talk to and that costs CPU time.
type server struct {
	name    string
	addr    string
	pids    []int // the first is the broker, the others what it needs
	traffic func(run string) traffic

	samples []sample
}

// sample is the outcome of one measurement.
type sample struct {
	perSecond float64
	cpu       []float64 // us per update, by process
}

// BenchmarkUpdatePath measures the whole path of QoS 1 updates, from the socket to the store and back,
// on every store and on a bare broker. It prints a table; b.N does not matter.
func BenchmarkUpdatePath(b *testing.B) {
	if b.N > 1 {
		return // the first run took longer than any -benchtime asks for
	}
	measureAll(b, []*server{
		bareServer(b),
		umbraServer(b, "umbra memory", "memory:"),
		redisServer(b, "umbra redis", "everysec"),
		redisServer(b, "umbra redis fsync", "always"),
		umbraServer(b, "umbra pebble", "pebble:"+diskDir(b)),
	})
}

// measureAll lets servers take turns and reports. The first is what the others are compared with.
func measureAll(b *testing.B, servers []*server) {
	b.Helper()
	for r := range rounds {
		for _, s := range servers {
			sample, err := s.run(b.Context(), fmt.Sprintf("r%d-", r))
			if err != nil {
				b.Fatalf("%s: %v", s.name, err)
			}
			s.samples = append(s.samples, sample)
		}
	}
	report(b, servers)
}

// run measures one load.
func (s *server) run(ctx context.Context, run string) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	l, err := startLoad(ctx, s.addr, devices, s.traffic(run))
	if err != nil {
		return sample{}, err
	}
	result, err := s.sample(ctx, l)
	if endErr := l.end(); endErr != nil {
		return sample{}, endErr
	}
	return result, err
}

// sample lets a load run and takes the CPU times before and after.
func (s *server) sample(ctx context.Context, l *load) (sample, error) {
	pause(ctx, warmUp)
	before, err := s.cpu()
	if err != nil {
		return sample{}, err
	}
	began, updates := time.Now(), l.done.Load()
	pause(ctx, measure)
	n := float64(l.done.Load() - updates)
	wall := time.Since(began)
	after, err := s.cpu()
	if err != nil {
		return sample{}, err
	}
	result := sample{perSecond: n / wall.Seconds()}
	for i := range after {
		result.cpu = append(result.cpu, (after[i]-before[i]).Seconds()*1e6/n)
	}
	return result, nil
}

func (s *server) cpu() ([]time.Duration, error) {
	var times []time.Duration
	for _, pid := range s.pids {
		t, err := cpuTime(pid)
		if err != nil {
			return nil, err
		}
		times = append(times, t)
	}
	return times, nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// report prints the table and hands the figures to the benchmark.
func report(b *testing.B, servers []*server) {
	b.Helper()
	floor := servers[0].median(func(s sample) float64 { return s.cpu[0] })
	var t strings.Builder
	fmt.Fprintf(&t, "%d devices, window 1, QoS 1, medians of %d rounds of %v\n\n", devices, rounds, measure)
	fmt.Fprintf(&t, "%-18s %12s %10s %12s %10s %12s\n", "server", "CPU us/round", "vs first", "with redis", "vs first", "rounds/s")
	for _, s := range servers {
		own := s.median(func(x sample) float64 { return x.cpu[0] })
		fmt.Fprintf(&t, "%-18s %12.1f %10.2f", s.name, own, own/floor)
		if len(s.pids) > 1 {
			all := s.median(func(x sample) float64 { return x.cpu[0] + x.cpu[1] })
			fmt.Fprintf(&t, " %12.1f %10.2f", all, all/floor)
		} else {
			fmt.Fprintf(&t, " %12s %10s", "", "")
		}
		fmt.Fprintf(&t, " %12.0f\n", s.median(func(x sample) float64 { return x.perSecond }))
		b.ReportMetric(own/floor, strings.ReplaceAll(s.name, " ", "-")+"-x")
	}
	b.ReportMetric(0, "ns/op") // says nothing here
	b.Logf("\n%s", t.String())
}

func (s *server) median(of func(sample) float64) float64 {
	values := make([]float64, len(s.samples))
	for i, x := range s.samples {
		values[i] = of(x)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

var bareReady = regexp.MustCompile(`^baremochi ready mqtt=(\S+)\n$`)

// bareServer starts the bare broker; it ends when its standard input closes.
func bareServer(b testing.TB) *server {
	b.Helper()
	cmd := exec.Command(umbradtest.Build(b, "./bench/baremochi"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("baremochi: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	m := bareReady.FindStringSubmatch(line)
	if err != nil || m == nil {
		b.Fatalf("baremochi: first line %q, %v", line, err)
	}
	return &server{name: "bare mochi", addr: m[1], pids: []int{cmd.Process.Pid}, traffic: plain}
}

func umbraServer(b *testing.B, name, store string) *server {
	b.Helper()
	u := umbradtest.Start(b, "--store="+store)
	return &server{name: name, addr: u.MQTT(), pids: []int{u.PID()}, traffic: shadows}
}

func redisServer(b *testing.B, name, appendfsync string) *server {
	b.Helper()
	pidFile := filepath.Join(b.TempDir(), "redis.pid")
	redis := storetest.Redis(b, "--pidfile", pidFile, "--appendfsync", appendfsync)
	text, err := os.ReadFile(pidFile)
	if err != nil {
		b.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		b.Fatal(err)
	}
	s := umbraServer(b, name, redis.URL)
	s.pids = append(s.pids, pid)
	return s
}

// diskDir returns a new folder in the module's bin/, on a disk: the system's temporary folder may be
// in memory, where fsync costs nothing.
func diskDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(filepath.Join(umbradtest.Root(b), "bin"), "bench-pebble-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	return dir
}
