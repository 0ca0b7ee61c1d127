package broker_test

import (
	"errors"
	"fmt"
	"testing"

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
