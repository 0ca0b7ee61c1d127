package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/test/mqtttest"
)

const (
	stalledRounds  = 7
	stalledDevices = 20
	stalledBytes   = 4 << 10 // of a message: the buffers of the system hold no second of them
)

// BenchmarkStalled measures how long messages take from one connection to another, alone and beside a subscriber of all
// messages that reads nothing. It reports by how much the stalled subscriber changes the 99th percentile.
func BenchmarkStalled(b *testing.B) {
	if b.N > 1 {
		return // see BenchmarkUpdatePath
	}
	s := umbraServer(b, "umbra", "memory:")
	var alone, beside []percentiles
	for range stalledRounds {
		alone = append(alone, delays(b, s, false))
		beside = append(beside, delays(b, s, true))
	}
	a, c := median(alone), median(beside)
	b.ReportMetric(0, "ns/op") // says nothing here
	b.ReportMetric(float64(c.p99)/float64(a.p99), "stalled-p99-x")
	b.Logf("%d devices, medians of %d rounds of %v\nalone:  p50 %v, p99 %v\nbeside: p50 %v, p99 %v (%.2f)", stalledDevices,
		stalledRounds, measure, a.p50, a.p99, c.p50, c.p99, float64(c.p99)/float64(a.p99))
}

type percentiles struct{ p50, p99 time.Duration }

// median takes the median of each percentile by itself.
func median(all []percentiles) percentiles {
	of := func(get func(percentiles) time.Duration) time.Duration {
		values := make([]time.Duration, len(all))
		for i, p := range all {
			values[i] = get(p)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return percentiles{
		of(func(p percentiles) time.Duration { return p.p50 }),
		of(func(p percentiles) time.Duration { return p.p99 }),
	}
}

// delays runs one load.
func delays(b *testing.B, s *server, stalled bool) percentiles {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), bound)
	defer cancel()
	if stalled {
		l, err := dial(ctx, s.addr)
		if err != nil {
			b.Fatal(err)
		}
		defer l.conn.Close()
		if err := l.conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			b.Fatal(err)
		}
		if err := l.connect(mqtttest.Options{ClientID: "stalled"}, "#"); err != nil {
			b.Fatal(err)
		}
	}
	l, err := startLoad(ctx, s.addr, stalledDevices, long())
	if err != nil {
		b.Fatal(err)
	}
	pause(ctx, measure)
	if err := l.end(); err != nil {
		b.Fatal(err)
	}
	slices.Sort(l.took)
	return percentiles{l.took[len(l.took)/2], l.took[len(l.took)*99/100]}
}

// long is plain with long messages and a connection for each direction.
func long() traffic {
	tr := apart("stalled-")
	pad := strings.Repeat("x", stalledBytes)
	tr.message = func(dst []byte, _, seq int) []byte { return fmt.Appendf(dst, "%d %s", seq, pad) }
	tr.check = func(device, seq int, payload []byte) error {
		if !bytes.Equal(payload, tr.message(nil, device, seq)) {
			return fmt.Errorf("message %d came back as %.50s", seq, payload)
		}
		return nil
	}
	return tr
}
