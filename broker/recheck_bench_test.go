package broker_test

import (
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth/authz"
)

// BenchmarkRecheckTimed is what it costs each second that policies have conditions on the time, with 50,000 connections: nobody
// has such a policy, one has, all have.
func BenchmarkRecheckTimed(b *testing.B) {
	const n = 50_000
	timed := `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*",
		"Condition": {"DateLessThan": {"aws:CurrentTime": "2999-01-01T00:00:00Z"}}}}`
	for name, attachments := range map[string]string{
		"nobody": `{}`, "one": `{"user:idle-7": ["device", "timed"]}`, "all": `{"kind:user": ["device", "timed"]}`,
	} {
		b.Run(strconv.Itoa(n)+"/timed="+name, func(b *testing.B) {
			engine, err := authz.New(authz.Options{Default: []string{"device"}, Files: fstest.MapFS{
				"timed.json": {Data: []byte(timed)}, "attachments.json": {Data: []byte(attachments)},
			}})
			if err != nil {
				b.Fatal(err)
			}
			br, l := startInMemory(b, broker.Options{Authenticator: namedAs{}, Guard: engine})
			for i := range n {
				l.connectIdle(b, i, time.Hour)
			}
			cpu := cpuTime(b)
			for b.Loop() {
				if ended := br.RecheckTimed(); ended > 0 {
					b.Fatalf("%d connections have ended", ended)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}
