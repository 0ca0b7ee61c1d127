package e2e_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/umbra-iot/umbra/internal/umbradtest"
)

// TestPaho3 plays a device and an app with the 3.1.1 client, over TCP and over WebSocket.
func TestPaho3(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	for name, broker := range map[string]string{"tcp": "tcp://" + u.MQTT(), "websocket": "ws://" + u.HTTP() + "/mqtt"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			device, app := paho3(t, broker), paho3(t, broker)
			base := "$aws/things/" + name + "/shadow/"
			deltas, accepted := make(chan []byte, 10), make(chan []byte, 10)
			paho3Subscribe(t, device, base+"update/delta", deltas)
			paho3Subscribe(t, app, base+"update/accepted", accepted)

			done(t, app.Publish(base+"update", 1, false, `{"state":{"desired":{"on":true}}}`))
			if d := mustParse(t, next(t, accepted)); d.Version != 1 {
				t.Errorf("accepted = %+v, want version 1", d)
			}
			if d := mustParse(t, next(t, deltas)); d.Version != 1 {
				t.Errorf("delta = %+v, want version 1", d)
			}
			done(t, device.Publish(base+"update", 2, false, `{"state":{"reported":{"on":true}}}`))
			if d := mustParse(t, next(t, accepted)); d.Version != 2 || d.State.Reported["on"] != true {
				t.Errorf("accepted = %+v, want version 2", d)
			}
			if d := fetch(t, u.URL(), name); d.State.Delta != nil {
				t.Errorf("shadow after the report = %+v, want no delta", d)
			}
		})
	}
}

func paho3(t *testing.T, broker string) mqtt3.Client {
	t.Helper()
	c := mqtt3.NewClient(mqtt3.NewClientOptions().AddBroker(broker).SetConnectTimeout(patience).SetAutoReconnect(false))
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(250) })
	return c
}

func paho3Subscribe(t *testing.T, c mqtt3.Client, filter string, ch chan<- []byte) {
	t.Helper()
	done(t, c.Subscribe(filter, 1, func(_ mqtt3.Client, m mqtt3.Message) { ch <- m.Payload() }))
}

func done(t *testing.T, token mqtt3.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatalf("no answer in %v", patience)
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

// next takes the next element of a channel.
func next[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("nothing in %v", patience)
		panic("unreachable")
	}
}

// TestPaho5 asks with MQTT 5: response topic, correlation data, reason codes; over TCP and WebSocket.
func TestPaho5(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	for name, broker := range map[string]string{"tcp": "mqtt://" + u.MQTT(), "websocket": "ws://" + u.HTTP() + "/mqtt"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, inbox := paho5(t, broker)
			base := "$aws/things/" + name + "/shadow/"
			if _, err := c.Subscribe(wait(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
				{Topic: "answers/" + name, QoS: 1},
			}}); err != nil {
				t.Fatal(err)
			}
			ask := func(op, payload string) (*paho.PublishResponse, error) {
				return c.Publish(wait(t), &paho.Publish{
					Topic: base + op, QoS: 1, Payload: []byte(payload),
					Properties: &paho.PublishProperties{ResponseTopic: "answers/" + name, CorrelationData: []byte{0, 1, 0xff}},
				})
			}
			if res, err := ask("update", `{"state":{"reported":{"n":1}}}`); err != nil || res.ReasonCode != 0 {
				t.Fatalf("update: %+v, %v", res, err)
			}
			m := next(t, inbox)
			if d := mustParse(t, m.Payload); d.Version != 1 || string(m.Properties.CorrelationData) != "\x00\x01\xff" {
				t.Errorf("answer = %s with correlation data %x", m.Payload, m.Properties.CorrelationData)
			}
			res, err := ask("update", `{"state":{"reported":{"n":2}},"version":5}`)
			if err == nil || res == nil || res.ReasonCode < 0x80 || res.Properties.ReasonString == "" {
				t.Errorf("update with a wrong version: %+v, %v, want a reason code and reason string", res, err)
			}
			if d := mustParse(t, next(t, inbox).Payload); d.Code != 409 {
				t.Errorf("answer = %+v, want 409", d)
			}
		})
	}
}

func paho5(t *testing.T, broker string) (*autopaho.ConnectionManager, <-chan *paho.Publish) {
	t.Helper()
	server, err := url.Parse(broker)
	if err != nil {
		t.Fatal(err)
	}
	inbox := make(chan *paho.Publish, 10)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	c, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{server}, KeepAlive: 60, CleanStartOnInitialConnection: true,
		ClientConfig: paho.ClientConfig{
			ClientID: "paho5-" + server.Scheme,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				inbox <- p.Packet
				return true, nil
			}},
		},
	})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-c.Done()
	})
	if err := c.AwaitConnection(wait(t)); err != nil {
		t.Fatal(err)
	}
	return c, inbox
}
