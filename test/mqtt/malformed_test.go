package mqtt_test

import (
	"testing"

	"github.com/umbra-iot/umbra/broker"
)

// TestMalformedPackets sends packets that break a rule. The connection ends, a
// client of MQTT 5 is told why, and no other client notices.
func TestMalformedPackets(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for _, tt := range []struct {
		name        string
		old, recent string // the packet in MQTT 3.1.1 and in MQTT 5, "" for what there is not
		code        byte
	}{
		{"type 0", "\x00\x00", "\x00\x00", 0x81},
		{"CONNACK", "\x20\x02\x00\x00", "\x20\x03\x00\x00\x00", 0x82},
		{"SUBACK", "\x90\x03\x00\x01\x00", "\x90\x04\x00\x01\x00\x00", 0x82},
		{"UNSUBACK", "\xB0\x02\x00\x01", "\xB0\x04\x00\x01\x00\x00", 0x82},
		{"PINGRESP", "\xD0\x00", "\xD0\x00", 0x82},
		{"AUTH", "\xF0\x00", "\xF0\x02\x00\x00", 0x82},
		{"AUTH that is empty", "", "\xF0\x00", 0x82},
		{"remaining length of five bytes", "\xC0\xFF\xFF\xFF\xFF\x01", "\xC0\xFF\xFF\xFF\xFF\x01", 0x81},
		{"remaining length without an end", "\xC0\x80\x80\x80\x80\x00", "\xC0\x80\x80\x80\x80\x00", 0x81},
		{"remaining length longer than need be", "", "\xC0\x80\x00", 0x81},
		{"remaining length of PUBLISH longer than need be", "", "\x30\x85\x80\x00\x00\x01a\x00x", 0x81},
		{"a packet of 256 MiB", "\x30\xFF\xFF\xFF\x7F", "\x30\xFF\xFF\xFF\x7F", 0x95},

		{"flags of PINGREQ", "\xC1\x00", "\xC1\x00", 0x81},
		{"PINGREQ that is not empty", "\xC0\x01\x00", "\xC0\x01\x00", 0x81},
		{"flags of CONNECT", "\x11\x00", "\x11\x00", 0x81},
		{"flags of PUBACK", "\x42\x02\x00\x01", "\x42\x02\x00\x01", 0x81},
		{"flags of PUBREL", "\x60\x02\x00\x01", "\x60\x02\x00\x01", 0x81},
		{"flags of PUBREC", "\x52\x02\x00\x01", "\x52\x02\x00\x01", 0x81},
		{"flags of PUBCOMP", "\x72\x02\x00\x01", "\x72\x02\x00\x01", 0x81},
		{"flags of SUBSCRIBE", "\x80\x06\x00\x01\x00\x01a\x00", "\x80\x07\x00\x01\x00\x00\x01a\x00", 0x81},
		{"flags of UNSUBSCRIBE", "\xA0\x05\x00\x01\x00\x01a", "\xA0\x06\x00\x01\x00\x00\x01a", 0x81},
		{"flags of DISCONNECT", "\xE1\x00", "\xE1\x00", 0x81},
		{"flags of AUTH", "\xF1\x00", "\xF1\x00", 0x81},
		{"DISCONNECT with an unknown reason", "", "\xE0\x01\x01", 0x82},
		{"DISCONNECT with a reason of the server", "", "\xE0\x02\x8B\x00", 0x82},
		{"DISCONNECT with a session expiry that CONNECT had not", "", "\xE0\x07\x00\x05\x11\x00\x00\x00\x01", 0x82},
		{"DISCONNECT with a property twice", "", "\xE0\x0A\x00\x08\x1F\x00\x01a\x1F\x00\x01a", 0x82},
		{"DISCONNECT with a property of the server", "", "\xE0\x06\x00\x04\x1C\x00\x01a", 0x81},
		{"DISCONNECT with a byte too many", "\xE0\x01\x00", "\xE0\x03\x00\x00\x00", 0x81},

		{"PUBLISH with QoS 3", "\x36\x05\x00\x01a\x00\x01", "\x36\x06\x00\x01a\x00\x01\x00", 0x81},
		{"PUBLISH with QoS 0 and DUP", "\x38\x03\x00\x01a", "\x38\x04\x00\x01a\x00", 0x82},
		{"PUBLISH with packet identifier 0", "\x32\x05\x00\x01a\x00\x00", "\x32\x06\x00\x01a\x00\x00\x00", 0x82},
		{"PUBLISH without a packet identifier", "\x32\x03\x00\x01a", "\x32\x03\x00\x01a", 0x81},
		{"PUBLISH without a topic", "\x30\x02\x00\x00", "\x30\x03\x00\x00\x00", 0x82},
		{"PUBLISH to a wildcard", "\x30\x03\x00\x01#", "\x30\x04\x00\x01#\x00", 0x82},
		{"PUBLISH to a topic with U+0000", "\x30\x03\x00\x01\x00", "\x30\x04\x00\x01\x00\x00", 0x81},
		{"PUBLISH to a topic with a surrogate", "\x30\x05\x00\x03\xED\xA0\x80", "\x30\x06\x00\x03\xED\xA0\x80\x00", 0x81},
		{"PUBLISH with a topic longer than the packet", "\x30\x03\x00\x09a", "\x30\x04\x00\x09a\x00", 0x81},
		{"PUBLISH with a subscription identifier", "", "\x30\x06\x00\x01a\x02\x0B\x01", 0x82},
		{"PUBLISH with a property of CONNECT", "", "\x30\x09\x00\x01a\x05\x11\x00\x00\x00\x01", 0x81},
		{"PUBLISH with a response topic that is a wildcard", "", "\x30\x08\x00\x01a\x04\x08\x00\x01+", 0x82},
		{"PUBLISH with an unknown property", "", "\x30\x06\x00\x01a\x02\x7F\x01", 0x81},
		{"PUBLISH with properties longer than the packet", "", "\x30\x05\x00\x01a\x09\x01", 0x81},
		{"PUBLISH with a user property that is not UTF-8", "", "\x30\x0A\x00\x01a\x06\x26\x00\x01\xFF\x00\x00", 0x81},
		{"PUBLISH with a property twice", "", "\x30\x0E\x00\x01a\x0A\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01", 0x82},
		{"PUBLISH with a length of properties longer than need be", "", "\x30\x05\x00\x01a\x80\x00", 0x81},
		{"PUBLISH with topic alias 0", "", "\x30\x07\x00\x01a\x03\x23\x00\x00", 0x94},
		{"PUBLISH with topic alias 17", "", "\x30\x07\x00\x01a\x03\x23\x00\x11", 0x94},
		{"PUBLISH with an unknown topic alias", "", "\x30\x06\x00\x00\x03\x23\x00\x01", 0x82},
		{"PUBLISH with a content type with U+0000", "", "\x30\x08\x00\x01a\x04\x03\x00\x01\x00", 0x81},
		{"PUBLISH with a content type that is not UTF-8", "", "\x30\x08\x00\x01a\x04\x03\x00\x01\xFF", 0x81},
		{"PUBLISH with a response topic that is not UTF-8", "", "\x30\x08\x00\x01a\x04\x08\x00\x01\xFF", 0x81},
		{"PUBLISH with payload format 2", "", "\x30\x06\x00\x01a\x02\x01\x02", 0x82},
		{"PUBLISH with a property longer than the properties", "", "\x30\x09\x00\x01a\x02\x02\x00\x00\x00\x01", 0x81},
		{"PUBACK without a packet identifier", "\x40\x00", "\x40\x00", 0x81},
		{"PUBACK of packet identifier 0", "\x40\x02\x00\x00", "\x40\x02\x00\x00", 0x82},
		{"PUBREC of packet identifier 0", "\x50\x02\x00\x00", "\x50\x02\x00\x00", 0x82},
		{"PUBREL of packet identifier 0", "\x62\x02\x00\x00", "\x62\x02\x00\x00", 0x82},
		{"PUBCOMP of packet identifier 0", "\x70\x02\x00\x00", "\x70\x02\x00\x00", 0x82},
		{"PUBACK with an unknown reason", "", "\x40\x03\x00\x01\x01", 0x82},
		{"PUBREC with a reason of DISCONNECT", "", "\x50\x04\x00\x01\x8E\x00", 0x82},
		{"PUBREL with a reason of PUBACK", "", "\x62\x03\x00\x01\x10", 0x82},
		{"PUBCOMP with a reason of PUBACK", "", "\x70\x03\x00\x01\x80", 0x82},
		{"PUBACK with a byte too many", "\x40\x03\x00\x01\x00", "\x40\x05\x00\x01\x00\x00\x00", 0x81},
		{"PUBACK with a property of PUBLISH", "", "\x40\x07\x00\x01\x00\x03\x23\x00\x01", 0x81},
		{"PUBACK with a property twice", "", "\x40\x0C\x00\x01\x00\x08\x1F\x00\x01a\x1F\x00\x01a", 0x82},
		{"PUBREL without a packet identifier", "\x62\x01\x00", "\x62\x01\x00", 0x81},

		{"SUBSCRIBE without a filter", "\x82\x02\x00\x01", "\x82\x03\x00\x01\x00", 0x82},
		{"SUBSCRIBE with packet identifier 0", "\x82\x06\x00\x00\x00\x01a\x00", "\x82\x07\x00\x00\x00\x00\x01a\x00", 0x82},
		{"SUBSCRIBE with QoS 3", "\x82\x06\x00\x01\x00\x01a\x03", "\x82\x07\x00\x01\x00\x00\x01a\x03", 0x82},
		{"SUBSCRIBE with reserved bits", "\x82\x06\x00\x01\x00\x01a\x04", "", 0},
		{"SUBSCRIBE with the highest reserved bit", "\x82\x06\x00\x01\x00\x01a\x80", "\x82\x07\x00\x01\x00\x00\x01a\x81", 0x81},
		{"SUBSCRIBE without options", "\x82\x05\x00\x01\x00\x01a", "\x82\x06\x00\x01\x00\x00\x01a", 0x81},
		{"SUBSCRIBE with a filter that is not UTF-8", "\x82\x06\x00\x01\x00\x01\xFF\x00", "\x82\x07\x00\x01\x00\x00\x01\xFF\x00", 0x81},
		{"SUBSCRIBE with Retain Handling 3", "", "\x82\x07\x00\x01\x00\x00\x01a\x30", 0x82},
		{"SUBSCRIBE to a shared one with No Local", "", "\x82\x10\x00\x01\x00\x00\x0A$share/g/a\x04", 0x82},
		{"SUBSCRIBE with subscription identifier 0", "", "\x82\x09\x00\x01\x02\x0B\x00\x00\x01a\x00", 0x82},
		{"SUBSCRIBE with a subscription identifier longer than need be", "", "\x82\x0A\x00\x01\x03\x0B\x81\x00\x00\x01a\x00", 0x81},
		{"SUBSCRIBE with a property of PUBLISH", "", "\x82\x0A\x00\x01\x03\x23\x00\x01\x00\x01a\x00", 0x81},
		{"SUBSCRIBE with two subscription identifiers", "", "\x82\x0B\x00\x01\x04\x0B\x01\x0B\x02\x00\x01a\x00", 0x82},
		{"UNSUBSCRIBE with a property of SUBSCRIBE", "", "\xA2\x08\x00\x01\x02\x0B\x01\x00\x01a", 0x81},
		{"UNSUBSCRIBE without a filter", "\xA2\x02\x00\x01", "\xA2\x03\x00\x01\x00", 0x82},
		{"UNSUBSCRIBE with packet identifier 0", "\xA2\x05\x00\x00\x00\x01a", "\xA2\x06\x00\x00\x00\x00\x01a", 0x82},
		{"UNSUBSCRIBE with a filter that is not UTF-8", "\xA2\x05\x00\x01\x00\x01\xFF", "\xA2\x06\x00\x01\x00\x00\x01\xFF", 0x81},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for version, packet := range map[byte]string{v311: tt.old, v5: tt.recent} {
				if packet == "" {
					continue
				}
				c := s.connect(t, version, "")
				c.write([]byte(packet))
				c.wantEnd(tt.code)
			}
		})
	}
}
