// Package wire encodes what the server writes: MQTT 3.1.1 and MQTT 5 packets, appended to the caller's
// buffer, so that everything that waits for a connection leaves in one write.
//
// A [Message] is encoded once: its properties, the only part that takes work, are bytes from the start and
// shared by all receivers. What differs from receiver to receiver (packet identifier, DUP, QoS, subscription
// identifiers, remaining expiry) is in [Publish] and is written around them by [AppendPublish].
//
// The functions have no state and check nothing: a caller that takes strings from elsewhere than from an
// MQTT packet calls [Message.Validate] first.
package wire

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Version is an MQTT protocol level. Everything below [V5] is written as MQTT 3.1.1.
type Version byte

// The protocol levels of the two supported versions [MQTT-3.1.2-2].
const (
	V311 Version = 4
	V5   Version = 5
)

// Limits of the protocol, in bytes.
const (
	MaxString     = 65535       // of a UTF-8 string or of binary data (MQTT 5, 1.5.4)
	MaxRemaining  = 268_435_455 // of the remaining length of a packet (MQTT 5, 1.5.5)
	MaxIdentifier = 268_435_455 // of a subscription identifier (MQTT 5, 3.8.2.1.2)
)

// Message is an application message on its way to its subscribers. It is immutable once [NewMessage] has
// returned it and is shared by everything that holds it: sessions, the retained store, writers.
type Message struct {
	Topic      string
	Payload    []byte
	QoS        byte        // as published
	Retain     bool        // as published
	Properties *Properties // nil for none
	Publisher  string      // client id of the publisher, "" when it is not a client
	Expires    int64       // ms since the Unix epoch when it expires, 0 for never
	Fleeting   bool        // its expiry interval is 0: only who is connected gets it, and at the latest at Expires
	Sequence   uint64      // place in the order of all messages, given by the router

	encoded []byte // Properties as written in a PUBLISH packet, without length
}

// Properties are the properties of a message that a server hands on unaltered [MQTT-3.3.2-4],
// [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-20].
type Properties struct {
	PayloadFormat    byte // 0 bytes, 1 UTF-8
	HasPayloadFormat bool
	ContentType      string // "" for none, unless HasContentType
	HasContentType   bool
	ResponseTopic    string // "" for none, unless HasResponseTopic
	HasResponseTopic bool
	Correlation      []byte         // nil for none
	User             []UserProperty // in order, names may repeat [MQTT-3.3.2-18]
}

// hasContentType and hasResponseTopic report whether there is one, be it empty.
func (p *Properties) hasContentType() bool   { return p.HasContentType || p.ContentType != "" }
func (p *Properties) hasResponseTopic() bool { return p.HasResponseTopic || p.ResponseTopic != "" }

// UserProperty is a pair of strings with a meaning of its publisher's own.
type UserProperty struct {
	Key, Value string
}

// NewMessage returns m ready to be sent. It keeps Payload and Properties and does not copy them: neither
// they nor the string data of m may change or live in a buffer that is used again.
func NewMessage(m Message) *Message {
	if m.Properties != nil {
		m.encoded = m.Properties.append(make([]byte, 0, m.Properties.size()))
	}
	return &m
}

// Size returns the bytes of m's content, the measure of memory limits.
func (m *Message) Size() int {
	return len(m.Topic) + len(m.Payload) + len(m.Publisher) + 2*len(m.encoded)
}

// Expired reports whether m's expiry interval has passed at now (ms since the Unix epoch).
func (m *Message) Expired(now int64) bool {
	return m.Expires != 0 && now >= m.Expires
}

// errString is what is wrong with a string that MQTT cannot carry.
var errString = errors.New("not a UTF-8 string of at most 65535 bytes without U+0000")

// Validate reports what the protocol cannot carry: a QoS above 2, a payload format above 1, and strings that
// are too long, not UTF-8, or contain U+0000 ([MQTT-1.5.4-1], [MQTT-1.5.4-2]). It does not look for wildcards
// in topics: see package topic.
func (m *Message) Validate() error {
	if m.QoS > 2 {
		return fmt.Errorf("wire: QoS %d", m.QoS)
	}
	if !validString(m.Topic) {
		return fmt.Errorf("wire: topic: %w", errString)
	}
	if m.Properties == nil {
		return nil
	}
	return m.Properties.validate()
}

func (p *Properties) validate() error {
	switch {
	case p.PayloadFormat > 1:
		return fmt.Errorf("wire: payload format %d", p.PayloadFormat)
	case !validString(p.ContentType):
		return fmt.Errorf("wire: content type: %w", errString)
	case !validString(p.ResponseTopic):
		return fmt.Errorf("wire: response topic: %w", errString)
	case len(p.Correlation) > MaxString:
		return fmt.Errorf("wire: correlation data of %d bytes", len(p.Correlation))
	}
	for _, u := range p.User {
		if !validString(u.Key) || !validString(u.Value) {
			return fmt.Errorf("wire: user property: %w", errString)
		}
	}
	return nil
}

func validString(s string) bool {
	return len(s) <= MaxString && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}
