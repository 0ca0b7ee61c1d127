// Package mqtttest is a small MQTT client for black-box tests and benchmarks.
//
// It speaks 3.1.1 and 5 with a codec of its own, so that a mistake of the
// server's codec is not repeated by the test, and it shows what a comfortable
// client hides: each acknowledgement with its reason code and reason string,
// and the end of a connection. It can also send bytes that are not MQTT.
package mqtttest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Protocol levels.
const (
	V311 byte = 4
	V5   byte = 5
)

// Control packet types.
const (
	TypeConnect    byte = 1
	TypeConnack    byte = 2
	TypePublish    byte = 3
	TypePuback     byte = 4
	TypePubrec     byte = 5
	TypePubrel     byte = 6
	TypePubcomp    byte = 7
	TypeSubscribe  byte = 8
	TypeSuback     byte = 9
	TypePingresp   byte = 13
	TypeDisconnect byte = 14
)

// Property identifiers of MQTT 5 that the codec knows.
const (
	propResponseTopic = 0x08
	propCorrelation   = 0x09
	propSessionExpiry = 0x11
	propWillDelay     = 0x18
	propReasonString  = 0x1F
)

// maxPacket bounds what ReadPacket accepts, in bytes.
const maxPacket = 64 << 20

// errMalformed is what the server sent but must not have.
var errMalformed = errors.New("mqtttest: malformed packet")

// Packet is a control packet as it came from the wire.
type Packet struct {
	Head byte   // type and flags
	Body []byte // what follows the remaining length
}

// Type returns the control packet type.
func (p Packet) Type() byte { return p.Head >> 4 }

// ReadPacket reads the next packet. Its body is kept in buf when that is large
// enough.
func ReadPacket(r *bufio.Reader, buf []byte) (Packet, error) {
	head, err := r.ReadByte()
	if err != nil {
		return Packet{}, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return Packet{}, err
	}
	if n > maxPacket {
		return Packet{}, errMalformed
	}
	if uint64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	body := buf[:n]
	if _, err := io.ReadFull(r, body); err != nil {
		return Packet{}, err
	}
	return Packet{Head: head, Body: body}, nil
}

// Message is an application message.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Dup     bool

	ResponseTopic string // MQTT 5
	Correlation   []byte // MQTT 5
}

// Ack is the server's answer to a publish or a subscription: the reason code
// and reason string of MQTT 5, for 3.1.1 the zero value (or 0x80 of a refused
// subscription).
type Ack struct {
	Code   byte
	Reason string
}

// AppendConnect appends a CONNECT packet.
func AppendConnect(dst []byte, o Options) []byte {
	flags := byte(0x02)
	if o.Keep {
		flags = 0
	}
	b := appendString(nil, "MQTT")
	if w := o.Will; w != nil {
		flags |= 0x04 | w.QoS<<3
		if w.Retain {
			flags |= 0x20
		}
	}
	if o.Username != "" {
		flags |= 0x80
	}
	if o.Password != "" {
		flags |= 0x40
	}
	b = append(b, o.version(), flags)
	b = binary.BigEndian.AppendUint16(b, uint16(o.KeepAlive.Seconds()))
	if o.version() == V5 {
		b = o.appendConnectProperties(b)
	}
	b = appendString(b, o.ClientID)
	if w := o.Will; w != nil {
		if o.version() == V5 {
			b = append(b, 5, propWillDelay)
			b = binary.BigEndian.AppendUint32(b, uint32(o.WillDelay.Seconds()))
		}
		b = appendString(b, w.Topic)
		b = appendString(b, string(w.Payload))
	}
	if o.Username != "" {
		b = appendString(b, o.Username)
	}
	if o.Password != "" {
		b = appendString(b, o.Password)
	}
	return appendPacket(dst, TypeConnect<<4, b)
}

func (o Options) appendConnectProperties(b []byte) []byte {
	if !o.Keep {
		return append(b, 0)
	}
	b = append(b, 5, propSessionExpiry)
	return binary.BigEndian.AppendUint32(b, 3600)
}

// AppendSubscribe appends a SUBSCRIBE packet that asks for QoS 1.
func AppendSubscribe(dst []byte, version byte, id uint16, filters ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	if version == V5 {
		b = append(b, 0)
	}
	for _, f := range filters {
		b = append(appendString(b, f), 1)
	}
	return appendPacket(dst, TypeSubscribe<<4|2, b)
}

// AppendPublish appends a PUBLISH packet; id is used when m.QoS is not 0.
func AppendPublish(dst []byte, version byte, id uint16, m Message) []byte {
	head := TypePublish<<4 | m.QoS<<1
	if m.Retain {
		head |= 1
	}
	if m.Dup {
		head |= 8
	}
	var props []byte
	if version == V5 {
		props = m.appendProperties(nil)
	}
	n := 2 + len(m.Topic) + len(props) + len(m.Payload)
	if m.QoS > 0 {
		n += 2
	}
	dst = append(dst, head)
	dst = binary.AppendUvarint(dst, uint64(n))
	dst = appendString(dst, m.Topic)
	if m.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	dst = append(dst, props...)
	return append(dst, m.Payload...)
}

// appendProperties appends the property length and the properties.
func (m Message) appendProperties(dst []byte) []byte {
	var b []byte
	if m.ResponseTopic != "" {
		b = appendString(append(b, propResponseTopic), m.ResponseTopic)
	}
	if m.Correlation != nil {
		b = appendString(append(b, propCorrelation), string(m.Correlation))
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP without reason code,
// which is the same in both versions.
func AppendAck(dst []byte, typ byte, id uint16) []byte {
	head := typ << 4
	if typ == TypePubrel {
		head |= 2
	}
	return append(dst, head, 2, byte(id>>8), byte(id))
}

// ParsePublish parses a PUBLISH. The payload of m shares memory with p.
func ParsePublish(version byte, p Packet) (m Message, id uint16, err error) {
	m.QoS, m.Retain, m.Dup = p.Head>>1&3, p.Head&1 != 0, p.Head&8 != 0
	s := scanner{b: p.Body}
	m.Topic = s.str()
	if m.QoS > 0 {
		id = s.u16()
	}
	if version == V5 {
		s.properties(func(prop byte, v string) {
			switch prop {
			case propResponseTopic:
				m.ResponseTopic = v
			case propCorrelation:
				m.Correlation = []byte(v)
			}
		})
	}
	m.Payload = s.b
	return m, id, s.err
}

// parseAck parses PUBACK, PUBREC and PUBCOMP.
func parseAck(version byte, p Packet) (a Ack, id uint16, err error) {
	s := scanner{b: p.Body}
	id = s.u16()
	if version == V5 && len(s.b) > 0 {
		a.Code = s.u8()
		a.Reason = s.reason()
	}
	return a, id, s.err
}

// parseSuback returns an error that names the first refused filter.
func parseSuback(version byte, p Packet) (a Ack, id uint16, err error) {
	s := scanner{b: p.Body}
	id = s.u16()
	if version == V5 {
		a.Reason = s.reason()
	}
	for _, code := range s.b {
		if code >= 0x80 {
			a.Code = code
		}
	}
	return a, id, s.err
}

// parseConnack returns the code and whether a session was present.
func parseConnack(version byte, p Packet) (present bool, a Ack, err error) {
	s := scanner{b: p.Body}
	present = s.u8()&1 != 0
	a.Code = s.u8()
	if version == V5 {
		a.Reason = s.reason()
	}
	return present, a, s.err
}

// parseDisconnect parses the DISCONNECT of a server.
func parseDisconnect(p Packet) Ack {
	s := scanner{b: p.Body}
	if len(s.b) == 0 {
		return Ack{}
	}
	a := Ack{Code: s.u8()}
	if len(s.b) > 0 {
		a.Reason = s.reason()
	}
	return a
}

func appendPacket(dst []byte, head byte, body []byte) []byte {
	dst = append(dst, head)
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	return append(dst, body...)
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// scanner takes fields from the front of b and remembers that one was missing.
type scanner struct {
	b   []byte
	err error
}

func (s *scanner) take(n int) []byte {
	if s.err != nil || len(s.b) < n {
		s.b, s.err = nil, errMalformed
		return make([]byte, min(n, 4))
	}
	v := s.b[:n]
	s.b = s.b[n:]
	return v
}

func (s *scanner) u8() byte { return s.take(1)[0] }

func (s *scanner) u16() uint16 { return binary.BigEndian.Uint16(s.take(2)) }

func (s *scanner) str() string {
	n := int(s.u16())
	if s.err != nil {
		return ""
	}
	return string(s.take(n))
}

func (s *scanner) varint() int {
	n, size := binary.Uvarint(s.b)
	if size <= 0 || n > maxPacket {
		s.b, s.err = nil, errMalformed
		return 0
	}
	s.b = s.b[size:]
	return int(n)
}

// reason returns the reason string of a property list.
func (s *scanner) reason() (text string) {
	s.properties(func(prop byte, v string) {
		if prop == propReasonString {
			text = v
		}
	})
	return text
}

// properties calls fn for each property; v is the value of strings and binary
// data, the raw bytes of numbers.
func (s *scanner) properties(fn func(prop byte, v string)) {
	n := s.varint()
	if s.err != nil {
		return
	}
	p := scanner{b: s.take(n)}
	for len(p.b) > 0 && p.err == nil && s.err == nil {
		prop := p.u8()
		v, err := p.property(prop)
		if err != nil {
			s.err = err
			return
		}
		fn(prop, v)
	}
	if p.err != nil {
		s.err = p.err
	}
}

// property reads one value, by the types of [MQTT5 table 2-4].
func (s *scanner) property(prop byte) (string, error) {
	switch prop {
	case 0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A:
		return string(s.take(1)), nil
	case 0x13, 0x21, 0x22, 0x23:
		return string(s.take(2)), nil
	case 0x02, 0x11, 0x18, 0x27:
		return string(s.take(4)), nil
	case 0x0B:
		s.varint()
		return "", nil
	case 0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F:
		return s.str(), nil
	case 0x26:
		k := s.str()
		return k + "=" + s.str(), nil
	default:
		return "", fmt.Errorf("%w: property %#x", errMalformed, prop)
	}
}
