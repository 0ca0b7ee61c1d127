package broker_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/test/mqtttest"
	"github.com/umbra-iot/umbra/things"
)

// BenchmarkAuthorization is the processor time of a QoS 1 message from one client to another, without
// authorization and with a policy of 100 statements, of which the last one allows, for both.
func BenchmarkAuthorization(b *testing.B) {
	var list []string
	for i := range 99 {
		list = append(list, fmt.Sprintf(`{"Effect": "Allow", "Action": "iot:*", "Resource": "arn:aws:iot:us-east-1:123456789012:topic/site%d/${iot:ClientId}"}`, i))
	}
	list = append(list, `{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}`)
	engine, err := authz.New(authz.Options{Default: []string{"p"}, Files: fstest.MapFS{
		"p.json": {Data: []byte(`{"Version": "2012-10-17", "Statement": [` + strings.Join(list, ",") + `]}`)},
	}})
	if err != nil {
		b.Fatal(err)
	}
	for name, o := range map[string]broker.Options{"open": {}, "guarded": {Authenticator: users{}, Guard: auth.Guard(engine)}} {
		b.Run(name, func(b *testing.B) { benchmarkMessages(b, o) })
	}
}

// serve runs a broker until the benchmark ends, and returns its address.
func serve(b *testing.B, o broker.Options) (ctx context.Context, addr string) {
	b.Helper()
	s, err := broker.New(o)
	if err != nil {
		b.Fatal(err)
	}
	s.SetService(things.New(things.Options{Store: memstore.New(statestore.Options{}), Publisher: s}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.ServeTCP(l) }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	b.Cleanup(func() {
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			b.Error(err)
		}
		<-served
	})
	return ctx, l.Addr().String()
}

func benchmarkMessages(b *testing.B, o broker.Options) {
	ctx, addr := serve(b, o)
	connect := func(id string) *mqtttest.Client {
		c, err := mqtttest.Dial(ctx, addr, mqtttest.Options{ClientID: id, Username: id, Password: "secret"})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(c.Close)
		return c
	}
	from, to := connect("from"), connect("to")
	if _, err := to.Subscribe(ctx, "home/#"); err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 100)
	before := processorTime(b)
	for b.Loop() {
		if _, err := from.Publish(ctx, mqtttest.Message{Topic: "home/lamp/temperature", Payload: payload, QoS: 1}); err != nil {
			b.Fatal(err)
		}
		if _, err := to.Receive(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
