// Command app is what a user holds: it says what a thing shall do and waits until
// the thing has done it.
//
//	app [-server mqtt://127.0.0.1:1883] [-thing lamp] [-timeout 10s] on=true brightness=40
//
// It asks by MQTT 5 request and response: the answer to its request, accepted or
// rejected, comes to the response topic of the request.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

func main() {
	server := flag.String("server", "mqtt://127.0.0.1:1883", "URL of umbrad")
	thing := flag.String("thing", "lamp", "name of the thing")
	timeout := flag.Duration("timeout", 10*time.Second, "how long to wait for the thing")
	flag.Parse()
	desired, err := parse(flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(2)
	}
	if err := run(*server, *thing, *timeout, desired); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

// parse reads key=value arguments, whose values are JSON.
func parse(args []string) (map[string]any, error) {
	if len(args) == 0 {
		return nil, errors.New("nothing to set: give key=value")
	}
	desired := map[string]any{}
	for _, arg := range args {
		key, text, ok := strings.Cut(arg, "=")
		var value any
		if !ok || json.Unmarshal([]byte(text), &value) != nil {
			return nil, fmt.Errorf("%q is not key=JSON", arg)
		}
		desired[key] = value
	}
	return desired, nil
}

// document is the part of a shadow's messages that the app reads.
type document struct {
	State struct {
		Desired  map[string]any `json:"desired,omitempty"`
		Reported map[string]any `json:"reported,omitempty"`
	} `json:"state"`
	Version uint64 `json:"version,omitempty"`
	Code    int    `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

func run(server, thing string, timeout time.Duration, desired map[string]any) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	u, err := url.Parse(server)
	if err != nil {
		return err
	}
	shadow := "$aws/things/" + thing + "/shadow"
	answers := fmt.Sprintf("app/%d/answers", os.Getpid())
	messages := make(chan *paho.Publish, 64)
	client, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{u},
		KeepAlive:  30,
		ClientConfig: paho.ClientConfig{
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(p paho.PublishReceived) (bool, error) {
					messages <- p.Packet
					return true, nil
				},
			},
		},
	})
	if err != nil {
		return err
	}
	if err := client.AwaitConnection(ctx); err != nil {
		return fmt.Errorf("connecting to %s: %w", server, err)
	}
	_, err = client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: answers, QoS: 1},
		{Topic: shadow + "/update/accepted", QoS: 1},
		{Topic: shadow + "/get/accepted", QoS: 1},
	}})
	if err != nil {
		return err
	}
	if err := request(ctx, client, shadow, answers, desired); err != nil {
		return err
	}
	if err := await(ctx, messages, desired); err != nil {
		return err
	}
	return client.Disconnect(ctx)
}

// request asks for desired, and for the whole document, in case that the thing has nothing to do.
func request(ctx context.Context, client *autopaho.ConnectionManager, shadow, answers string, desired map[string]any) error {
	var d document
	d.State.Desired = desired
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = client.Publish(ctx, &paho.Publish{
		Topic: shadow + "/update", QoS: 1, Payload: body,
		Properties: &paho.PublishProperties{ResponseTopic: answers, CorrelationData: []byte("set")},
	})
	if err != nil {
		return fmt.Errorf("setting: %w", err) // MQTT 5 tells here why the request was refused
	}
	_, err = client.Publish(ctx, &paho.Publish{Topic: shadow + "/get", QoS: 1})
	return err
}

// await waits until the thing has reported every value of desired.
func await(ctx context.Context, messages <-chan *paho.Publish, desired map[string]any) error {
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the thing has not done it: %w", ctx.Err())
		case m := <-messages:
			done, err := hear(m, desired)
			if done || err != nil {
				return err
			}
		}
	}
}

// hear takes from desired what the message says is reported.
func hear(m *paho.Publish, desired map[string]any) (done bool, err error) {
	var d document
	if err := json.Unmarshal(m.Payload, &d); err != nil {
		return false, fmt.Errorf("message on %s: %w", m.Topic, err)
	}
	if d.Code != 0 {
		return false, fmt.Errorf("refused: %d %s", d.Code, d.Message)
	}
	if m.Properties != nil && string(m.Properties.CorrelationData) == "set" {
		fmt.Printf("set, version %d\n", d.Version)
	}
	for key, value := range d.State.Reported {
		if want, ok := desired[key]; ok && reflect.DeepEqual(value, want) {
			delete(desired, key)
		}
	}
	if len(desired) > 0 {
		return false, nil
	}
	fmt.Printf("done, version %d\n", d.Version)
	return true, nil
}
