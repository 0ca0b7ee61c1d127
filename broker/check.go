package broker

import (
	"encoding/binary"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/wire"
)

// check finds what is wrong with the body of an MQTT 5 packet and what the
// decoder does not look at: properties that come twice, that are cut off or have
// a value that they may not have (MQTT 5, 2.2.2), and subscription options.
// What is wrong with the rest of a packet is left to the decoder.
func check(pk *packets.Packet, body []byte) packets.Code {
	b := bodyReader{b: body}
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return checkConnect(&b)
	case packets.Publish:
		b.skip(b.uint16())
		if pk.FixedHeader.Qos > 0 {
			b.skip(2)
		}
		return b.properties()
	case packets.Subscribe:
		b.skip(2)
		if code := b.properties(); code != packets.CodeSuccess {
			return code
		}
		return b.subscriptions()
	case packets.Unsubscribe:
		b.skip(2)
		return b.properties()
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		b.skip(3) // packet identifier, reason
	case packets.Disconnect, packets.Auth:
		b.skip(1) // reason
	default:
		return packets.CodeSuccess
	}
	if len(b.b) == 0 { // the properties may be left out
		return packets.CodeSuccess
	}
	return b.properties()
}

func checkConnect(b *bodyReader) packets.Code {
	const willFlag = 1 << 2
	b.skip(b.uint16())
	version, flags := b.byte(), b.byte()
	if wire.Version(version) != wire.V5 {
		return packets.CodeSuccess
	}
	b.skip(2) // keep-alive
	code := b.properties()
	if code == packets.CodeSuccess && flags&willFlag != 0 {
		b.skip(b.uint16()) // client identifier
		code = b.properties()
	}
	return code
}

// bodyReader takes a packet apart. What is not there reads as zero, and sets short.
type bodyReader struct {
	b     []byte
	short bool
}

func (r *bodyReader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.short = nil, true
		return make([]byte, min(n, 4))
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *bodyReader) skip(n int)  { r.take(n) }
func (r *bodyReader) byte() byte  { return r.take(1)[0] }
func (r *bodyReader) uint16() int { return int(binary.BigEndian.Uint16(r.take(2))) }

// varint reads a variable byte integer (MQTT 5, 1.5.5).
func (r *bodyReader) varint() int {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b := r.byte()
		n |= int(b&0x7F) << shift
		if b < 0x80 {
			return n
		}
	}
	r.short = true
	return 0
}

// properties reads a list of properties with its length.
func (r *bodyReader) properties() packets.Code {
	list := bodyReader{b: r.take(r.varint())}
	if r.short {
		return packets.ErrMalformedProperties
	}
	var seen uint64
	for len(list.b) > 0 {
		id := list.byte()
		valid := list.property(id)
		if list.short {
			return packets.ErrMalformedProperties
		}
		again := seen&(1<<id) != 0 && id != packets.PropUser && id != packets.PropSubscriptionIdentifier
		if again || !valid {
			return packets.ErrProtocolViolation
		}
		seen |= 1 << id
	}
	return packets.CodeSuccess
}

// property reads the value of one property and reports whether it is allowed.
// One that a client cannot send is as good as cut off.
func (r *bodyReader) property(id byte) (valid bool) {
	switch id {
	case packets.PropPayloadFormat, packets.PropRequestProblemInfo, packets.PropRequestResponseInfo:
		return r.byte() <= 1
	case packets.PropReceiveMaximum:
		return r.uint16() != 0
	case packets.PropMaximumPacketSize:
		high, low := r.uint16(), r.uint16()
		return high|low != 0
	case packets.PropTopicAlias, packets.PropTopicAliasMaximum:
		r.skip(2)
	case packets.PropMessageExpiryInterval, packets.PropSessionExpiryInterval, packets.PropWillDelayInterval:
		r.skip(4)
	case packets.PropSubscriptionIdentifier:
		return r.varint() != 0
	case packets.PropContentType, packets.PropResponseTopic, packets.PropCorrelationData, packets.PropReasonString,
		packets.PropAuthenticationMethod, packets.PropAuthenticationData:
		r.skip(r.uint16())
	case packets.PropUser:
		r.skip(r.uint16())
		r.skip(r.uint16())
	default:
		r.short = true
	}
	return true
}

// subscriptions looks at the options of each filter [MQTT-3.8.3-5].
func (r *bodyReader) subscriptions() packets.Code {
	const reserved = 0xC0
	for len(r.b) > 0 {
		r.skip(r.uint16())
		if r.byte()&reserved != 0 || r.short {
			return packets.ErrMalformedPacket
		}
	}
	return packets.CodeSuccess
}
