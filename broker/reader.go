package broker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/wire"
)

// readBuffer is the size of a connection's read buffer, in bytes. Larger packets do not need a larger one.
const readBuffer = 1 << 10

// serve reads and handles packets until the connection ends, and returns why.
// It is nil when the cause is noted already. What serve and its callers have on
// the stack is little, so that the stacks of connections that wait can shrink:
// half of what an idle connection costs is its stack.
func (c *conn) serve() error {
	r := bufio.NewReaderSize(c, readBuffer)
	for {
		c.await()
		if _, err := r.Peek(1); err != nil {
			return err
		}
		if more, err := c.next(r); err != nil || !more {
			return err
		}
	}
}

// next reads a packet and handles it. The strings and the payload of the packet lie in a buffer of its own. more is
// false when the connection has to end.
func (c *conn) next(r *bufio.Reader) (more bool, err error) {
	pk := packets.Packet{ProtocolVersion: byte(c.version)} // large
	header, err := c.header(r, &pk.FixedHeader)
	if err != nil {
		return false, err
	}
	n := pk.FixedHeader.Remaining
	release := c.reserve(n)
	if release == nil {
		return false, packets.ErrServerBusy
	}
	defer release()
	body, err := readBody(r, n)
	if err != nil {
		return false, err
	}
	if c.shown, err = decode(&pk, body, header); err != nil {
		if pk.FixedHeader.Type == packets.Connect {
			c.unreadable(body, err)
		}
		return false, err
	}
	if !c.connected {
		release := c.reserve(decodedSize(&pk))
		if release == nil {
			return false, packets.ErrServerBusy
		}
		defer release()
	}
	more = c.receive(&pk)
	c.shown.filters = nil // a part of the body
	if more && pk.FixedHeader.Type == packets.Publish {
		c.slowDown(n)
	}
	return more, nil
}

// header reads the fixed header of a packet that may come now and is not too large. It returns how many bytes the
// remaining length has in it.
func (c *conn) header(r *bufio.Reader, fh *packets.FixedHeader) (size int, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	if err := fh.Decode(first); errors.Is(err, packets.ErrProtocolViolationQosOutOfRange) {
		return 0, packets.ErrMalformedPacket // MQTT 5, 3.3.1.2
	} else if err != nil {
		return 0, err
	}
	switch isConnect := fh.Type == packets.Connect; {
	case c.connected && isConnect: // [MQTT-3.1.0-2]
		return 0, packets.ErrProtocolViolationSecondConnect
	case !c.connected && !isConnect: // [MQTT-3.1.0-1]; before memory is spent on what strangers send
		return 0, packets.ErrProtocolViolationRequireFirstConnect
	}
	if fh.Remaining, size, err = readLength(r); err != nil {
		return 0, err
	}
	limit := c.limits.packetBytes()
	if !c.connected {
		limit = min(limit, c.limits.ConnectBytes)
	}
	if 1+size+fh.Remaining <= limit {
		return size, nil
	}
	if !c.connected { // before memory is spent on it
		begin, _ := r.Peek(protocolSize) // when it does not come, neither does an answer
		c.unreadable(begin, packets.ErrPacketTooLarge)
	}
	return 0, packets.ErrPacketTooLarge // [MQTT-3.2.2-15]
}

// Sizes of the buffer of a packet, in bytes.
const (
	firstBody  = 64 << 10 // of what is only announced
	bodyGrowth = 16       // how many times more than what has come
)

// readBody reads n bytes. The memory for them is spent as they come: those who announce much have to send much.
func readBody(r io.Reader, n int) ([]byte, error) {
	var body []byte
	for size := min(n, firstBody); ; size = min(n, bodyGrowth*size) {
		come := len(body)
		body = append(make([]byte, 0, size), body...)[:size]
		if _, err := io.ReadFull(r, body[come:]); err != nil {
			return nil, err
		}
		if size == n {
			return body, nil
		}
	}
}

// userPropertySize is what a user property takes in memory beside its bytes: two strings.
const userPropertySize = 32

// decodedSize is what a CONNECT packet takes in memory beside its bytes, for as long as its client proves who it is: its
// user properties, and those of the will, which are in the packet and in the will.
func decodedSize(pk *packets.Packet) int {
	return userPropertySize * (len(pk.Properties.User) + 2*len(pk.Connect.WillProperties.User))
}

// readLength reads the remaining length of a packet, which has size bytes.
func readLength(r io.ByteReader) (n, size int, err error) {
	for size < maxLengthSize {
		b, err := r.ReadByte()
		if err != nil {
			return 0, size, err
		}
		n |= int(b&0x7F) << (7 * size)
		size++
		if b < 0x80 {
			return n, size, nil
		}
	}
	return 0, size, packets.ErrMalformedVariableByteInteger
}

// maxLengthSize is how many bytes a variable byte integer has at most (MQTT 5, 1.5.5).
const maxLengthSize = 4

// isLongWinded reports whether an encoding of n as variable byte integer in size bytes is longer than need be [MQTT-1.5.5-1].
func isLongWinded(n, size int) bool { return size > 1 && n < 1<<(7*(size-1)) }

// decode reads the part after the fixed header, whose length has header bytes, of a packet that a client may send.
func decode(pk *packets.Packet, body []byte, header int) (shown, error) {
	found, code := check(pk, body)
	if code != packets.CodeSuccess {
		return found, code
	}
	err := decodeBody(pk, body)
	if err == nil && pk.ProtocolVersion >= byte(wire.V5) && isLongWinded(len(body), header) {
		err = packets.ErrMalformedVariableByteInteger
	}
	return found, err
}

// decodeBody is decode without what check does.
func decodeBody(pk *packets.Packet, body []byte) error {
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return pk.PublishDecode(body)
	case packets.Puback:
		return pk.PubackDecode(body)
	case packets.Pubrec:
		return pk.PubrecDecode(body)
	case packets.Pubrel:
		return pk.PubrelDecode(body)
	case packets.Pubcomp:
		return pk.PubcompDecode(body)
	case packets.Subscribe, packets.Unsubscribe: // their filters are not taken apart
		pk.PacketID = binary.BigEndian.Uint16(body)
		if pk.ProtocolVersion < byte(wire.V5) {
			return nil
		}
		if _, err := pk.Properties.Decode(pk.FixedHeader.Type, bytes.NewBuffer(body[2:])); err != nil {
			return packets.ErrMalformedProperties
		}
		return nil
	case packets.Connect:
		return pk.ConnectDecode(body)
	case packets.Disconnect:
		if err := pk.DisconnectDecode(body); err != nil {
			return err
		}
		if pk.ProtocolVersion >= byte(wire.V5) && len(body) == 1 { // a reason code without properties, which the decoder skips
			pk.ReasonCode = body[0]
		}
		return nil
	case packets.Auth: // is refused
		return nil
	case packets.Pingreq:
		if len(body) > 0 { // MQTT 5, 3.12.1
			return packets.ErrMalformedPacket
		}
		return nil
	case packets.Reserved:
		return packets.ErrMalformedPacket
	default: // what only servers send
		return packets.ErrProtocolViolation
	}
}

// receive handles a packet. False means that the connection has to end; why was noted with fail.
func (c *conn) receive(pk *packets.Packet) bool {
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return c.publish(pk)
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		return c.settled(pk)
	case packets.Pubrel:
		return c.released(pk)
	case packets.Subscribe:
		return c.subscribe(pk)
	case packets.Unsubscribe:
		return c.unsubscribe(pk)
	case packets.Pingreq:
		c.pong()
		return true
	case packets.Disconnect:
		return c.disconnect(pk)
	case packets.Connect:
		return c.connect(pk)
	default: // AUTH: nobody has an authentication method, with which CONNECT is refused [MQTT-4.12.0-7]
		return c.reject(packets.ErrProtocolViolation)
	}
}

// reject ends the connection because of what the client sent. It returns false for receive.
func (c *conn) reject(code packets.Code) bool {
	c.fail(causeOf(code))
	return false
}

// Read writes what the last packets have brought about, and then reads. The time that a client takes for what is
// written does not count as silence.
func (c *conn) Read(p []byte) (int, error) {
	if c.out.flush() {
		c.await()
	}
	n, err := c.Conn.Read(p)
	if c.client != nil {
		c.client.woken.Store(true)
	}
	c.b.count.bytesIn.Add(int64(n))
	return n, err
}

// await sets the deadline for the next packet: 1.5 times the keep-alive
// [MQTT-3.1.2-22], or a little later, because moving the deadline costs. Before
// the CONNECT packet the listener's deadline stands.
func (c *conn) await() {
	switch {
	case !c.connected:
	case c.keepAlive != 0:
		now := time.Now()
		patience := c.keepAlive + c.keepAlive/2
		if c.armed.Sub(now) < patience {
			c.armed = now.Add(patience + patience/32)
			_ = c.Conn.SetReadDeadline(c.armed)
		}
	case !c.unlimited:
		c.unlimited = true
		_ = c.Conn.SetReadDeadline(time.Time{})
	}
}
