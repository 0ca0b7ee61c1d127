package mqtt_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
)

func TestWillMessage(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		other := s.connect(t, version, "other"+t.Name())
		other.subscribe(2, t.Name())
		s.connect(t, version, t.Name(), willOn(t.Name(), "lost")).vanish()
		if pk := other.wantMessage("lost"); pk.FixedHeader.Retain || pk.FixedHeader.Qos != 1 {
			t.Errorf("will with RETAIN %t and QoS %d, want no RETAIN and 1", pk.FixedHeader.Retain, pk.FixedHeader.Qos)
		}
		s.connect(t, version, t.Name(), willOn(t.Name(), "left")).leave()
		s.connect(t, version, t.Name()).vanish() // has no will
		s.connect(t, version, t.Name(), willOn(t.Name(), "taken over"))
		s.connect(t, version, t.Name()).leave()
		other.wantMessage("taken over")
		if version == v5 {
			for _, reason := range []byte{0x04, 0x80, 0x81, 0x93, 0x97} { // all but 0 leave the will
				c := s.connect(t, version, t.Name(), willOn(t.Name(), fmt.Sprint(reason)))
				c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: reason})
				other.wantMessage(fmt.Sprint(reason))
			}
		}
		c := s.connect(t, version, t.Name(), willOn(t.Name(), "illegal"))
		c.write([]byte{0xF1, 0})
		other.wantMessage("illegal")
		s.connect(t, version, t.Name(), willOn(t.Name(), "kept"), func(pk *packets.Packet) { pk.Connect.WillRetain = true }).vanish()
		other.wantMessage("kept")
		other.subscribe(1, t.Name())
		if pk := other.wantMessage("kept"); !pk.FixedHeader.Retain {
			t.Error("a will with Will Retain is not retained")
		}
	})
}

func TestPropertiesOfAWill(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	other := s.connect(t, v5, "other")
	other.subscribe(2, "will")
	s.connect(t, v5, "c", willOn("will", "x"), func(pk *packets.Packet) {
		pk.Connect.WillProperties = packets.Properties{
			PayloadFormat: 1, PayloadFormatFlag: true, ContentType: "text/plain", ResponseTopic: "answer", CorrelationData: []byte("c"),
			MessageExpiryInterval: 60, User: []packets.UserProperty{{Key: "k", Val: "v"}},
		}
	}).vanish()
	p := other.wantMessage("x").Properties
	if !p.PayloadFormatFlag || p.ContentType != "text/plain" || p.ResponseTopic != "answer" || string(p.CorrelationData) != "c" ||
		p.MessageExpiryInterval != 60 || len(p.User) != 1 {
		t.Errorf("properties of the will = %+v", p)
	}
}

func TestDisconnectWithWill(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	other := s.connect(t, v5, "other")
	other.subscribe(2, "will")
	c := s.connect(t, v5, "c", willOn("will", "x"))
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: packets.CodeDisconnectWillMessage.Code})
	other.wantMessage("x")
}

func TestWillDelay(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	other := s.connect(t, v5, "other")
	other.subscribe(2, "will/#")
	with := func(id string, delay, expiry uint32) *client {
		return s.connect(t, v5, id, expiring(expiry), willDelayed("will/"+id, id, delay))
	}
	with("back in time", 60, 60).vanish()
	with("session ends first", 60, 1).vanish()
	with("delayed", 1, 60).vanish()
	begin := time.Now()
	if c := s.connect(t, v5, "back in time", persistent); !c.connack.SessionPresent {
		t.Error("Session Present = 0, want 1")
	}
	other.wantNone()
	if got := other.sorted(2); got[0] != "delayed" || got[1] != "session ends first" {
		t.Errorf("wills = %q, want the delayed one and that of the session that ended", got)
	}
	if d := time.Since(begin); d < 900*time.Millisecond {
		t.Errorf("wills came after %v, want 1 s", d)
	}
	with("without a session", 60, 0).vanish()
	other.wantMessage("without a session")
	with("clean start", 60, 60).vanish()
	s.connect(t, v5, "clean start")
	other.wantMessage("clean start") // its session has ended
}

// TestWillGoesOutBeforeTheNextConnection holds a will up on its way out: the next connection of its client waits, so that the
// will cannot undo what that reports.
func TestWillGoesOutBeforeTheNextConnection(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(*packets.Packet){"clean session": func(*packets.Packet) {}, "session that stays": persistent} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leaving, goOn := make(chan struct{}), make(chan struct{})
			var asked atomic.Int32
			s := start(t, broker.Options{Guard: allow(func(a auth.Action, name string) bool {
				if a == auth.Publish && name == "state" && asked.Add(1) == 2 { // the first time is at CONNECT
					close(leaving)
					<-goOn
				}
				return true
			})})
			other := s.connect(t, v5, "other")
			other.subscribe(1, "state")
			s.connect(t, v5, "c", willOn("state", "gone"), options).vanish()
			<-leaving
			c := s.dial(t, v5)
			pk := packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Connect},
				Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "c"},
			}
			c.send(pk)
			if pk, err := c.read(200 * time.Millisecond); err == nil {
				t.Errorf("packet type %d while the will is not sent, want none", pk.FixedHeader.Type)
			}
			close(goOn)
			c.await(packets.Connack)
			c.publish("state", "back", 1)
			other.wantMessages("gone", "back")
		})
	}
}
