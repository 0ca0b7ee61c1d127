package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	pahopackets "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/umbradtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	for end := time.Now().Add(patience); code == 0 && goroutinesOf("umbra/broker.(") > 0; {
		if time.Now().After(end) {
			fmt.Fprintln(os.Stderr, "goroutines of the broker are left")
			code = 1
		}
		<-time.After(10 * time.Millisecond)
	}
	os.Exit(code)
}

func TestPahoOverMQTT5(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	talkPaho(t, conn)
}

func TestPahoOverWebSocket(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	web := httptest.NewServer(s.WebSocket())
	t.Cleanup(web.Close)
	for _, protocol := range []string{"mqtt", "mqttv3.1"} {
		ws, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), &websocket.DialOptions{Subprotocols: []string{protocol}})
		if err != nil {
			t.Fatal(err)
		}
		if ws.Subprotocol() != protocol {
			t.Errorf("subprotocol = %q, want %q", ws.Subprotocol(), protocol)
		}
		talkPaho(t, websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	}
}

// talkPaho uses a connection as an MQTT 5 device does.
func talkPaho(t *testing.T, conn net.Conn) {
	t.Helper()
	got := make(chan *paho.Publish, 10)
	c := paho.NewClient(paho.ClientConfig{Conn: pahopackets.NewThreadSafeConn(conn), OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) { got <- p.Packet; return true, nil },
	}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: "paho", CleanStart: true, KeepAlive: 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: accepted, QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"state":{"reported":{"text":"` + strings.Repeat("x", 5000) + `"}}}`)
	for qos := range byte(3) {
		if _, err := c.Publish(ctx, &paho.Publish{Topic: update, QoS: qos, Payload: body}); err != nil {
			t.Fatalf("publish with QoS %d: %v", qos, err)
		}
		select {
		case p := <-got:
			if p.Topic != accepted || !bytes.Contains(p.Payload, []byte("xxx")) {
				t.Errorf("message on %s: %.100s", p.Topic, p.Payload)
			}
		case <-ctx.Done():
			t.Fatal("no accepted message")
		}
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Error(err)
	}
}

func TestWebSocketFramesNeedNotBePackets(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	web := httptest.NewServer(s.WebSocket())
	t.Cleanup(web.Close)
	ws, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	hello := []byte("\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03web\xc0\x00\xc0")
	for _, b := range append(hello, 0) {
		if err := ws.Write(t.Context(), websocket.MessageBinary, []byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	var in []byte
	for len(in) < 8 {
		_, b, err := ws.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, b...)
	}
	if want := []byte{0x20, 2, 0, 0, 0xD0, 0, 0xD0, 0}; !bytes.Equal(in, want) {
		t.Errorf("read %x, want %x", in, want)
	}
	if _, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), nil); err == nil {
		t.Log("a client without subprotocol is closed after the handshake")
	}
}

func TestPahoOverMQTT311(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	o := mqtt3.NewClientOptions().AddBroker("tcp://" + s.addr).SetClientID("paho3").SetAutoReconnect(false)
	c := mqtt3.NewClient(o)
	wait := func(what string, token mqtt3.Token) {
		t.Helper()
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("%s: %v", what, token.Error())
		}
	}
	wait("connect", c.Connect())
	defer c.Disconnect(100)
	got := make(chan mqtt3.Message, 10)
	wait("subscribe", c.Subscribe(lamp+"+/accepted", 1, func(_ mqtt3.Client, m mqtt3.Message) { got <- m }))
	for qos := range byte(3) {
		wait("publish", c.Publish(update, qos, false, `{"state":{"reported":{"a":1}}}`))
		select {
		case m := <-got:
			if m.Topic() != accepted {
				t.Errorf("topic = %s, want %s", m.Topic(), accepted)
			}
		case <-time.After(patience):
			t.Fatal("no accepted message")
		}
	}
	wait("unsubscribe", c.Unsubscribe(lamp+"+/accepted"))
}

func TestMosquittoClients(t *testing.T) {
	t.Parallel()
	umbradtest.Tool(t, "mosquitto_pub")
	s := start(t, broker.Options{})
	u, err := url.Parse("tcp://" + s.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, version := range []string{"311", "5"} {
		sub := exec.CommandContext(ctx, "mosquitto_sub", "-h", u.Hostname(), "-p", u.Port(), "-V", version, "-q", "1", "-t", update+"/#", "-C", "3", "-F", "%t")
		var out bytes.Buffer
		sub.Stdout = &out
		if err := sub.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "subscription", func() bool { return s.Stats().Subscriptions == 1 })
		pub := exec.CommandContext(ctx, "mosquitto_pub", "-h", u.Hostname(), "-p", u.Port(), "-V", version, "-q", "1", "-t", update, "-m", `{"state":{"desired":{"on":`+version+`}}}`)
		if out, err := pub.CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v: %s", err, out)
		}
		if err := sub.Wait(); err != nil {
			t.Fatal(err)
		}
		got := out.String()
		if version == "5" { // in the second round there is a delta already
			got = strings.TrimPrefix(got, delta+"\n")
			got += delta + "\n"
		}
		for _, want := range []string{update + "\n", accepted, delta} {
			if !strings.Contains(got, want) {
				t.Errorf("mosquitto_sub -V %s printed %q, want %s", version, got, want)
			}
		}
		eventually(t, "end of the subscription", func() bool { return s.Stats().Subscriptions == 0 })
	}
}
