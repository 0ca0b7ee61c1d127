package wire

import "encoding/binary"

// Publish is what differs between the deliveries of one message.
type Publish struct {
	ID          uint16 // packet identifier, 0 with QoS 0
	QoS         byte   // of the delivery: the lower of the message's and the subscription's
	Dup         bool   // a redelivery [MQTT-3.3.1-1]
	Retain      bool
	Identifiers []uint32 // of the matching subscriptions [MQTT-3.3.4-3]; not changed
	Now         int64    // ms since the Unix epoch, for the remaining expiry interval; unused when the message has none
	Alias       uint16   // topic alias, 0 for none; MQTT 5 only
	OmitTopic   bool     // the receiver knows the topic by its alias
}

// AppendPublish appends the PUBLISH packet that delivers m. MQTT 3.1.1 carries no properties; for MQTT 5
// the expiry interval is what remains of it [MQTT-3.3.2-6].
func AppendPublish(dst []byte, v Version, m *Message, p Publish) []byte {
	properties, remaining := publishLengths(v, m, p)
	dst = append(dst, publishFlags(p))
	dst = appendVarint(dst, remaining)
	dst = appendString(dst, topicOf(m, p))
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.ID)
	}
	if v >= V5 {
		dst = appendVarint(dst, properties)
		if m.Expires != 0 {
			dst = append(dst, propMessageExpiry)
			dst = binary.BigEndian.AppendUint32(dst, m.remainingSeconds(p.Now))
		}
		if p.Alias != 0 {
			dst = append(dst, propTopicAlias)
			dst = binary.BigEndian.AppendUint16(dst, p.Alias)
		}
		for _, id := range p.Identifiers {
			dst = appendVarint(append(dst, propSubscriptionID), int(id))
		}
		dst = append(dst, m.encoded...)
	}
	return append(dst, m.Payload...)
}

// PublishSize returns the length of the packet that AppendPublish appends when there is no topic alias, for the
// check against a client's Maximum Packet Size [MQTT-3.1.2-24] and against [MaxRemaining].
func PublishSize(v Version, m *Message, qos byte, identifiers []uint32) int {
	_, remaining := publishLengths(v, m, Publish{QoS: qos, Identifiers: identifiers})
	return 1 + varintSize(remaining) + remaining
}

func topicOf(m *Message, p Publish) string {
	if p.OmitTopic {
		return ""
	}
	return m.Topic
}

// publishLengths returns the length of the properties and the remaining length of a PUBLISH packet.
func publishLengths(v Version, m *Message, p Publish) (properties, remaining int) {
	remaining = 2 + len(topicOf(m, p)) + len(m.Payload)
	if p.QoS > 0 {
		remaining += 2
	}
	if v < V5 {
		return 0, remaining
	}
	properties = len(m.encoded)
	if m.Expires != 0 {
		properties += 5
	}
	if p.Alias != 0 {
		properties += 3
	}
	for _, id := range p.Identifiers {
		properties += 1 + varintSize(int(id))
	}
	return properties, remaining + varintSize(properties) + properties
}

func publishFlags(p Publish) byte {
	b := byte(packetPublish<<4) | p.QoS<<1
	if p.Dup {
		b |= 1 << 3
	}
	if p.Retain {
		b |= 1
	}
	return b
}

// remainingSeconds returns the received interval minus the whole seconds waited: what remains, rounded up.
func (m *Message) remainingSeconds(now int64) uint32 {
	if m.Fleeting {
		return 0
	}
	left := max(0, (m.Expires-now+999)/1000)
	return uint32(min(left, 1<<32-1))
}
