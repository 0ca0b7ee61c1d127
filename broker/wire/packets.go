package wire

import "encoding/binary"

// Types of the packets that the server writes (MQTT 5, 2.1.2).
const (
	packetPublish    = 3
	packetPuback     = 4
	packetPubrec     = 5
	packetPubrel     = 6
	packetPubcomp    = 7
	packetSuback     = 9
	packetUnsuback   = 11
	packetPingresp   = 13
	packetDisconnect = 14
)

// ReasonFailure is the first reason code that says that something failed; MQTT 3.1.1 knows only this one,
// in SUBACK.
const ReasonFailure = 0x80

// Ack is the content of PUBACK, PUBREC, PUBREL and PUBCOMP.
type Ack struct {
	ID     uint16
	Reason byte // reason code; not sent to MQTT 3.1.1
	// ReasonString is for people; not sent to MQTT 3.1.1. Leave it empty for a client that asked for no
	// problem information [MQTT-3.1.2-29], or when the packet would be too large for it [MQTT-3.4.2-2].
	ReasonString string
}

// AppendPuback appends a PUBACK packet.
func AppendPuback(dst []byte, v Version, a Ack) []byte {
	return appendAck(dst, packetPuback<<4, v, a)
}

// AppendPubrec appends a PUBREC packet.
func AppendPubrec(dst []byte, v Version, a Ack) []byte {
	return appendAck(dst, packetPubrec<<4, v, a)
}

// AppendPubrel appends a PUBREL packet, whose fixed header has the flags 0010 [MQTT-3.6.1-1].
func AppendPubrel(dst []byte, v Version, a Ack) []byte {
	return appendAck(dst, packetPubrel<<4|2, v, a)
}

// AppendPubcomp appends a PUBCOMP packet.
func AppendPubcomp(dst []byte, v Version, a Ack) []byte {
	return appendAck(dst, packetPubcomp<<4, v, a)
}

// appendAck writes the shortest form: reason code 0 and an empty property list are left out (MQTT 5, 3.4.2.1).
func appendAck(dst []byte, header byte, v Version, a Ack) []byte {
	switch {
	case v < V5 || a.Reason == 0 && a.ReasonString == "":
		dst = append(dst, header, 2)
		return binary.BigEndian.AppendUint16(dst, a.ID)
	case a.ReasonString == "":
		dst = append(dst, header, 3)
		dst = binary.BigEndian.AppendUint16(dst, a.ID)
		return append(dst, a.Reason)
	}
	dst = append(dst, header)
	dst = appendVarint(dst, 3+reasonSize(a.ReasonString))
	dst = binary.BigEndian.AppendUint16(dst, a.ID)
	dst = append(dst, a.Reason)
	return appendReason(dst, a.ReasonString)
}

// SubAck is the content of SUBACK and UNSUBACK.
type SubAck struct {
	ID           uint16
	Reasons      []byte // one code for each filter of the request, in its order [MQTT-3.8.4-6], [MQTT-3.11.3-1]
	ReasonString string // see [Ack]
}

// AppendSuback appends a SUBACK packet. For MQTT 3.1.1 every failure becomes 0x80 (MQTT 3.1.1, 3.9.3).
func AppendSuback(dst []byte, v Version, a SubAck) []byte {
	dst = appendSubAckHeader(dst, packetSuback<<4, v, a)
	if v >= V5 {
		return append(dst, a.Reasons...)
	}
	for _, r := range a.Reasons {
		dst = append(dst, min(r, ReasonFailure))
	}
	return dst
}

// AppendUnsuback appends an UNSUBACK packet. In MQTT 3.1.1 it has no reason codes.
func AppendUnsuback(dst []byte, v Version, a SubAck) []byte {
	if v < V5 {
		a.Reasons = nil
	}
	dst = appendSubAckHeader(dst, packetUnsuback<<4, v, a)
	return append(dst, a.Reasons...)
}

// SubAckSize returns the length of a SUBACK or UNSUBACK packet of MQTT 5 with so many reason codes and no reason string.
func SubAckSize(reasons int) int {
	remaining := 2 + 1 + reasons
	return 1 + varintSize(remaining) + remaining
}

func appendSubAckHeader(dst []byte, header byte, v Version, a SubAck) []byte {
	remaining := 2 + len(a.Reasons)
	if v >= V5 {
		remaining += reasonSize(a.ReasonString)
	}
	dst = appendVarint(append(dst, header), remaining)
	dst = binary.BigEndian.AppendUint16(dst, a.ID)
	if v >= V5 {
		dst = appendReason(dst, a.ReasonString)
	}
	return dst
}

// AppendDisconnect appends a DISCONNECT packet. Only MQTT 5 lets a server send one. The empty property list
// could be left out, but there are clients that do not see the reason code then.
func AppendDisconnect(dst []byte, reason byte, reasonString string) []byte {
	dst = append(dst, packetDisconnect<<4)
	dst = appendVarint(dst, 1+reasonSize(reasonString))
	dst = append(dst, reason)
	return appendReason(dst, reasonString)
}

// AppendPingresp appends a PINGRESP packet.
func AppendPingresp(dst []byte) []byte {
	return append(dst, packetPingresp<<4, 0)
}

// appendReason writes a property list of nothing but a reason string, or an empty one.
func appendReason(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, 0)
	}
	s = s[:min(len(s), MaxString)]
	dst = appendVarint(dst, 3+len(s))
	return appendString(append(dst, propReasonString), s)
}

// reasonSize returns the number of bytes that appendReason writes.
func reasonSize(s string) int {
	if s == "" {
		return 1
	}
	n := 3 + min(len(s), MaxString)
	return varintSize(n) + n
}
