package broker

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/wire"
)

// propertySet is a set of property identifiers.
type propertySet uint64

func (s propertySet) has(id byte) bool { return s&(1<<id) != 0 }

// shown is what of a packet is not in what the decoder makes of it.
type shown struct {
	packet, will propertySet // properties, also those whose value is that of one that is not there
	filters      []byte      // of SUBSCRIBE and UNSUBSCRIBE; there can be hundreds of thousands, see [bodyReader.filter]
}

// check finds what is wrong with the body of a packet and what the decoder does not look at: bytes that are left,
// identifiers and reason codes of acknowledgements, topic filters; in MQTT 5 properties that come twice, that are
// cut off or have a value that they may not have (2.2.2). What is wrong with the rest of a packet is left to the
// decoder. It returns what the decoder does not.
func check(pk *packets.Packet, body []byte) (found shown, _ packets.Code) {
	b, code := bodyReader{b: body}, packets.CodeSuccess
	recent := pk.ProtocolVersion >= byte(wire.V5)
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return checkConnect(&b)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		code = b.acknowledgement(pk.FixedHeader.Type, recent)
	case packets.Disconnect:
		code = b.disconnect(recent)
	case packets.Publish:
		if !recent {
			return found, packets.CodeSuccess
		}
		b.skip(b.uint16())
		if pk.FixedHeader.Qos > 0 {
			b.skip(2)
		}
		code = b.properties()
	case packets.Subscribe, packets.Unsubscribe:
		b.skip(2)
		if recent {
			code = b.properties()
		}
		if code == packets.CodeSuccess {
			found.filters = b.b
			code = b.filters(pk.FixedHeader.Type == packets.Subscribe, recent)
		}
	}
	found.packet = b.seen
	return found, code
}

// checkConnect takes the packet apart to its end: there is nothing but what its flags say [MQTT-3.1.2-16], [MQTT-3.1.2-18].
func checkConnect(b *bodyReader) (found shown, code packets.Code) {
	const willFlag, passwordFlag, userFlag = 1 << 2, 1 << 6, 1 << 7
	b.skip(b.uint16())
	version, flags := wire.Version(b.byte()), b.byte()
	if version > wire.V5 || version < 3 {
		return found, packets.CodeSuccess // it is refused for that
	}
	b.skip(2) // keep-alive
	if version == wire.V5 {
		if code = b.properties(); code != packets.CodeSuccess {
			return found, code
		}
		found.packet = b.seen
	}
	b.skip(b.uint16()) // client identifier
	if flags&willFlag != 0 {
		if version == wire.V5 {
			if code = b.properties(); code != packets.CodeSuccess {
				return found, code
			}
			found.will = b.seen
		}
		b.skip(b.uint16())
		b.skip(b.uint16())
	}
	for _, flag := range []byte{userFlag, passwordFlag} {
		if flags&flag != 0 {
			b.skip(b.uint16())
		}
	}
	if b.short || len(b.b) > 0 {
		return found, packets.ErrMalformedPacket
	}
	return found, packets.CodeSuccess
}

// bodyReader takes a packet apart. What is not there reads as zero, and sets short.
type bodyReader struct {
	b     []byte
	short bool
	seen  propertySet // in the last list of properties
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

// varint reads a variable byte integer (MQTT 5, 1.5.5), of which every byte has to be needed [MQTT-1.5.5-1].
func (r *bodyReader) varint() int {
	n := 0
	for size := range maxLengthSize {
		b := r.byte()
		n |= int(b&0x7F) << (7 * size)
		if b >= 0x80 {
			continue
		}
		if isLongWinded(n, size+1) {
			break
		}
		return n
	}
	r.short = true
	return 0
}

// acknowledgement reads PUBACK, PUBREC, PUBREL or PUBCOMP, of MQTT 5 or of an older version. Reason and properties may be
// left out.
func (r *bodyReader) acknowledgement(typ byte, recent bool) packets.Code {
	id := r.uint16()
	switch {
	case r.short:
		return packets.ErrMalformedPacketID
	case id == 0: // nothing that is to be acknowledged has it [MQTT-2.2.1-4]
		return packets.ErrProtocolViolationNoPacketID
	case !recent:
		return r.end()
	}
	known := receivedReasons
	if typ == packets.Pubrel || typ == packets.Pubcomp {
		known = releasedReasons
	}
	return r.reason(known)
}

// disconnect reads a DISCONNECT packet.
func (r *bodyReader) disconnect(recent bool) packets.Code {
	if !recent {
		return r.end()
	}
	return r.reason(disconnectReasons)
}

// Reason codes that a client may send [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.14.2-1].
const (
	receivedReasons   = "\x00\x10\x80\x83\x87\x90\x91\x97\x99"
	releasedReasons   = "\x00\x92"
	disconnectReasons = "\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99"
)

// reason reads a reason code, which has to be known, and properties, and then the packet has to end. It may end before.
func (r *bodyReader) reason(known string) packets.Code {
	if len(r.b) == 0 {
		return packets.CodeSuccess
	}
	if strings.IndexByte(known, r.byte()) < 0 {
		return packets.ErrProtocolViolationInvalidReason
	}
	if len(r.b) == 0 {
		return packets.CodeSuccess
	}
	if code := r.properties(); code != packets.CodeSuccess {
		return code
	}
	return r.end()
}

// end reports whether nothing is left.
func (r *bodyReader) end() packets.Code {
	if len(r.b) > 0 {
		return packets.ErrMalformedPacket
	}
	return packets.CodeSuccess
}

// properties reads a list of properties with its length.
func (r *bodyReader) properties() packets.Code {
	list := bodyReader{b: r.take(r.varint())}
	r.seen = 0
	if r.short {
		return packets.ErrMalformedProperties
	}
	for len(list.b) > 0 {
		id := list.byte()
		valid := list.property(id)
		if list.short {
			return packets.ErrMalformedProperties
		}
		again := r.seen.has(id) && id != packets.PropUser && id != packets.PropSubscriptionIdentifier
		if again || !valid {
			return packets.ErrProtocolViolation
		}
		r.seen |= 1 << id
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

// Bits of the options of a filter (MQTT 5, 3.8.3.1). MQTT 3.1.1 has the QoS alone.
const (
	optionQoS       = 3
	optionNoLocal   = 1 << 2
	optionPublished = 1 << 3
	optionHandling  = 4 // the first of two bits
	optionReserved  = 0xC0
)

// filters looks at the filters of an UNSUBSCRIBE packet, or, with options, of a SUBSCRIBE packet.
func (r *bodyReader) filters(options, recent bool) packets.Code {
	for len(r.b) > 0 {
		filter, o := r.filter(options)
		if r.short || !utf8.Valid(filter) || bytes.IndexByte(filter, 0) >= 0 { // [MQTT-3.8.3-1], [MQTT-3.10.3-1]
			return packets.ErrMalformedPacket
		}
		if code := checkOptions(filter, o, recent); code != packets.CodeSuccess {
			return code
		}
	}
	if r.short {
		return packets.ErrMalformedPacket
	}
	return packets.CodeSuccess
}

// filter reads a filter and, with options, its options. It is a part of the body.
func (r *bodyReader) filter(options bool) (filter []byte, o byte) {
	filter = r.take(r.uint16())
	if options {
		o = r.byte()
	}
	return filter, o
}

// checkOptions finds what is wrong with the options of a filter.
func checkOptions(filter []byte, o byte, recent bool) packets.Code {
	switch {
	case recent && o&optionReserved != 0: // [MQTT-3.8.3-5]
		return packets.ErrMalformedPacket
	case o&optionQoS == optionQoS, !recent && o > 2: // [MQTT-3.8.3-4] of 3.1.1
		return packets.ErrProtocolViolationQosOutOfRange
	case o>>optionHandling == 3: // MQTT 5, 3.8.3.1
		return packets.ErrProtocolViolation
	case o&optionNoLocal != 0 && bytes.HasPrefix(filter, []byte("$share/")): // [MQTT-3.8.3-4]
		return packets.ErrProtocolViolationInvalidSharedNoLocal
	}
	return packets.CodeSuccess
}
