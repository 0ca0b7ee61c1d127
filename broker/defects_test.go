package broker_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/test/packetio"
)

// Who may not connect with a client identifier learns nothing of its session, and does it no harm.
func TestForbiddenConnectTakesNoSessionOver(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Authenticator: users{}, Guard: guard(func(p *auth.Principal, a auth.Action, name string) bool {
		return a != auth.Connect || strings.HasPrefix(name, p.Name)
	})})
	o := device("alice-lamp")
	o.edit = as("alice", "secret")
	lamp := s.connect(t, o)
	lamp.subscribe(1, "t")
	evil := o
	for _, version := range []byte{4, 5} {
		for _, keep := range []bool{true, false} {
			evil.version, evil.keep = version, keep
			evil.edit = as("bob", "secret")
			if _, ack := s.tryConnect(t, evil); ack.ReasonCode == 0 || ack.SessionPresent {
				t.Errorf("CONNACK to another user, MQTT %d, keep %t = %#x, session present %t", version, keep, ack.ReasonCode, ack.SessionPresent)
			}
			evil.edit = as("alice", "wrong")
			if _, ack := s.tryConnect(t, evil); ack.ReasonCode == 0 || ack.SessionPresent {
				t.Errorf("CONNACK to a wrong password, MQTT %d, keep %t = %#x, session present %t", version, keep, ack.ReasonCode, ack.SessionPresent)
			}
		}
	}
	pub := s.connect(t, connectOptions{id: "bob", edit: as("bob", "secret")})
	pub.publish(message("t", "1", 1, 1))
	lamp.wantMessage("t")
	_ = lamp.conn.Close()
	pub.publish(message("t", "2", 1, 2))
	if pk := s.again(t, o, true).wantMessage("t"); string(pk.Payload) != "2" {
		t.Errorf("message = %s, want 2", pk.Payload)
	}
}

// A rule for one name says nothing of names that begin or end with it.
func TestRefusedFilterStandsForItselfAlone(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{RefuseFilters: []string{"a/b", "c/+"}}})
	c := s.connect(t, connectOptions{id: "c"})
	for filter, want := range map[string]byte{
		"a/b": 0x80, "$share/g/a/b": 0x80, "a": 1, "a/bc": 1, "a/b/c": 1, "a/b/": 1, "/a/b": 1, "xa/b": 1, "a/+": 1, "A/B": 1,
		"c/+": 0x80, "c/d": 1, "c/#": 1, "c/+/+": 1,
	} {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: filter, Qos: 1}}})
		if ack := c.want(packets.Suback); ack.ReasonCodes[0] != want {
			t.Errorf("SUBACK for %s = %#x, want %#x", filter, ack.ReasonCodes[0], want)
		}
	}
}

// The server ends while clients connect, retain, subscribe to everything and leave: each is served or cut off.
func TestShutdownWhileClientsComeAndGo(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	var clients sync.WaitGroup
	served := make(chan struct{}, 1)
	for i := range 8 {
		clients.Go(func() {
			for n := 0; ; n++ {
				conn, err := net.Dial("tcp", s.addr)
				if err != nil {
					return // the server accepts no more
				}
				c := packetio.New(conn, 5)
				kept := message(fmt.Sprint("r/", n%50), fmt.Sprint(n), 1, 1)
				kept.FixedHeader.Retain = true
				_ = c.Send(packets.Packet{ // it may be cut off
					FixedHeader: packets.FixedHeader{Type: packets.Connect},
					Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: fmt.Sprint(i, "-", n%3), Clean: true},
				}, kept, packets.Packet{
					FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 2, Filters: packets.Subscriptions{{Filter: "#", Qos: 1}},
				})
				for range n % 5 {
					if _, err := c.Receive(patience); err != nil {
						break
					}
				}
				_ = conn.Close()
				select {
				case served <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 100 {
		<-served
	}
	s.stop()
	clients.Wait()
	if n := s.Stats().Connections; n != 0 {
		t.Errorf("%d connections after the end", n)
	}
}
