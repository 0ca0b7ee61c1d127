// Package packetio sends and receives single MQTT packets, for tests that
// have to see each of them. It answers nothing by itself; package mqtttest is
// a client that does.
package packetio

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Patience bounds a write, and how long the rest of a packet may take that has begun.
const Patience = 20 * time.Second

// Conn is the client's end of a connection.
type Conn struct {
	conn    net.Conn
	r       *bufio.Reader
	version byte
}

// New returns a Conn that speaks this version of MQTT: 3, 4 or 5.
func New(conn net.Conn, version byte) *Conn {
	return &Conn{conn: conn, r: bufio.NewReader(conn), version: version}
}

// Version returns the version of MQTT.
func (c *Conn) Version() byte { return c.version }

// LocalAddr returns the client's address.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// Close cuts the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// Encode returns a packet that a client may send as bytes.
func (c *Conn) Encode(pk packets.Packet) ([]byte, error) {
	pk.ProtocolVersion = c.version
	pk.Mods.AllowResponseInfo = true
	switch pk.FixedHeader.Type {
	case packets.Subscribe, packets.Unsubscribe, packets.Pubrel:
		pk.FixedHeader.Qos = 1 // their reserved bits
	}
	encode, ok := map[byte]func(*bytes.Buffer) error{
		packets.Connect: pk.ConnectEncode, packets.Publish: pk.PublishEncode, packets.Puback: pk.PubackEncode,
		packets.Pubrec: pk.PubrecEncode, packets.Pubrel: pk.PubrelEncode, packets.Pubcomp: pk.PubcompEncode,
		packets.Subscribe: pk.SubscribeEncode, packets.Unsubscribe: pk.UnsubscribeEncode,
		packets.Pingreq: pk.PingreqEncode, packets.Disconnect: pk.DisconnectEncode,
	}[pk.FixedHeader.Type]
	if !ok {
		return nil, fmt.Errorf("packetio: a client does not send packets of type %d", pk.FixedHeader.Type)
	}
	var b bytes.Buffer
	if err := encode(&b); err != nil {
		return nil, fmt.Errorf("packetio: encode packet of type %d: %w", pk.FixedHeader.Type, err)
	}
	return b.Bytes(), nil
}

// Send sends packets in one write.
func (c *Conn) Send(pks ...packets.Packet) error {
	var out []byte
	for _, pk := range pks {
		b, err := c.Encode(pk)
		if err != nil {
			return err
		}
		out = append(out, b...)
	}
	_, err := c.Write(out)
	return err
}

// Write sends bytes as they are.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.conn.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return 0, err
	}
	return c.conn.Write(b)
}

// Receive returns the next packet, which has to begin within this time: else the error is a
// [net.Error] that is a timeout.
func (c *Conn) Receive(within time.Duration) (pk packets.Packet, err error) {
	first, body, err := c.ReceiveBytes(within)
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining = len(body)
	pk.ProtocolVersion = c.version
	decode, ok := map[byte]func([]byte) error{
		packets.Connack: pk.ConnackDecode, packets.Publish: pk.PublishDecode, packets.Puback: pk.PubackDecode,
		packets.Pubrec: pk.PubrecDecode, packets.Pubrel: pk.PubrelDecode, packets.Pubcomp: pk.PubcompDecode,
		packets.Suback: pk.SubackDecode, packets.Unsuback: pk.UnsubackDecode, packets.Pingresp: pk.PingrespDecode,
		packets.Disconnect: pk.DisconnectDecode,
	}[pk.FixedHeader.Type]
	if !ok {
		return pk, fmt.Errorf("packetio: a server does not send packets of type %d", pk.FixedHeader.Type)
	}
	err = decode(body)
	return pk, err
}

// ReceiveBytes is Receive for who wants the packet as it came: its first byte, and what comes after its length.
func (c *Conn) ReceiveBytes(within time.Duration) (first byte, body []byte, err error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return 0, nil, err
	}
	if first, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return 0, nil, err
	}
	n, _, err := packets.DecodeLength(c.r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return first, body, err
}

// AwaitEnd reads until the server ends the connection, and closes it.
func (c *Conn) AwaitEnd() {
	_ = c.conn.SetReadDeadline(time.Now().Add(Patience))
	_, _ = io.Copy(io.Discard, c.conn)
	_ = c.conn.Close()
}
