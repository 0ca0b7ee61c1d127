package wire

import (
	"encoding/binary"
	"errors"
	"strings"
)

// errRecord is the cause of errors about records that [AppendRecord] cannot have written.
var errRecord = errors.New("wire: damaged record of a message")

// recordFormat is the version of the format of records, their first byte.
const recordFormat = 1

// Flags of records, beside the QoS in the lowest two bits.
const (
	recordRetain   = 1 << 2
	recordFleeting = 1 << 3
	recordFlags    = 3 | recordRetain | recordFleeting
)

// AppendRecord appends the stored form of m, for [ParseRecord]: all of it but Sequence. The record has no end of its
// own.
func AppendRecord(dst []byte, m *Message) []byte {
	flags := m.QoS
	if m.Retain {
		flags |= recordRetain
	}
	if m.Fleeting {
		flags |= recordFleeting
	}
	dst = append(dst, recordFormat, flags)
	dst = binary.AppendUvarint(dst, uint64(m.Expires))
	dst = appendBytes(dst, m.Publisher)
	dst = appendBytes(dst, m.Topic)
	dst = appendBytes(dst, m.encoded)
	return append(dst, m.Payload...)
}

// ParseRecord returns the message of a record. It keeps nothing of record.
func ParseRecord(record []byte) (*Message, error) {
	if len(record) < 2 || record[0] != recordFormat || record[1] > recordFlags {
		return nil, errRecord
	}
	m := &Message{QoS: record[1] & 3, Retain: record[1]&recordRetain != 0, Fleeting: record[1]&recordFleeting != 0}
	expires, n := binary.Uvarint(record[2:])
	if n <= 0 {
		return nil, errRecord
	}
	m.Expires = int64(expires)
	rest := record[2+n:]
	var fields [3][]byte
	for i := range fields {
		length, n := binary.Uvarint(rest)
		if n <= 0 || length > uint64(len(rest)-n) {
			return nil, errRecord
		}
		end := n + int(length)
		fields[i], rest = rest[n:end], rest[end:]
	}
	m.Publisher, m.Topic = string(fields[0]), string(fields[1])
	if len(fields[2]) > 0 {
		m.encoded = append([]byte(nil), fields[2]...)
		p := &propertyReader{left: string(fields[2])}
		m.Properties = p.read()
		if p.failed {
			return nil, errRecord
		}
	}
	m.Payload = append([]byte{}, rest...)
	return m, nil
}

func appendBytes[S string | []byte](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// propertyReader reads what [Properties.append] wrote.
type propertyReader struct {
	left   string
	failed bool
}

func (r *propertyReader) read() *Properties {
	p := &Properties{}
	for r.left != "" && !r.failed {
		switch r.byte() {
		case propPayloadFormat:
			p.PayloadFormat, p.HasPayloadFormat = r.byte(), true
		case propContentType:
			p.ContentType, p.HasContentType = r.text(), true
		case propResponseTopic:
			p.ResponseTopic, p.HasResponseTopic = r.text(), true
		case propCorrelationData:
			p.Correlation = []byte(r.text())
		case propUser:
			p.User = append(p.User, UserProperty{Key: r.text(), Value: r.text()})
		default:
			r.failed = true
		}
	}
	return p
}

// take returns the next n bytes.
func (r *propertyReader) take(n int) string {
	if n > len(r.left) {
		r.left, r.failed = "", true
		return ""
	}
	var s string
	s, r.left = r.left[:n], r.left[n:]
	return s
}

func (r *propertyReader) byte() byte {
	if s := r.take(1); s != "" {
		return s[0]
	}
	return 0
}

// text returns a string with its length before it.
func (r *propertyReader) text() string {
	length := r.take(2)
	if r.failed {
		return ""
	}
	return strings.Clone(r.take(int(length[0])<<8 | int(length[1])))
}
