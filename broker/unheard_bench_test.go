package broker_test

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/test/mqtttest"
	"github.com/umbra-iot/umbra/things"
)

// BenchmarkUnheard is the processor time of a QoS 0 message that nobody gets, 10,000 of them between two that are acknowledged.
func BenchmarkUnheard(b *testing.B) {
	const messages = 10_000
	s, err := broker.New(broker.Options{})
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
	defer cancel()
	defer func() {
		if err := s.Shutdown(ctx); err != nil {
			b.Error(err)
		}
		<-served
	}()
	c, err := mqtttest.Dial(ctx, l.Addr().String(), mqtttest.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	one := mqtttest.AppendPublish(nil, mqtttest.V311, 0, mqtttest.Message{Topic: "home/lamp/temperature", Payload: make([]byte, 100)})
	burst := bytes.Repeat(one, messages/100)
	before := processorTime(b)
	for b.Loop() {
		for range 100 {
			if err := c.Write(burst); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := c.Publish(ctx, mqtttest.Message{Topic: "home/lamp", QoS: 1}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N)/messages, "cpu-ns/msg")
}
