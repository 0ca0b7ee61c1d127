package mqtt_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

// TestLimitOfConnect sends CONNECT packets that are too large for somebody who is not known: only what
// is announced counts, nothing is read but which protocol it is, and a client that can be told is.
func TestLimitOfConnect(t *testing.T) {
	t.Parallel()
	reserved := make(budget, 10)
	s := start(t, broker.Options{Limits: broker.Limits{ConnectBytes: 1000, ConnectTimeout: time.Hour}, Strangers: reserved})
	for _, announced := range []string{"\x10\xFF\xFF\xFF\x7F", "\x10\xFF\x7F", "\x10\xE8\x07"} {
		for begin, want := range map[string]byte{"\x00\x04MQTT\x05": 0x95, "\x00\x04MQTT\x04": 0, "\x00\x06MQIsdp\x03": 0, "\x00\x04MQTT\x06": 1} {
			version := byte(v5)
			if want == 1 {
				version = v311 // has the form of the answer
			}
			c := s.dial(t, version)
			c.write([]byte(announced + begin)) // the rest never comes
			if want != 0 {
				if got := c.await(packets.Connack).ReasonCode; got != want {
					t.Errorf("CONNACK to a packet with the header %x = %#x, want %#x", announced, got, want)
				}
			}
			c.wantEnd(0)
		}
	}
	if len(reserved) > 0 {
		t.Error("memory is reserved for a packet that is too large")
	}
	if c := s.tryConnect(t, v5, "c", willOn("a", string(bytes.Repeat([]byte("x"), 800)))); c.connack.ReasonCode != 0 {
		t.Errorf("CONNACK to a packet within the limit = %#x", c.connack.ReasonCode)
	}
}

// TestLimitOfConnectIsToldToAClientThatSendsAll sends the whole of a CONNECT packet that is too large before it reads.
func TestLimitOfConnectIsToldToAClientThatSendsAll(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for range 3 {
		c := s.tryConnect(t, v5, "c", willOn("a", string(bytes.Repeat([]byte("x"), 65000))), func(pk *packets.Packet) {
			pk.Connect.Username, pk.Connect.UsernameFlag = bytes.Repeat([]byte("u"), 65000), true
		})
		if c.connack.ReasonCode != 0x95 {
			t.Errorf("CONNACK = %#x, want 0x95", c.connack.ReasonCode)
		}
		c.wantEnd(0)
	}
}

// budget counts what is reserved.
type budget chan int

func (b budget) Take(n int) bool { b <- n; return n < 10_000 }
func (b budget) Give(n int)      { b <- -n }

func TestMemoryOfStrangersIsReserved(t *testing.T) {
	t.Parallel()
	b := make(budget, 10)
	s := start(t, broker.Options{Strangers: b, Limits: broker.Limits{ConnectTimeout: time.Hour}})
	s.connect(t, v5, "a", willOn("a", string(bytes.Repeat([]byte("x"), 5000))))
	if n := <-b; n < 5000 || <-b != -n {
		t.Errorf("%d bytes are reserved and not given back", n)
	}
	c := s.dial(t, v5)
	c.write([]byte("\x10\xFF\x7F")) // 16383 bytes follow, never
	c.wantEnd(0)
	s.connect(t, v5, "small")
	<-b
	if len(b) > 0 {
		t.Error("a small packet needs a reservation")
	}
	// Decoded, user properties take more memory than in the packet.
	properties := packets.Properties{User: make([]packets.UserProperty, 600)}
	for name, edit := range map[string]func(*packets.Packet){
		"CONNECT": func(pk *packets.Packet) { pk.Properties = properties },
		"a will": func(pk *packets.Packet) {
			willOn("a", "x")(pk)
			pk.Connect.WillProperties = properties
		},
	} {
		c := s.dial(t, v5)
		pk := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Connect},
			Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "c", Clean: true},
		}
		edit(&pk)
		c.send(pk)
		select {
		case n := <-b:
			if n < 600*32 {
				t.Errorf("%d bytes are reserved for 600 user properties of %s", n, name)
			}
		case <-time.After(patience):
			t.Fatalf("nothing is reserved for the user properties of %s", name)
		}
		c.wantEnd(0)
	}
}

func TestLimitOfSubscriptions(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{Subscriptions: 3, SubscribeFilters: 2}})
	inBoth(t, func(t *testing.T, version byte) {
		full := byte(0x80)
		if version == v5 {
			full = packets.ErrQuotaExceeded.Code
		}
		c := s.connect(t, version, "")
		for i, want := range [][]byte{{0, 0, full}, {0, full}, {0, 0}} {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: uint16(i + 1)}
			for n := range want {
				filter := fmt.Sprintf("f%d-%d", i, n)
				if i == 2 {
					filter = fmt.Sprintf("f0-%d", n) // those that there are may be renewed
				}
				pk.Filters = append(pk.Filters, packets.Subscription{Filter: filter})
			}
			c.send(pk)
			if got := c.await(packets.Suback).ReasonCodes; !bytes.Equal(got, want) {
				t.Errorf("SUBACK %d = %x, want %x", i, got, want)
			}
		}
	})
}

// TestLimitOfTopicLevels publishes to topics with more levels than a filter may have, in every way that there is.
func TestLimitOfTopicLevels(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{TopicLevels: 3}})
	inBoth(t, func(t *testing.T, version byte) {
		other := s.connect(t, version, "other"+t.Name())
		other.subscribe(1, "a"+string(rune('0'+version))+"/#")
		within := "a" + string(rune('0'+version)) + "/b/c"
		above := within + "/d"
		c := s.connect(t, version, t.Name())
		want, atConnect, filter := byte(0), byte(5), byte(0x80)
		if version == v5 {
			want, atConnect, filter = 0x90, 0x90, 0x97
		}
		for qos := range byte(3) {
			if qos > 0 {
				if code := c.publishWith(above, "above", qos, retained); code != want {
					t.Errorf("PUBLISH of QoS %d to %s is answered with %#x, want %#x", qos, above, code, want)
				}
			} else {
				c.publish(above, "above", qos, retained)
			}
			c.publish(within, "within", qos)
			other.wantMessages("within")
		}
		if version == v5 {
			alias := func(n uint16) func(*packets.Packet) {
				return func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = n, true }
			}
			for _, name := range []string{above, ""} {
				if code := c.publishWith(name, "above", 1, alias(1)); code != want {
					t.Errorf("PUBLISH to an alias is answered with %#x, want %#x", code, want)
				}
			}
			for _, response := range []string{above, within} {
				c.publishWith("$aws/things/lamp/shadow/get", "", 1, func(pk *packets.Packet) { pk.Properties.ResponseTopic = response })
			}
			if pk := other.receive(); pk.TopicName != within {
				t.Errorf("the answer of a request comes on %s, want %s", pk.TopicName, within)
			}
		}
		other.wantNone()
		if got := s.tryConnect(t, version, "will"+t.Name(), willOn(above, "above")).connack.ReasonCode; got != atConnect {
			t.Errorf("CONNACK to a will on %s = %#x, want %#x", above, got, atConnect)
		}
		s.connect(t, version, "will"+t.Name(), willOn(within, "will")).vanish()
		other.wantMessage("will")
		if got := c.subscribeWith(packets.Properties{}, packets.Subscription{Filter: above}, packets.Subscription{Filter: within}); !bytes.Equal(got, []byte{filter, 0}) {
			t.Errorf("SUBACK = %x, want %x and 0", got, filter)
		}
	})
}

// TestFastPublishersWait publishes more than a second may have: nothing is lost, and the last has waited.
func TestFastPublishersWait(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]broker.Limits{"messages": {MessageRate: 20}, "bytes": {ByteRate: 20 * 1004}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, broker.Options{Limits: limits})
			c := s.connect(t, v311, "")
			began := time.Now()
			for i := range 40 {
				c.send(packets.Packet{
					FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: uint16(i + 1), TopicName: "a",
					Payload: make([]byte, 999),
				})
			}
			for range 40 {
				c.await(packets.Puback)
			}
			if took := time.Since(began); took < 800*time.Millisecond || took > patience/2 {
				t.Errorf("40 messages took %v where 20 a second are allowed, want a second", took)
			}
			other := s.connect(t, v311, "")
			began = time.Now()
			other.ping()
			if took := time.Since(began); took > time.Second {
				t.Errorf("another client waits %v for its PINGRESP", took)
			}
		})
	}
}
