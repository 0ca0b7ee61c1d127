package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-iot/umbra/test/mqtttest"
)

const (
	idleTime      = 20 * time.Second
	idleSettle    = 10 * time.Second // after the connections are made
	idleKeepAlive = 20 * time.Minute
	idleDialers   = 32
	// perSource is how many connections one client address makes: a system has some 28,000 ports for it, of which
	// others may be in use.
	perSource = 5_000
	// spareFiles is what a process has open besides the connections.
	spareFiles = 1000
)

// BenchmarkIdle measures what connections cost that say nothing: each has five subscriptions of the shadow of its
// thing. It reports the resident memory per connection, and the CPU time of an idle second.
func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			if b.N > 1 {
				return // see BenchmarkUpdatePath
			}
			idle(b, n)
		})
	}
}

func idle(b *testing.B, n int) {
	allowFiles(b, n+spareFiles)
	s := umbraServer(b, "umbra", "memory:")
	before := memory(b, s.pids[0])
	connectIdle(b, s.addr, n)
	pause(b.Context(), idleSettle)
	began, cpu := time.Now(), cpuOf(b, s)
	pause(b.Context(), idleTime)
	share := (cpuOf(b, s) - cpu).Seconds() / time.Since(began).Seconds()
	after := memory(b, s.pids[0])
	b.ReportMetric(0, "ns/op") // says nothing here
	b.ReportMetric(float64(after-before)/float64(n)/1024, "KB/conn")
	b.ReportMetric(float64(after)/(1<<20), "MB")
	b.ReportMetric(share*100, "%core")
}

func cpuOf(b *testing.B, s *server) time.Duration {
	b.Helper()
	t, err := s.cpu()
	if err != nil {
		b.Fatal(err)
	}
	return t[0]
}

// allowFiles lets this process and those that it starts have n files open, or skips the benchmark.
func allowFiles(b *testing.B, n int) {
	b.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	want := syscall.Rlimit{Cur: uint64(n), Max: max(limit.Max, uint64(n))} // only root may raise the maximum
	if limit.Cur >= want.Cur {
		want = limit // set all the same: else Go starts other programs with the limit that it found
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err != nil {
		b.Skipf("%d open files are not allowed here (limit %d): %v", n, limit.Max, err)
	}
}

// memory returns the resident memory of a process in bytes.
func memory(b *testing.B, pid int) int64 {
	b.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb << 10
}

// connectIdle opens n connections from as many addresses of the loopback network as they need. They last as long as
// the benchmark.
func connectIdle(b *testing.B, addr string, n int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	conns := make([]net.Conn, n)
	b.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.(*net.TCPConn).SetLinger(0) // keeps no port in use, as TIME_WAIT does
				_ = c.Close()
			}
		}
	})
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(idleDialers)
	for i := range conns {
		g.Go(func() (err error) {
			conns[i], err = connectOne(ctx, addr, i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

func connectOne(ctx context.Context, addr string, i int) (net.Conn, error) {
	source := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/perSource))}
	conn, err := (&net.Dialer{LocalAddr: source}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	thing := "idle-" + strconv.Itoa(i)
	packet := mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: thing, KeepAlive: idleKeepAlive})
	var filters []string
	for _, topic := range []string{"update/accepted", "update/rejected", "update/delta", "get/accepted", "get/rejected"} {
		filters = append(filters, "$aws/things/"+thing+"/shadow/"+topic)
	}
	packet = mqtttest.AppendSubscribe(packet, mqtttest.V311, 1, filters...)
	answer := make([]byte, 4+4+len(filters)) // CONNACK and SUBACK
	if _, err = conn.Write(packet); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err == nil && (answer[3] != 0 || answer[8] > 1) {
		err = fmt.Errorf("connection %d was answered with %x", i, answer)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
