package broker

import (
	"strings"

	"github.com/umbra-iot/umbra/broker/wire"
)

// aliases are the topic aliases that the server uses towards one client, which
// has told how many it takes. The first topics of a connection get one, for as
// long as the connection lasts. The zero value uses none [MQTT-3.1.2-27].
type aliases struct {
	max uint16 // [MQTT-3.1.2-26]
	of  map[string]uint16
}

// shortTopic is the length of topics that are not worth an alias: with one the
// packet could be longer than without.
const shortTopic = 3

// declaration is how many bytes longer, at most, a packet is that declares an alias.
const declaration = 4

// alias puts an alias in p if there is one for the topic of m, which then stays
// out. mu of the client is held, and p is written before it is released.
func (c *conn) alias(p *wire.Publish, m *wire.Message) {
	a := &c.toClient
	if a.max == 0 || len(m.Topic) <= shortTopic {
		return
	}
	if alias, known := a.of[m.Topic]; known {
		p.Alias, p.OmitTopic = alias, true
		return
	}
	if len(a.of) == int(a.max) {
		return
	}
	if c.packetMax != 0 && uint32(wire.PublishSize(c.version, m, p.QoS, p.Identifiers)+declaration) > c.packetMax {
		return
	}
	p.Alias = uint16(len(a.of)) + 1
	a.of = put(a.of, strings.Clone(m.Topic), p.Alias)
}
