// Command lamp is a device: it reports its state to its shadow and does what the
// shadow wants.
//
//	lamp [-server mqtt://127.0.0.1:1883] [-thing lamp]
//
// Its last will says in the shadow that it is gone; when it is told to end (SIGTERM, SIGINT) it says so itself. When it subscribes to its delta
// it gets what was wanted while it was away; there is no need to ask.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

func main() {
	server := flag.String("server", "mqtt://127.0.0.1:1883", "URL of umbrad")
	thing := flag.String("thing", "lamp", "name of the thing")
	flag.Parse()
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err := run(ctx, *server, *thing); err != nil {
		warn(err)
		os.Exit(1)
	}
}

// leaveTimeout bounds the last report and the end of the connection.
const leaveTimeout = 3 * time.Second

func warn(err error) { fmt.Fprintln(os.Stderr, "lamp:", err) }

// lamp is the state of the device. All of it is used by one goroutine.
type lamp struct {
	topic string // of its shadow
	state map[string]any
}

// report is an update request that says what is.
type report struct {
	State struct {
		Reported map[string]any `json:"reported"`
	} `json:"state"`
}

func newReport(state map[string]any) []byte {
	var r report
	r.State.Reported = state
	body, err := json.Marshal(r)
	if err != nil {
		panic(err) // the values came from JSON
	}
	return body
}

func run(ctx context.Context, server, thing string) error {
	u, err := url.Parse(server)
	if err != nil {
		return err
	}
	l := &lamp{
		topic: "$aws/things/" + thing + "/shadow",
		state: map[string]any{"on": false, "brightness": 100, "connected": true},
	}
	connected := make(chan struct{}, 1)
	deltas := make(chan []byte, 16)
	config := l.config(u, thing)
	config.OnConnectionUp = func(*autopaho.ConnectionManager, *paho.Connack) { connected <- struct{}{} }
	config.OnConnectError = func(err error) { warn(fmt.Errorf("not connected: %w", err)) }
	config.OnPublishReceived = []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) {
			deltas <- p.Packet.Payload
			return true, nil
		},
	}
	client, err := autopaho.NewConnection(context.WithoutCancel(ctx), config) // it outlives ctx by a last report
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return l.leave(client)
		case <-connected:
			err = l.begin(ctx, client)
		case payload := <-deltas:
			err = l.obey(ctx, client, payload)
		}
		if err != nil && ctx.Err() == nil {
			warn(err)
		}
	}
}

func (l *lamp) config(server *url.URL, thing string) autopaho.ClientConfig {
	return autopaho.ClientConfig{
		ServerUrls:            []*url.URL{server},
		KeepAlive:             30,
		SessionExpiryInterval: 3600,
		WillMessage: &paho.WillMessage{
			Topic:   l.topic + "/update",
			QoS:     1,
			Payload: newReport(map[string]any{"connected": false}),
		},
		ClientConfig: paho.ClientConfig{ClientID: thing},
	}
}

// begin is done on every connection: what is, then what is wanted.
func (l *lamp) begin(ctx context.Context, client *autopaho.ConnectionManager) error {
	if err := l.report(ctx, client); err != nil {
		return err
	}
	_, err := client.Subscribe(ctx, &paho.Subscribe{
		Subscriptions: []paho.SubscribeOptions{{Topic: l.topic + "/update/delta", QoS: 1}},
	})
	return err
}

func (l *lamp) report(ctx context.Context, client *autopaho.ConnectionManager) error {
	body := newReport(l.state)
	// The acknowledgement means that the report is stored.
	if _, err := client.Publish(ctx, &paho.Publish{Topic: l.topic + "/update", QoS: 1, Payload: body}); err != nil {
		return fmt.Errorf("reporting: %w", err)
	}
	fmt.Printf("reported %s\n", body)
	return nil
}

// leave reports that the lamp is gone, as no will is sent for a connection that ends properly.
func (l *lamp) leave(client *autopaho.ConnectionManager) error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	l.state = map[string]any{"connected": false}
	return errors.Join(l.report(ctx, client), client.Disconnect(ctx))
}

// obey takes over what the shadow wants and reports it.
func (l *lamp) obey(ctx context.Context, client *autopaho.ConnectionManager, payload []byte) error {
	var delta struct {
		State map[string]any `json:"state"`
	}
	if err := json.Unmarshal(payload, &delta); err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	fmt.Printf("wanted %s\n", payload)
	maps.Copy(l.state, delta.State)
	return l.report(ctx, client)
}
