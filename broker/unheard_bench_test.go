package broker_test

import (
	"bytes"
	"testing"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// BenchmarkUnheard is the processor time of a QoS 0 message that nobody gets, 10,000 of them between two that are acknowledged.
func BenchmarkUnheard(b *testing.B) {
	const messages = 10_000
	ctx, addr := serve(b, broker.Options{})
	c, err := mqtttest.Dial(ctx, addr, mqtttest.Options{})
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
