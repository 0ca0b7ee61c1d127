package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

// tight lets no message that is stored stay in memory.
var tight = broker.Options{Limits: broker.Limits{QueueMemory: 1}}

// queueFor queues n messages for a client that is away.
func (s *server) queueFor(t *testing.T, id string, n int) {
	t.Helper()
	sub := s.connect(t, device(id))
	sub.subscribe(2, "t/#")
	sub.leave()
	p := s.connect(t, connectOptions{id: "pub"})
	for i := range n {
		p.publish(message("t/a", fmt.Sprint(i), byte(1+i%2), uint16(i+1)))
	}
	eventually(t, "nothing in memory", func() bool { return s.Stats().QueuedBytes == 0 })
}

func (c *raw) wantNumbers(from, to int) {
	c.t.Helper()
	for i := from; i < to; i++ {
		pk := c.wantMessage("t/a")
		if string(pk.Payload) != fmt.Sprint(i) || pk.FixedHeader.Qos != byte(1+i%2) {
			c.t.Fatalf("message %s of QoS %d, want %d", pk.Payload, pk.FixedHeader.Qos, i)
		}
	}
}

func TestMessagesAboveTheMemoryLimitComeBackInOrder(t *testing.T) {
	t.Parallel()
	const n = 300
	s := start(t, tight)
	s.queueFor(t, "sub", n)
	c := s.again(t, device("sub"), true)
	p := s.connect(t, connectOptions{id: "pub2"})
	for i := range n { // more come while the old ones are read
		p.publish(message("t/a", fmt.Sprint(n+i), byte(1+i%2), uint16(i+1)))
	}
	c.wantNumbers(0, 2*n)
	c.wantQuiet()
}

func TestMessagesAboveTheMemoryLimitSurviveKill(t *testing.T) {
	t.Parallel()
	const n = 100
	s := start(t, tight)
	s.queueFor(t, "sub", n)
	s = s.kill(t, tight)
	if got := s.Stats().QueuedBytes; got != 0 {
		t.Errorf("%d bytes are in memory after a restart, want 0", got)
	}
	c := s.again(t, device("sub"), true)
	c.wantNumbers(0, n)
}

func TestMessagesComeBackWhenTheStoreWorksAgain(t *testing.T) {
	t.Parallel()
	s := start(t, tight)
	s.queueFor(t, "sub", 100)
	s.store.FailGet(1, errors.New("no answer"))
	c := s.again(t, device("sub"), true)
	c.wantNumbers(0, 100)
}

// TestRetainedMessagesComeAfterSpilledOnesThatAreDropped has what waits in the store be too large for the client when it
// is back in the middle of its retained messages.
func TestRetainedMessagesComeAfterSpilledOnesThatAreDropped(t *testing.T) {
	t.Parallel()
	const n = 150
	s := start(t, tight)
	p := s.connect(t, connectOptions{id: "pub"})
	for i := range n {
		pk := message(fmt.Sprintf("t/%03d", i), "x", 1, 1)
		pk.FixedHeader.Retain = true
		p.publish(pk)
	}
	with := func(o connectOptions, size uint32) connectOptions {
		o.edit = func(pk *packets.Packet) { pk.Properties.ReceiveMaximum, pk.Properties.MaximumPacketSize = 1, size }
		return o
	}
	c := s.connect(t, with(device("sub"), 0))
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "t/#", Qos: 1}}})
	c.want(packets.Suback)
	c.want(packets.Publish)
	_ = c.conn.Close()
	eventually(t, "the client is away", func() bool {
		k, _ := s.Connection("sub")
		return !k.Connected
	})
	for range 3 {
		p.publish(message("t/big", strings.Repeat("x", 2000), 1, 1))
	}
	eventually(t, "the large ones are in the store", func() bool { return s.Stats().QueuedBytes < 2000 })
	c = s.again(t, with(device("sub"), 1000), true)
	for i := range n {
		c.wantMessage(fmt.Sprintf("t/%03d", i))
	}
}
