package broker

import (
	"fmt"
	"log/slog"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is where the front end hands over. It answers every packet itself:
//
//   - CONNECT is rewritten to that of an unknown client with a clean session and
//     no will, so that the front end keeps nothing (OnPacketRead), and what was
//     asked for is done in OnConnect, OnPacketEncode (CONNACK) and
//     OnSessionEstablished.
//   - Every other packet is handled in OnPacketRead. The front end gets a PUBACK
//     for a message that it never sent instead, which it ignores.
//
// The hooks run in the reading goroutine of the connection, whose panics end
// that connection only (package listener).
type hook struct {
	mqtt.HookBase
	b *Broker
}

// newFrontEnd returns a server that decodes packets, checks and acknowledges
// CONNECT, and calls the hook. It is driven by EstablishConnection alone: without
// Serve it has no event loop, no timers and no listeners.
func newFrontEnd(b *Broker) (*mqtt.Server, error) {
	abilities := mqtt.NewDefaultServerCapabilities()
	abilities.MaximumClientWritesPending = 0 // its queue is not used
	abilities.MaximumMessageExpiryInterval = 0
	abilities.MaximumPacketSize = uint32(b.limits.packetBytes())
	abilities.ReceiveMaximum = b.limits.ReceiveMaximum
	abilities.TopicAliasMaximum = 0 // aliases are resolved here
	s := mqtt.New(&mqtt.Options{
		Capabilities:            abilities,
		Logger:                  slog.New(slog.DiscardHandler), // it logs whole packets
		ClientNetReadBufferSize: 2048,
	})
	if err := s.AddHook(&hook{b: b}, nil); err != nil {
		return nil, fmt.Errorf("front end: %w", err)
	}
	return s, nil
}

// ID implements mqtt.Hook.
func (h *hook) ID() string { return "umbra" }

// Init implements mqtt.Hook.
func (h *hook) Init(any) error { return nil }

// Provides implements mqtt.Hook.
func (h *hook) Provides(event byte) bool {
	switch event {
	case mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablished:
		return true
	default:
		return false
	}
}

// OnConnectAuthenticate implements mqtt.Hook: OnConnect has decided.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnConnect implements mqtt.Hook. It is called after the front end's checks of the CONNECT.
func (h *hook) OnConnect(cl *mqtt.Client, _ packets.Packet) error {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return packets.ErrUnspecifiedError
	}
	code := c.accept()
	if code == packets.CodeSuccess {
		return nil
	}
	h.b.count.refused.Add(1)
	c.fail(causeOf(code))
	if err := h.b.front.SendConnack(cl, code, false, nil); err != nil {
		return fmt.Errorf("broker: refuse connection: %w", err)
	}
	return code
}

// OnPacketEncode implements mqtt.Hook. It sees only the packets that the front end writes.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if c, ok := cl.Net.Conn.(*conn); ok && pk.FixedHeader.Type == packets.Connack {
		c.completeConnack(&pk)
	}
	return pk
}

// OnSessionEstablished implements mqtt.Hook. It is called after the CONNACK.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	if c, ok := cl.Net.Conn.(*conn); ok {
		c.established()
	}
}

// OnPacketRead implements mqtt.Hook.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Type == packets.Connect && !c.connected {
		c.connect(&pk)
		return pk, nil
	}
	if !c.receive(&pk) {
		return packets.Packet{}, packets.ErrRejectPacket // ends the connection
	}
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}, nil
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
		return c.reject(packets.ErrProtocolViolationSecondConnect) // [MQTT-3.1.0-2]
	case packets.Auth:
		return c.reject(packets.ErrBadAuthenticationMethod)
	default:
		return c.reject(packets.ErrProtocolViolation)
	}
}

// reject ends the connection because of what the client sent. It returns false for receive.
func (c *conn) reject(code packets.Code) bool {
	c.fail(causeOf(code))
	return false
}
