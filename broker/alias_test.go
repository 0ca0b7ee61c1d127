package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

func TestTopicAliasesTowardsTheClient(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	publisher := s.connect(t, connectOptions{id: "publisher"})
	c := s.connect(t, connectOptions{id: "c", edit: func(pk *packets.Packet) { pk.Properties.TopicAliasMaximum = 2 }})
	c.subscribe(2, "long/#", "x")
	var got []string
	for i, topic := range []string{"long/1", "x", "long/2", "long/1", "long/3", "long/2"} {
		publisher.send(message(topic, "p", byte(i%3), uint16(i+1)))
		pk := c.want(packets.Publish)
		c.acknowledge(pk)
		got = append(got, fmt.Sprintf("%s=%d", pk.TopicName, pk.Properties.TopicAlias))
	}
	if got, want := strings.Join(got, " "), "long/1=1 x=0 long/2=2 =1 long/3=0 =2"; got != want {
		t.Errorf("topics and aliases = %s, want %s", got, want)
	}
}
