package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

// kilobyte is a message of about so many bytes.
func kilobyte(topicName string, n int) packets.Packet {
	return message(topicName, fmt.Sprintf("%d %s", n, strings.Repeat("x", 1000)), 1, uint16(n+1))
}

// What all sessions hold together is bounded: above that a session gives up its own oldest messages, and those who
// are connected still get theirs.
func TestTotalOfAllQueuesIsBounded(t *testing.T) {
	t.Parallel()
	const sessions, total = 8, 64 << 10
	s := start(t, broker.Options{Limits: broker.Limits{QueueTotal: total}})
	for i := range sessions {
		sub := s.connect(t, device(fmt.Sprint("away", i)))
		sub.subscribe(1, fmt.Sprint("to/", i))
		sub.leave()
	}
	p := s.connect(t, connectOptions{id: "pub"})
	for i := range sessions {
		for n := range 20 { // 160 KiB in all
			p.publish(kilobyte(fmt.Sprint("to/", i), n))
		}
	}
	stats := s.Stats()
	if stats.HeldBytes > total || stats.HeldBytes < total/2 || stats.DroppedQueueFull == 0 {
		t.Errorf("%d bytes are held, %d messages dropped; want close to %d bytes", stats.HeldBytes, stats.DroppedQueueFull, total)
	}
	first := s.again(t, device("away0"), true)
	for n := range 20 {
		if pk := first.wantMessage("to/0"); !strings.HasPrefix(string(pk.Payload), fmt.Sprint(n, " ")) {
			t.Fatalf("message %.3s, want %d: nobody takes from another session", pk.Payload, n)
		}
	}
	last := s.connect(t, device("there"))
	last.subscribe(1, "there")
	for n := range 70 { // the others take all that was left
		p.publish(kilobyte("to/7", n))
	}
	if held := s.Stats().HeldBytes; held < total-2<<10 {
		t.Errorf("%d bytes are held, want all of %d", held, total)
	}
	p.publish(kilobyte("there", 1))
	last.wantMessage("there")
}

// With the policy to refuse, the publisher is told.
func TestTotalOfAllQueuesRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{QueueTotal: 8 << 10, QueueRefuses: true}})
	for _, id := range []string{"a", "b"} {
		sub := s.connect(t, device(id))
		sub.subscribe(1, id)
		sub.leave()
	}
	p := s.connect(t, connectOptions{id: "pub"})
	codes := map[byte]int{}
	for n := range 10 {
		p.send(kilobyte("a", n))
		codes[p.want(packets.Puback).ReasonCode]++
	}
	p.send(kilobyte("b", 10))
	if code := p.want(packets.Puback).ReasonCode; codes[0] != 8 || codes[0x97] != 2 || code != 0x97 {
		t.Errorf("reason codes %v, and %#x for a session that is empty; want 8 times 0, then 0x97", codes, code)
	}
	a := s.again(t, device("a"), true)
	for range 8 {
		a.wantMessage("a")
	}
	eventually(t, "room again", func() bool { return s.Stats().HeldBytes == 0 })
}
