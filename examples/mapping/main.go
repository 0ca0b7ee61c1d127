// Command mapping pretends to be a device that knows nothing of shadows: a
// Tasmota plug, an ESPHome board, or a Zigbee2MQTT bridge with one lamp.
//
//	umbrad --store memory --mappings tasmota,esphome,zigbee2mqtt &
//	mapping -kind tasmota &
//	umbra set tasmota-plug power=true && umbra wait tasmota-plug --for in-sync
//
// It says what such a device says, its last will included, and obeys its commands.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// device is what a kind of device says and hears.
type device struct {
	status, online, offline string            // its availability
	commands                string            // filter
	state                   map[string]string // messages, by topic: what it says when it comes
	obey                    func(topic, payload string) (answerTopic, answer string)
}

// devices are the kinds there are.
func devices() map[string]device {
	return map[string]device{
		"tasmota": {
			status: "tele/plug/LWT", online: "Online", offline: "Offline", commands: "cmnd/plug/#",
			state: map[string]string{"stat/plug/RESULT": `{"POWER":"OFF"}`},
			obey: func(topic, payload string) (string, string) {
				if !strings.HasSuffix(topic, "/POWER") || payload == "" {
					return "", "" // a question
				}
				return "stat/plug/RESULT", `{"POWER":"` + payload + `"}`
			},
		},
		"esphome": {
			status: "board/status", online: "online", offline: "offline", commands: "board/switch/+/command",
			state: map[string]string{"board/switch/relay/state": "OFF", "board/sensor/temperature/state": "21.5"},
			obey: func(topic, payload string) (string, string) {
				return strings.TrimSuffix(topic, "command") + "state", payload
			},
		},
		"zigbee2mqtt": {
			status: "zigbee2mqtt/bridge/state", online: `{"state":"online"}`, offline: `{"state":"offline"}`, commands: "zigbee2mqtt/lamp/set",
			state: map[string]string{"zigbee2mqtt/lamp": `{"state":"OFF","brightness":128}`},
			obey: func(topic, payload string) (string, string) {
				var wanted map[string]any
				if json.Unmarshal([]byte(payload), &wanted) != nil {
					return "", ""
				}
				return strings.TrimSuffix(topic, "/set"), payload // what changes is part of the state
			},
		},
	}
}

func main() {
	server := flag.String("server", "mqtt://127.0.0.1:1883", "URL of umbrad")
	kind := flag.String("kind", "tasmota", "tasmota, esphome or zigbee2mqtt")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, ok := devices()[*kind]
	if !ok {
		fmt.Fprintln(os.Stderr, "mapping: no such kind:", *kind)
		os.Exit(2)
	}
	if err := d.run(ctx, *server, *kind); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "mapping:", err)
		os.Exit(1)
	}
}

func (d *device) run(ctx context.Context, server, kind string) error {
	u, err := url.Parse(server)
	if err != nil {
		return err
	}
	connected := make(chan struct{}, 1)
	commands := make(chan *paho.Publish, 16)
	client, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{u}, KeepAlive: 30,
		WillMessage:    &paho.WillMessage{Topic: d.status, Payload: []byte(d.offline), QoS: 1, Retain: true},
		OnConnectionUp: func(*autopaho.ConnectionManager, *paho.Connack) { connected <- struct{}{} },
		ClientConfig: paho.ClientConfig{
			ClientID: kind,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				commands <- p.Packet
				return true, nil
			}},
		},
	})
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-connected:
			err = d.begin(ctx, client)
		case p := <-commands:
			if topic, payload := d.obey(p.Topic, string(p.Payload)); topic != "" {
				err = say(ctx, client, topic, payload, false)
			}
		}
		if err != nil {
			return err
		}
	}
}

// begin says that the device is there, listens, and says what is.
func (d *device) begin(ctx context.Context, client *autopaho.ConnectionManager) error {
	if err := say(ctx, client, d.status, d.online, true); err != nil {
		return err
	}
	filter := []paho.SubscribeOptions{{Topic: d.commands, QoS: 1}}
	if _, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: filter}); err != nil {
		return err
	}
	for topic, payload := range d.state {
		if err := say(ctx, client, topic, payload, false); err != nil {
			return err
		}
	}
	return nil
}

func say(ctx context.Context, client *autopaho.ConnectionManager, topic, payload string, retain bool) error {
	_, err := client.Publish(ctx, &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain})
	return err
}
