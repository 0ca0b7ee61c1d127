package mqtt_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
)

func TestBasicExchange(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		topic := t.Name()
		s.connect(t, version, topic).leave()
		c := s.connect(t, version, topic)
		if c.connack.SessionPresent {
			t.Error("Session Present = 1, want 0")
		}
		c.subscribe(2, topic)
		for qos := range byte(3) {
			c.publish(topic, "x", qos)
			if got := c.receive(); got.FixedHeader.Qos != qos || string(got.Payload) != "x" || got.TopicName != topic {
				t.Errorf("message %q on %q with QoS %d, want QoS %d", got.Payload, got.TopicName, got.FixedHeader.Qos, qos)
			}
		}
		c.wantNone()
	})
}

func TestSecondConnectEndsTheConnection(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name())
		c.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Connect},
			Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "x", Clean: true},
		})
		c.wantEnd(0x82)
	})
}

// TestFirstPacketHasToBeConnect begins with other packets, of which nothing but the type is read.
func TestFirstPacketHasToBeConnect(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{ConnectTimeout: time.Hour}})
	for _, packet := range []string{
		"\x30\x03\x00\x01a", "\x40\x02\x00\x01", "\x62\x02\x00\x01", "\x82\x06\x00\x01\x00\x01a\x00", "\xA2\x05\x00\x01\x00\x01a", "\xC0\x00",
		"\xE0\x00", "\xF0\x00", "\x20\x02\x00\x00", "\x00\x00", "\x82", "\x82\xFF\x7F", "\x30\xFF",
	} {
		inBoth(t, func(t *testing.T, version byte) {
			c := s.dial(t, version)
			c.write([]byte(packet))
			c.wantEnd(0)
		})
	}
}

// TestConnectIsChecked sends CONNECT packets with a flaw. A client of MQTT 5 is
// told what is wrong; for one of MQTT 3.1.1 there are few return codes, and the
// connection ends without one when the packet is malformed [MQTT-3.1.4-1 of 3.1.1].
func TestConnectIsChecked(t *testing.T) {
	t.Parallel()
	const silent = 0xFF
	s := start(t, broker.Options{})
	for _, tt := range []struct {
		name        string
		packet      string // from the protocol name to the flags; for MQTT 5 a level of 5 is put in
		rest        string // from the client identifier on
		old, recent byte   // code of the CONNACK
	}{
		{"as it should be", "\x00\x04MQTT\x04\x02", "\x00\x01c", 0, 0},
		{"another protocol", "\x00\x02hj\x04\x02", "\x00\x01c", 1, 0x84},
		{"reserved flag", "\x00\x04MQTT\x04\x03", "\x00\x01c", silent, 0x81},
		{"will QoS without a will", "\x00\x04MQTT\x04\x0A", "\x00\x01c", silent, 0x82},
		{"will retain without a will", "\x00\x04MQTT\x04\x22", "\x00\x01c", silent, 0x82},
		{"will QoS 3", "\x00\x04MQTT\x04\x1E", "\x00\x01c|\x00\x01w\x00\x01p", silent, 0x81},
		{"will topic missing", "\x00\x04MQTT\x04\x06", "\x00\x01c|", silent, 0x81},
		{"will topic with a wildcard", "\x00\x04MQTT\x04\x06", "\x00\x01c|\x00\x01#\x00\x01p", 5, 0x90},
		{"will topic not UTF-8", "\x00\x04MQTT\x04\x06", "\x00\x01c|\x00\x01\xFF\x00\x01p", silent, 0x81},
		{"will topic empty", "\x00\x04MQTT\x04\x06", "\x00\x01c|\x00\x00\x00\x01p", 5, 0x90},
		{"client identifier not UTF-8", "\x00\x04MQTT\x04\x02", "\x00\x02\xED\xA0", silent, 0x81},
		{"client identifier with a surrogate", "\x00\x04MQTT\x04\x02", "\x00\x03\xED\xA0\x80", silent, 0x81},
		{"client identifier with U+0000", "\x00\x04MQTT\x04\x02", "\x00\x01\x00", silent, 0x81},
		{"client identifier missing", "\x00\x04MQTT\x04\x02", "", silent, 0x81},
		{"client identifier longer than the packet", "\x00\x04MQTT\x04\x02", "\x00\x02c", silent, 0x81},
		{"will topic with U+0000", "\x00\x04MQTT\x04\x06", "\x00\x01c|\x00\x01\x00\x00\x01p", silent, 0x81},
		{"will payload missing", "\x00\x04MQTT\x04\x06", "\x00\x01c|\x00\x01w", silent, 0x81},
		{"user name missing", "\x00\x04MQTT\x04\x82", "\x00\x01c", silent, 0x81},
		{"user name without its flag", "\x00\x04MQTT\x04\x02", "\x00\x01c\x00\x01u", silent, 0x81},
		{"password without its flag", "\x00\x04MQTT\x04\x82", "\x00\x01c\x00\x01u\x00\x01p", silent, 0x81},
		{"a byte too many", "\x00\x04MQTT\x04\x06", "\x00\x01c|\x00\x01w\x00\x01p\x00", silent, 0x81},
		{"user name not UTF-8", "\x00\x04MQTT\x04\x82", "\x00\x01c\x00\x01\xC0", silent, 0x81},
		{"user name with U+0000", "\x00\x04MQTT\x04\x82", "\x00\x01c\x00\x01\x00", silent, 0x81},
		{"password missing", "\x00\x04MQTT\x04\xC2", "\x00\x01c\x00\x01u", silent, 0x81},
		{"password without a user name", "\x00\x04MQTT\x04\x42", "\x00\x01c\x00\x01p", silent, 0},
		{"user name and an empty password", "\x00\x04MQTT\x04\xC2", "\x00\x01c\x00\x01u\x00\x00", 0, 0},
		{"will with an empty payload", "\x00\x04MQTT\x04\x06", "\x00\x01c|\x00\x01w\x00\x00", 0, 0},
	} {
		for _, version := range []byte{v311, v5} {
			head, rest, want := []byte(tt.packet+"\x00\x3C"), tt.rest, tt.old
			if version == v5 { // no properties
				head[len(head)-4] = v5
				head, want = append(head, 0), tt.recent
				rest = strings.Replace(rest, "|", "\x00", 1)
			} else {
				rest = strings.Replace(rest, "|", "", 1)
			}
			body := append(head, rest...)
			c := s.dial(t, version)
			c.write(append([]byte{packets.Connect << 4, byte(len(body))}, body...))
			got := byte(silent)
			pk, err := c.next(patience)
			if err == nil {
				got = pk.ReasonCode
			}
			if got != want {
				t.Errorf("version %d, %s: CONNACK = %#x (%v), want %#x", version, tt.name, got, err, want)
			}
			if got != 0 {
				c.wantEnd(0)
			}
		}
	}
}

// TestPropertiesOfConnectAreChecked sends some that may not be: the client is told what is wrong (MQTT 5, 4.13.1).
func TestPropertiesOfConnectAreChecked(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for name, tt := range map[string]struct {
		properties string
		want       byte
	}{
		"Receive Maximum 0":                     {"\x21\x00\x00", 0x82},
		"Maximum Packet Size 0":                 {"\x27\x00\x00\x00\x00", 0x82},
		"Session Expiry Interval twice":         {"\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01", 0x82},
		"Request Problem Information 2":         {"\x17\x02", 0x82},
		"Request Response Information 2":        {"\x19\x02", 0x82},
		"Authentication Data without a Method":  {"\x16\x00\x01x", 0x82},
		"empty Authentication Data, no Method":  {"\x16\x00\x00", 0x82},
		"a property of PUBLISH":                 {"\x23\x00\x01", 0x81},
		"a property of CONNACK":                 {"\x12\x00\x01x", 0x81},
		"a subscription identifier":             {"\x0B\x01", 0x81},
		"a user property with U+0000":           {"\x26\x00\x01\x00\x00\x00", 0x81},
		"an empty Authentication Method":        {"\x15\x00\x00", 0x8C},
		"a property that is cut off":            {"\x21\x00", 0x81},
		"a user property that is not UTF-8":     {"\x26\x00\x01\xFF\x00\x00", 0x81},
		"an Authentication Method without Data": {"\x15\x00\x01x", 0x8C},
	} {
		body := "\x00\x04MQTT\x05\x02\x00\x00" + string([]byte{byte(len(tt.properties))}) + tt.properties + "\x00\x01c"
		c := s.dial(t, v5)
		c.write([]byte{packets.Connect << 4, byte(len(body))})
		c.write([]byte(body))
		if pk := c.await(packets.Connack); pk.ReasonCode != tt.want {
			t.Errorf("%s: CONNACK = %#x, want %#x", name, pk.ReasonCode, tt.want)
		}
		c.wantEnd(0)
	}
}

// TestPropertiesOfAWillAreChecked is the same for those of the will.
func TestPropertiesOfAWillAreChecked(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for name, tt := range map[string]struct {
		properties string
		want       byte
	}{
		"nothing wrong":                        {"\x18\x00\x00\x00\x01\x01\x01\x08\x00\x01r\x26\x00\x00\x00\x00", 0},
		"a property of CONNECT":                {"\x11\x00\x00\x00\x01", 0x81},
		"a topic alias":                        {"\x23\x00\x01", 0x81},
		"a delay twice":                        {"\x18\x00\x00\x00\x01\x18\x00\x00\x00\x01", 0x82},
		"payload format 2":                     {"\x01\x02", 0x82},
		"a content type that is not UTF-8":     {"\x03\x00\x01\xFF", 0x81},
		"a response topic that is a wildcard":  {"\x08\x00\x01#", 0x82},
		"a response topic that is not UTF-8":   {"\x08\x00\x01\xFF", 0x81},
		"a property longer than the others":    {"\x18\x00\x00", 0x81},
		"correlation data longer than allowed": {"\x09\xFF\xFF", 0x81},
	} {
		body := "\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01c" + string([]byte{byte(len(tt.properties))}) + tt.properties + "\x00\x01w\x00\x01p"
		c := s.dial(t, v5)
		c.write([]byte{packets.Connect << 4, byte(len(body))})
		c.write([]byte(body))
		if pk := c.await(packets.Connack); pk.ReasonCode != tt.want {
			t.Errorf("%s: CONNACK = %#x, want %#x", name, pk.ReasonCode, tt.want)
		}
		if tt.want != 0 {
			c.wantEnd(0)
		}
	}
}

func TestUnknownProtocolLevelIsRefusedWithACode(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	for _, level := range []byte{0, 3, 6, 0x84} {
		for _, rest := range []string{ // whatever a packet of that level is like
			"\x02\x00\x00\x00\x01c", "\x02\x00\x00\x05\x11\x00\x00\x00\x01\x00\x01c", "",
		} {
			c := s.dial(t, v311)
			c.write(append([]byte{packets.Connect << 4, byte(7 + len(rest))}, "\x00\x04MQTT"+string([]byte{level})+rest...))
			if pk := c.await(packets.Connack); pk.ReasonCode != 1 {
				t.Errorf("level %d: CONNACK = %#x, want 1", level, pk.ReasonCode)
			}
			c.wantEnd(0)
		}
	}
}

func TestZeroLengthClientIdentifier(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	if c := s.tryConnect(t, v311, "", persistent); c.connack.ReasonCode != 2 {
		t.Errorf("CONNACK for no client identifier but a session, 3.1.1 = %#x, want 2", c.connack.ReasonCode)
	}
	s.connect(t, v311, "").leave()
	first := s.connect(t, v5, "", persistent)
	second := s.connect(t, v5, "")
	id := first.connack.Properties.AssignedClientID
	if id == "" || id == second.connack.Properties.AssignedClientID {
		t.Errorf("assigned client identifiers are %q and %q, want two different ones", id, second.connack.Properties.AssignedClientID)
	}
	first.subscribe(1, "assigned")
	first.leave()
	second.publish("assigned", "x", 1)
	again := s.connect(t, v5, id, persistent)
	if !again.connack.SessionPresent || again.connack.Properties.AssignedClientID != "" {
		t.Errorf("CONNACK to the assigned identifier = %+v, want its session and no other identifier", again.connack.Properties)
	}
	again.wantMessages("x")
}

func TestClientIdentifiersThatEveryServerTakes(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		for _, id := range []string{"0", "abcdefghijklmnopqrstuvw", "ABCDEFGHIJKLMNOPQRSTUVW", "xyzXYZ0123456789", "with space ü/+#"} {
			s.connect(t, version, id+t.Name()[len(t.Name())-1:]).leave()
		}
	})
}

func TestPacketsBeforeTheConnack(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		other := s.connect(t, version, "other"+t.Name())
		other.subscribe(1, t.Name())
		connect := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Connect},
			Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: t.Name(), Clean: true},
		}
		c := s.dial(t, version)
		c.send(connect, message(t.Name(), "accepted", 1, 1))
		c.await(packets.Connack)
		c.await(packets.Puback)
		other.wantMessages("accepted")

		connect.Connect.ClientIdentifier = strings.Repeat("x", 200)
		c = s.dial(t, version)
		c.send(connect, message(t.Name(), "refused", 1, 1))
		if code := c.await(packets.Connack).ReasonCode; code == 0 {
			t.Error("CONNACK = 0, want a refusal")
		}
		c.wantEnd(0)
		other.wantNone()
	})
}

func TestServerKeepAlive(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{KeepAlive: time.Minute}})
	for asked, told := range map[uint16]bool{120: true, 0: true, 60: false, 30: false} {
		c := s.connect(t, v5, "c", func(pk *packets.Packet) { pk.Connect.Keepalive = asked })
		p := c.connack.Properties
		if p.ServerKeepAliveFlag != told || told && p.ServerKeepAlive != 60 {
			t.Errorf("Server Keep Alive for a client that asks %d s = %d (present: %t), want it present: %t", asked, p.ServerKeepAlive, p.ServerKeepAliveFlag, told)
		}
	}
}

// TestLongestKeepAlive has clients that ask for more, or for none: those of MQTT 3.1.1 cannot be told, and are cut off all the same.
func TestLongestKeepAlive(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{KeepAlive: time.Second}})
	inBoth(t, func(t *testing.T, version byte) {
		for _, asked := range []uint16{0, 120} {
			c := s.connect(t, version, fmt.Sprint(t.Name(), asked), func(pk *packets.Packet) { pk.Connect.Keepalive = asked })
			c.ping()
			c.wantEnd(0x8D)
		}
	})
}

func TestSilentClientIsCutOff(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		other := s.connect(t, version, "other"+t.Name())
		other.subscribe(1, t.Name())
		begin := time.Now()
		c := s.connect(t, version, t.Name(), willOn(t.Name(), "gone"), func(pk *packets.Packet) { pk.Connect.Keepalive = 1 })
		c.wantEnd(0x8D)
		if d := time.Since(begin); d < 1500*time.Millisecond {
			t.Errorf("cut off after %v, want 1.5 s", d)
		}
		other.wantMessages("gone")
	})
}

func TestPingsKeepAConnection(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	inBoth(t, func(t *testing.T, version byte) {
		c := s.connect(t, version, t.Name(), func(pk *packets.Packet) { pk.Connect.Keepalive = 1 })
		for range 3 {
			<-time.After(700 * time.Millisecond)
			c.ping()
		}
	})
}

func TestExtendedAuthenticationIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.tryConnect(t, v5, "c", func(pk *packets.Packet) { pk.Properties.AuthenticationMethod = "SCRAM-SHA-1" })
	if c.connack.ReasonCode != 0x8C {
		t.Errorf("CONNACK = %#x, want 0x8C", c.connack.ReasonCode)
	}
	c.wantEnd(0)
}

func TestReasonIsReadByAClientThatGoesOnSending(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Limits: broker.Limits{ReceiveMaximum: 10}})
	c := s.connect(t, v5, "c")
	for id := uint16(1); id <= 11; id++ { // one more than the server takes
		c.send(message("a", "x", 2, id))
	}
	for range 10 {
		c.send(ack(packets.Pubrel, c.await(packets.Pubrec).PacketID))
	}
	c.wantEnd(0x93)
}
