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
// is announced counts, nothing is read but which protocol it is, and a client of MQTT 5 is told.
func TestLimitOfConnect(t *testing.T) {
	t.Parallel()
	reserved := make(budget, 10)
	s := start(t, broker.Options{Limits: broker.Limits{ConnectBytes: 1000, ConnectTimeout: time.Hour}, Strangers: reserved})
	for _, announced := range []string{"\x10\xFF\xFF\xFF\x7F", "\x10\xFF\x7F", "\x10\xE8\x07"} {
		for begin, want := range map[string]byte{"\x00\x04MQTT\x05": 0x95, "\x00\x04MQTT\x04": 0, "\x00\x06MQIsdp\x03": 0, "\x00\x04MQTT\x06": 0} {
			c := s.dial(t, v5)
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
