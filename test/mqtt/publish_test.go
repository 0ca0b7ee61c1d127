package mqtt_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
)

func TestPropertiesTravelWithTheMessage(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	sent := packets.Properties{
		PayloadFormat: 1, PayloadFormatFlag: true, ContentType: "text/plain", ResponseTopic: "answer", CorrelationData: []byte{0, 1, 255},
		User: []packets.UserProperty{{Key: "b", Val: "1"}, {Key: "a", Val: "2"}, {Key: "b", Val: "1"}, {Key: "", Val: ""}},
	}
	other := s.connect(t, v5, "other")
	c := s.connect(t, v5, "c", func(pk *packets.Packet) { pk.Properties.RequestProblemInfoFlag = true }) // wants no reason strings
	old := s.connect(t, v311, "old")
	c.subscribe(2, "a/+")
	old.subscribe(2, "a/+")
	with := func(pk *packets.Packet) { pk.Properties = sent }
	for qos := range byte(3) {
		topic := fmt.Sprint("a/", qos)
		other.publish(topic, "x", qos, with, retained)
		c.subscribe(2, topic)
		c.unsubscribe(topic)
		for _, pk := range c.wantMessages("x", "x") {
			got := fmt.Sprintf("%+v", pk.Properties)
			if want := fmt.Sprintf("%+v", sent); got != want {
				t.Errorf("properties with QoS %d = %s, want %s", qos, got, want)
			}
		}
		old.wantMessages("x")
	}
}

// TestEmptyCorrelationDataIsCorrelationData: what a requester has sent it gets back, of a message and of a will, also
// where it was stored in between [MQTT-3.3.2-16].
func TestEmptyCorrelationDataIsCorrelationData(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	s.connect(t, v5, "c", persistent).subscribe(1, "a", "will", "answer")
	// The encoder of packets leaves empty data out.
	const properties = "\x0C\x08\x00\x06answer\x09\x00\x00"
	publish := func(c *client, topic, payload string) {
		body := string([]byte{0, byte(len(topic))}) + topic + "\x00\x07" + properties + payload
		c.write(append([]byte{packets.Publish<<4 | 2, byte(len(body))}, body...))
		if pk := c.await(packets.Puback); pk.ReasonCode >= 0x80 {
			t.Errorf("PUBACK on %s = %#x", topic, pk.ReasonCode)
		}
	}
	other := s.connect(t, v5, "other")
	publish(other, "a", "x")
	publish(other, "$aws/things/T/shadow/update", `{"state":{"desired":{"a":1}}}`)
	will := "\x00\x04MQTT\x05\x0E\x00\x00\x00\x00\x01w" + properties + "\x00\x04will\x00\x01x"
	w := s.dial(t, v5)
	w.write(append([]byte{packets.Connect << 4, byte(len(will))}, will...))
	w.await(packets.Connack)
	w.vanish()
	c := s.connect(t, v5, "c", persistent)
	for range 3 {
		if pk := c.receive(); pk.Properties.CorrelationData == nil {
			t.Errorf("message on %s has properties %+v, want empty Correlation Data", pk.TopicName, pk.Properties)
		}
	}
}

// TestEmptyPropertiesArePropertiesToo sends an empty Content Type and an empty Response Topic, in a message and in a will. They
// travel unaltered, also to a session that is away [MQTT-3.3.2-15], [MQTT-3.3.2-20].
func TestEmptyPropertiesArePropertiesToo(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	const properties = "\x06\x03\x00\x00\x08\x00\x00"
	for _, away := range []bool{false, true} {
		id := fmt.Sprint("c", away)
		c := s.connect(t, v5, id, persistent)
		c.subscribe(1, "a/"+id, "w/"+id)
		if away {
			c.leave()
		}
		other := s.connect(t, v5, "other"+id)
		body := string([]byte{0, byte(2 + len(id))}) + "a/" + id + "\x00\x07" + properties + "x"
		other.write(append([]byte{packets.Publish<<4 | 2, byte(len(body))}, body...))
		other.await(packets.Puback)
		will := "\x00\x04MQTT\x05\x0E\x00\x00\x00\x00\x01w" + properties + string([]byte{0, byte(2 + len(id))}) + "w/" + id + "\x00\x01x"
		w := s.dial(t, v5)
		w.write(append([]byte{packets.Connect << 4, byte(len(will))}, will...))
		w.await(packets.Connack)
		w.vanish()
		if away {
			c = s.connect(t, v5, id, persistent)
		}
		for range 2 {
			_, body, err := c.conn.ReceiveBytes(patience)
			if err != nil {
				t.Fatal(err)
			}
			topic := 2 + len("a/"+id)
			if got := string(body[topic+2:]); got != properties+"x" {
				t.Errorf("%s: properties and payload %q, want %q", body[2:topic], got, properties+"x")
			}
		}
	}
}

// TestMessageExpiryOfZero sends a message that may not wait: only who is there gets it (MQTT 5, 3.3.2.3.3).
func TestMessageExpiryOfZero(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	s.connect(t, v5, "away", persistent).subscribe(1, "a", "w")
	there := s.connect(t, v5, "there", persistent)
	there.subscribe(1, "a", "w")
	s.connect(t, v5, "away", persistent).leave()
	other := s.connect(t, v5, "other")
	const properties = "\x05\x02\x00\x00\x00\x00"
	kept := "\x00\x01a\x00\x07" + properties + "x"
	other.publish("a", "older", 1, retained)
	other.write(append([]byte{packets.Publish<<4 | 3, byte(len(kept))}, kept...)) // retained
	other.await(packets.Puback)
	will := "\x00\x04MQTT\x05\x2E\x00\x00\x00\x00\x04dies" + properties + "\x00\x01w\x00\x01x" // retained
	w := s.dial(t, v5)
	w.write(append([]byte{packets.Connect << 4, byte(len(will))}, will...))
	w.await(packets.Connack)
	w.vanish()
	there.receive() // the older one
	for range 2 {
		_, body, err := there.conn.ReceiveBytes(patience)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(body[5:]); got != properties+"x" {
			t.Errorf("%s: properties and payload %q, want %q", body[2:3], got, properties+"x")
		}
	}
	s.connect(t, v5, "away", persistent).wantMessage("older")
	late := s.connect(t, v5, "late")
	late.subscribe(1, "a", "w")
	late.wantNone()
}

func TestAcknowledgementsCarryNoPropertiesOfThePublish(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, v5, "c")
	pk := message("a", "x", 1, 1)
	pk.Properties.User = []packets.UserProperty{{Key: "k", Val: "v"}}
	c.send(pk)
	if got := c.await(packets.Puback); got.FixedHeader.Remaining != 2 {
		t.Errorf("PUBACK of %d bytes with reason %#x and properties %+v, want only the packet identifier", got.FixedHeader.Remaining, got.ReasonCode, got.Properties)
	}
}

func TestMessageExpiry(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	other := s.connect(t, v5, "other")
	for _, version := range []byte{v311, v5} {
		c := s.connect(t, version, fmt.Sprint(version), persistent)
		c.subscribe(2, "a")
		c.leave()
	}
	other.publish("a", "short", 1, expiringIn(1))
	other.publish("a", "long", 2, expiringIn(60), retained)
	other.publish("a", "none", 1)
	other.publish("kept", "short", 1, expiringIn(1), retained)
	<-time.After(1500 * time.Millisecond)
	left := func(pk packets.Packet) {
		t.Helper()
		if n := pk.Properties.MessageExpiryInterval; n != 59 && n != 58 {
			t.Errorf("Message Expiry Interval = %d, want what remains of 60", n)
		}
	}
	c := s.connect(t, v5, "5", persistent)
	got := c.wantMessages("long", "none")
	left(got[0])
	if n := got[1].Properties.MessageExpiryInterval; n != 0 {
		t.Errorf("Message Expiry Interval of a message without one = %d, want none", n)
	}
	c.subscribe(1, "kept", "a")
	left(c.wantMessage("long"))
	s.connect(t, v311, "4", persistent).wantMessages("long", "none")
}

// TestExpiryDoesNotEndADeliveryThatHasBegun waits with the PUBREC.
func TestExpiryDoesNotEndADeliveryThatHasBegun(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, v5, "c", persistent)
	c.subscribe(2, "a")
	c.hold = true
	c.publish("a", "x", 2, expiringIn(1))
	c.receive()
	<-time.After(1200 * time.Millisecond)
	c.vanish()
	c = s.connect(t, v5, "c", persistent)
	c.wantMessages("x")
}

func TestRequestAndResponse(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	asks, answers := s.connect(t, v5, "asks"), s.connect(t, v5, "answers")
	asks.subscribe(1, "answer/to/asks")
	answers.subscribe(1, "question")
	asks.publish("question", "?", 1, func(pk *packets.Packet) {
		pk.Properties.ResponseTopic, pk.Properties.CorrelationData = "answer/to/asks", []byte("334")
	})
	q := answers.wantMessage("?").Properties
	answers.publish(q.ResponseTopic, "!", 1, func(pk *packets.Packet) { pk.Properties.CorrelationData = q.CorrelationData })
	if got := asks.wantMessage("!").Properties.CorrelationData; string(got) != "334" {
		t.Errorf("correlation data = %q, want %q", got, "334")
	}
}

func aliased(alias uint16) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = alias, true }
}

func TestClientTopicAlias(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, v5, "c")
	most := c.connack.Properties.TopicAliasMaximum
	c.subscribe(2, "a", "b")
	for qos := range byte(3) {
		c.publish("a", "a", qos, aliased(most))
		c.publish("", "again", qos, aliased(most))
		c.publish("b", "b", qos, aliased(most)) // means something else from now on
		c.publish("", "again", qos, aliased(most))
	}
	for range 3 {
		for _, want := range []string{"a", "a", "b", "b"} {
			if pk := c.receive(); pk.TopicName != want || pk.Properties.TopicAliasFlag {
				t.Errorf("message %q on %q, want %q and no alias", pk.Payload, pk.TopicName, want)
			}
		}
	}
	c.send(aliasedMessage("a", most+1))
	c.wantEnd(0x94)
	c = s.connect(t, v5, "c")
	c.send(aliasedMessage("", most)) // it ended with its connection
	c.wantEnd(0x82)
	c = s.connect(t, v5, "c")
	c.write([]byte{packets.Publish << 4, 7, 0, 1, 'a', 3, packets.PropTopicAlias, 0, 0})
	c.wantEnd(0x94)
	c = s.connect(t, v5, "c")
	c.write([]byte{packets.Publish << 4, 6, 0, 0, 3, packets.PropTopicAlias, 0, 0})
	c.wantEnd(0x94)
}

func aliasedMessage(topic string, alias uint16) packets.Packet {
	pk := message(topic, "x", 0, 0)
	aliased(alias)(&pk)
	return pk
}

func TestServerTopicAlias(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for _, most := range []uint16{0, 1, 65535} {
		c := s.connect(t, v5, "c", func(pk *packets.Packet) { pk.Properties.TopicAliasMaximum = most })
		c.subscribe(2, "topic/#")
		aliases := map[uint16]string{}
		for i := range 40 {
			topic := fmt.Sprint("topic/", i%20)
			c.publish(topic, "x", byte(i%3))
			pk := c.receive()
			p := pk.Properties
			switch {
			case p.TopicAliasFlag && (p.TopicAlias == 0 || p.TopicAlias > most):
				t.Fatalf("topic alias = %d, want at most %d", p.TopicAlias, most)
			case p.TopicAliasFlag && pk.TopicName != "":
				aliases[p.TopicAlias] = pk.TopicName
			case p.TopicAliasFlag:
				pk.TopicName = aliases[p.TopicAlias]
			}
			if pk.TopicName != topic {
				t.Fatalf("message %d on %q with alias %d, want topic %q", i, pk.TopicName, p.TopicAlias, topic)
			}
		}
		if want := min(int(most), 16); len(aliases) != want {
			t.Errorf("a client that takes %d aliases got %d, want %d", most, len(aliases), want)
		}
		c.leave()
	}
}

func TestMaximumPacketSize(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{PayloadBytes: 1000}})
	c := s.connect(t, v5, "c", maximumPacketSize(64), func(pk *packets.Packet) { pk.Properties.TopicAliasMaximum = 5 })
	other := s.connect(t, v5, "other")
	c.subscribe(2, "topic")
	other.subscribe(2, "topic")
	fits := strings.Repeat("x", 64-2-2-len("topic")-1)
	for qos := range byte(3) {
		room := fits[min(2*int(qos), 2):] // for the packet identifier
		other.publish("topic", room+"y", qos)
		other.publish("topic", room, qos)
		c.wantMessages(room)
		other.wantMessages(room+"y", room)
	}
	other.send(message("topic", strings.Repeat("x", int(other.connack.Properties.MaximumPacketSize)), 0, 0))
	other.wantEnd(0x95)
}

// TestMaximumPacketSizeOfEveryAnswer asks for answers that are as long as possible, of clients that take little.
func TestMaximumPacketSizeOfEveryAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	requests := []packets.Packet{
		message("$SYS/closed", "", 1, 1), // PUBACK and PUBREC with a reason string
		message("$SYS/closed", "", 2, 2),
		{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 3, Filters: make([]packets.Subscription, 30)},
		{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 4, Filters: make([]packets.Subscription, 30)},
	}
	for i := range requests {
		for j := range requests[i].Filters {
			requests[i].Filters[j].Filter = fmt.Sprint("filter/", j)
		}
	}
	const (
		refusal = 2 + 3           // CONNACK with a reason code and nothing else
		welcome = refusal + 11    // with three limits
		suback  = 2 + 2 + 1 + 30  // and UNSUBACK
		whole   = suback + 3 + 40 // with reason strings
	)
	for limit := uint32(1); limit <= whole; limit++ {
		var types []byte
		for _, pk := range s.answers(t, limit, requests) {
			if size := 2 + pk.FixedHeader.Remaining; size > int(limit) {
				t.Errorf("a client that takes %d bytes got a packet of type %d with %d", limit, pk.FixedHeader.Type, size)
			}
			if pk.FixedHeader.Type == packets.Connack && (pk.ReasonCode == 0x95) != (limit < welcome) {
				t.Errorf("CONNACK to a client that takes %d bytes = %#x", limit, pk.ReasonCode)
			}
			types = append(types, pk.FixedHeader.Type)
		}
		want := []byte{packets.Connack, packets.Puback, packets.Pubrec, packets.Unsuback, packets.Suback, packets.Disconnect}
		switch {
		case limit < refusal:
			want = nil
		case limit < welcome:
			want = want[:1]
		case limit < suback:
			want = []byte{packets.Connack, packets.Puback, packets.Pubrec, packets.Disconnect}
		}
		if !bytes.Equal(types, want) {
			t.Errorf("types of packets to a client that takes %d bytes = %d, want %d", limit, types, want)
		}
	}
}

// answers returns the packets that a client gets until the end of its connection, which is a protocol error.
func (s *server) answers(t *testing.T, limit uint32, requests []packets.Packet) (answers []packets.Packet) {
	t.Helper()
	c := s.dial(t, v5)
	c.send(append([]packets.Packet{{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, Properties: packets.Properties{MaximumPacketSize: limit},
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "small", Clean: true},
	}}, requests...)...)
	_, _ = c.conn.Write([]byte{packets.Auth << 4, 0}) // the connection may have ended
	for {
		pk, err := c.conn.Receive(patience)
		if err != nil {
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("connection of a client that takes %d bytes: %v", limit, err)
			}
			return answers
		}
		answers = append(answers, pk)
	}
}

func TestReceiveMaximumOfTheClient(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	other := s.connect(t, v5, "other")
	c := s.connect(t, v5, "c", receiveMaximum(2))
	c.subscribe(2, "a")
	c.hold = true
	for i := range 6 {
		other.publish("a", fmt.Sprint(i), byte(1+i%2))
	}
	got := c.wantMessages("0", "1") // but a ping is answered, and so is all else
	c.subscribe(1, "b")
	c.acknowledge(got[0])
	got = append(got, c.wantMessages("2")...)
	c.send(ack(packets.Pubrec, got[1].PacketID))
	c.await(packets.Pubrel)
	c.wantNone() // only the PUBCOMP ends a QoS 2 delivery
	c.send(ack(packets.Pubcomp, got[1].PacketID))
	got = append(got, c.wantMessages("3")...)
	refusal := ack(packets.Pubrec, got[3].PacketID)
	refusal.ReasonCode = packets.ErrUnspecifiedError.Code
	c.send(refusal) // or a PUBREC with an error
	c.wantMessages("4")
	other.publish("a", "QoS 0", 0)
	c.wantMessages("QoS 0")
}

func TestReceiveMaximumOfTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{ReceiveMaximum: 3}})
	c := s.connect(t, v5, "c")
	if n := c.connack.Properties.ReceiveMaximum; n != 3 {
		t.Fatalf("CONNACK: Receive Maximum = %d, want 3", n)
	}
	for id := uint16(1); id <= 3; id++ {
		c.send(message("a", "x", 2, id))
		c.await(packets.Pubrec)
	}
	c.publish("a", "x", 0)
	c.send(ack(packets.Pubrel, 2))
	c.await(packets.Pubcomp)
	c.send(message("a", "x", 1, 4)) // takes the place and gives it back
	c.await(packets.Puback)
	c.send(message("a", "x", 2, 5))
	c.await(packets.Pubrec)
	c.send(message("a", "x", 1, 6))
	c.wantEnd(0x93)
}

func TestDupOfThePublisherIsNotHandedOn(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.subscribe(2, t.Name())
		for qos := byte(1); qos <= 2; qos++ {
			c.publish(t.Name(), "x", qos, func(pk *packets.Packet) { pk.FixedHeader.Dup = true })
			if c.wantMessage("x").FixedHeader.Dup {
				t.Errorf("QoS %d: DUP is set in a message that is sent for the first time", qos)
			}
		}
	})
}

// TestQoS2Exchange repeats every packet that a publisher may repeat.
func TestQoS2Exchange(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		other := s.connect(t, version, "other"+t.Name())
		other.subscribe(2, t.Name())
		c := s.connect(t, version, t.Name(), persistent)
		first := message(t.Name(), "x", 2, 7)
		again := first
		again.FixedHeader.Dup = true
		c.send(first, again)
		for range 2 {
			if pk := c.await(packets.Pubrec); pk.PacketID != 7 || pk.ReasonCode >= 0x80 {
				t.Errorf("PUBREC of %d with %#x, want 7 with success", pk.PacketID, pk.ReasonCode)
			}
		}
		c.vanish()
		c = s.connect(t, version, t.Name(), persistent)
		c.send(again)
		c.await(packets.Pubrec)
		other.wantMessages("x")
		c.send(ack(packets.Pubrel, 7), ack(packets.Pubrel, 7))
		if pk := c.await(packets.Pubcomp); pk.PacketID != 7 || pk.ReasonCode != 0 {
			t.Errorf("PUBCOMP of %d with %#x, want 7 with 0", pk.PacketID, pk.ReasonCode)
		}
		if pk := c.await(packets.Pubcomp); version == v5 && pk.ReasonCode != 0x92 {
			t.Errorf("PUBCOMP for a PUBREL that came before = %#x, want 0x92", pk.ReasonCode)
		}
		c.send(again) // a new one now, whatever DUP says
		c.await(packets.Pubrec)
		other.wantMessages("x")
	})
}

func TestQoS1IdentifierIsFreeAfterThePuback(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.subscribe(1, t.Name())
		pk := message(t.Name(), "x", 1, 7)
		for range 2 {
			c.send(pk)
			if got := c.await(packets.Puback).PacketID; got != 7 {
				t.Errorf("PUBACK of %d, want 7", got)
			}
			pk.FixedHeader.Dup = true
		}
		c.wantMessages("x", "x")
	})
}

func TestUnexpectedAcknowledgements(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.send(ack(packets.Puback, 9), ack(packets.Pubcomp, 9), ack(packets.Pubrec, 9))
		if pk, err := c.read(patience); err != nil || pk.FixedHeader.Type != packets.Pubrel || version == v5 && pk.ReasonCode != 0x92 {
			t.Errorf("after PUBREC: packet type %d with %#x (%v), want PUBREL with 0x92", pk.FixedHeader.Type, pk.ReasonCode, err)
		}
		c.ping()
	})
}

// TestOrder publishes with all three QoS at once, to a client that takes few at a time and comes and goes.
func TestOrder(t *testing.T) {
	t.Parallel()
	const n = 300
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		publisher := s.connect(t, version, "publisher"+t.Name())
		options := []func(*packets.Packet){persistent, receiveMaximum(7)}
		c := s.connect(t, version, t.Name(), options...)
		c.subscribe(2, t.Name()+"/+")
		go func() {
			var out []byte
			for i := range n {
				pk := message(fmt.Sprint(t.Name(), "/", i%3), fmt.Sprintf("%03d", i), byte(i%3), uint16(i%3*(i+1)))
				out = append(out, publisher.encode(pk)...)
			}
			_, _ = publisher.conn.Write(out) // the acknowledgements are left unread
		}()
		last := map[string][]byte{}
		seen := map[string]bool{}
		for i := 0; len(seen) < n/3*2; i++ {
			pk := c.receive()
			if pk.FixedHeader.Qos == 0 {
				continue // lost while the client is away
			}
			if seen[string(pk.Payload)] && !pk.FixedHeader.Dup {
				t.Fatalf("%q came twice without DUP", pk.Payload)
			}
			if !seen[string(pk.Payload)] && bytes.Compare(pk.Payload, last[pk.TopicName]) <= 0 {
				t.Fatalf("%q came after %q", pk.Payload, last[pk.TopicName])
			}
			seen[string(pk.Payload)] = true
			last[pk.TopicName] = pk.Payload
			if i%50 == 49 {
				c.vanish()
				c = s.connect(t, version, t.Name(), options...)
			}
		}
	})
}

func TestRefusedPublishIsToldInMQTT5AndAcknowledgedInOlder(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Guard: allow(func(a auth.Action, name string) bool { return name != "secret" || a != auth.Publish })})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.subscribe(2, "secret")
		for topic, code := range map[string]byte{"secret": 0x87, "$SYS/broker/uptime": 0x90, "$aws/events/x": 0x90} {
			for qos := range byte(3) {
				want := code
				if version == v311 || qos == 0 {
					want = 0
				}
				if got := c.publishWith(topic, "x", qos); got != want {
					t.Errorf("publish on %q with QoS %d = %#x, want %#x", topic, qos, got, want)
				}
			}
		}
		c.wantNone()
	})
}

func TestGrantedQoSBoundsTheDelivery(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		publisher := s.connect(t, version, "publisher"+t.Name())
		var got []string
		for granted := range byte(3) {
			c := s.connect(t, version, t.Name())
			c.subscribe(granted, t.Name())
			for qos := range byte(3) {
				publisher.publish(t.Name(), "x", qos)
				got = append(got, fmt.Sprint(c.receive().FixedHeader.Qos))
			}
			c.wantNone()
			c.leave()
		}
		if want := strings.Fields("0 0 0 0 1 1 0 1 2"); !slices.Equal(got, want) {
			t.Errorf("QoS of the deliveries = %v, want %v", got, want)
		}
	})
}
