package wire

import "encoding/binary"

// Property identifiers (MQTT 5, 2.2.2.2).
const (
	propPayloadFormat   = 1
	propMessageExpiry   = 2
	propContentType     = 3
	propResponseTopic   = 8
	propCorrelationData = 9
	propSubscriptionID  = 11
	propReasonString    = 31
	propTopicAlias      = 35
	propUser            = 38
)

// append writes p in the form of a PUBLISH packet's properties, without their length.
func (p *Properties) append(dst []byte) []byte {
	if p.HasPayloadFormat {
		dst = append(dst, propPayloadFormat, p.PayloadFormat)
	}
	if p.hasContentType() {
		dst = appendString(append(dst, propContentType), p.ContentType)
	}
	if p.hasResponseTopic() {
		dst = appendString(append(dst, propResponseTopic), p.ResponseTopic)
	}
	if p.Correlation != nil {
		dst = appendString(append(dst, propCorrelationData), p.Correlation)
	}
	for _, u := range p.User {
		dst = appendString(append(dst, propUser), u.Key)
		dst = appendString(dst, u.Value)
	}
	return dst
}

// size returns the number of bytes that append writes.
func (p *Properties) size() int {
	n := 0
	if p.HasPayloadFormat {
		n += 2
	}
	if p.hasContentType() {
		n += 3 + len(p.ContentType)
	}
	if p.hasResponseTopic() {
		n += 3 + len(p.ResponseTopic)
	}
	if p.Correlation != nil {
		n += 3 + len(p.Correlation)
	}
	for _, u := range p.User {
		n += 5 + len(u.Key) + len(u.Value)
	}
	return n
}

// appendString writes a UTF-8 string or binary data with its length before it (MQTT 5, 1.5.4 and 1.5.6).
func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// appendVarint writes a variable byte integer (MQTT 5, 1.5.5).
func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

// varintSize returns the number of bytes that appendVarint writes.
func varintSize(n int) int {
	size := 1
	for n >= 0x80 {
		n >>= 7
		size++
	}
	return size
}
