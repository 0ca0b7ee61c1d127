package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/test/packetio"
	"github.com/umbra-iot/umbra/things"
)

// benchThings is how many things the reports of the benchmarks are spread over.
const benchThings = 1000

// BenchmarkReport compares what a report costs through the topic of the shadow with what it costs through a mapping that
// is one of 1,000 rules, with 100,000 things: cpu-ns/op is of the whole process, client included.
func BenchmarkReport(b *testing.B) {
	b.Run("shadow", func(b *testing.B) {
		benchReport(b, nil, func(thing, n int) (string, string) {
			return fmt.Sprintf("$aws/things/dev%d/shadow/update", thing), fmt.Sprintf(`{"state":{"reported":%s}}`, benchPayload(n))
		})
	})
	b.Run("mapped", func(b *testing.B) {
		benchReport(b, manyRules(b), func(thing, n int) (string, string) {
			return fmt.Sprintf("plant500/dev%d/state", thing), benchPayload(n)
		})
	})
}

func benchPayload(n int) string {
	return fmt.Sprintf(`{"temperature":%d.5,"humidity":44.72,"battery":97,"on":true,"mode":"auto","color":{"r":255,"g":0,"b":12}}`, n)
}

// manyRules is 1,000 rules in 500 mappings, of which one is used.
func manyRules(b *testing.B) *mapping.Set {
	b.Helper()
	var text strings.Builder
	for i := range 501 {
		fmt.Fprintf(&text, `---
version: 1
mapping: plant%d
thing: "{dev}"
shadow: "s%d"
report:
  - {topic: "plant%d/{dev}/set/#", ignore: true}
  - {topic: "plant%d/{dev}/state", as: json, to: .}
limits: {things: 1000000, per_thing_updates: 1000000/s}
`, i, i, i, i)
	}
	list, _, err := mapping.Load("bench", []byte(strings.ReplaceAll(text.String(), `shadow: "s500"`, `shadow: ""`)))
	if err != nil {
		b.Fatal(err)
	}
	set, _, err := mapping.NewSet(list)
	if err != nil {
		b.Fatal(err)
	}
	return set
}

func benchReport(b *testing.B, set *mapping.Set, report func(thing, n int) (topic, payload string)) {
	b.Helper()
	s, c := benchServer(b, set)
	packet := func(i int) packets.Packet {
		topic, payload := report(i%benchThings, i/benchThings)
		return message(topic, payload, 1, uint16(i%60000+1))
	}
	for i := range 100_000 { // the things that there are besides
		m := broker.Publication{Topic: fmt.Sprintf("plant500/other%d/state", i), Payload: []byte(`{"a":1}`)}
		if set == nil {
			m = broker.Publication{Topic: fmt.Sprintf("$aws/things/other%d/shadow/update", i), Payload: []byte(`{"state":{"reported":{"a":1}}}`)}
		}
		if err := s.PublishMessage(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.AwaitMappings(b.Context()); err != nil {
		b.Fatal(err)
	}
	const window = 256
	sent, acked := 0, 0
	before := cpuTime(b)
	b.ResetTimer()
	for acked < b.N {
		for ; sent < b.N && sent-acked < window; sent++ {
			if err := c.Send(packet(sent)); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := c.Receive(patience); err != nil {
			b.Fatal(err)
		}
		acked++
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// benchServer is a server on a memory store, and a client of it.
func benchServer(b *testing.B, set *mapping.Set) (*broker.Broker, *packetio.Conn) {
	b.Helper()
	server, err := broker.New(broker.Options{Mappings: set})
	if err != nil {
		b.Fatal(err)
	}
	svc := things.New(things.Options{Store: memstore.New(statestore.Options{}), Publisher: server})
	server.SetService(svc)
	if err := svc.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	server.Start()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTCP(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = conn.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.Context()), patience)
		defer cancel()
		if err := errors.Join(server.Shutdown(ctx), <-served, svc.Close(ctx), server.Close(ctx)); err != nil {
			b.Error(err)
		}
	})
	c := packetio.New(conn, 5)
	hello := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "bench", Clean: true},
	}
	if err := c.Send(hello); err != nil {
		b.Fatal(err)
	}
	if ack, err := c.Receive(patience); err != nil || ack.ReasonCode != 0 {
		b.Fatalf("CONNACK %+v, %v", ack, err)
	}
	return server, c
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
