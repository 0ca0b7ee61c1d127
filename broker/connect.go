package broker

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/listener"
	"github.com/umbra-iot/umbra/broker/session"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/internal/quota"
)

// connect handles CONNECT.
func (c *conn) connect(pk *packets.Packet) bool {
	c.take(pk)
	code := flawOf(pk, c.shown.packet)
	if code == packets.CodeSuccess {
		code = c.accept(pk)
	}
	if code != packets.CodeSuccess {
		c.b.count.refused.Add(1)
		c.refuse(code, isKnown(pk))
		return c.reject(code)
	}
	listener.Admit(c.Conn)
	c.connack()
	c.established()
	return true
}

// take notes what a CONNECT packet asks for.
func (c *conn) take(pk *packets.Packet) {
	c.connected = true
	c.version = wire.Version(pk.ProtocolVersion)
	c.clientID = strings.Clone(pk.Connect.ClientIdentifier)
	c.cleanStart = pk.Connect.Clean
	c.askedAlive = time.Duration(pk.Connect.Keepalive) * time.Second
	c.keepAlive = c.b.profile.keepAlive(c.askedAlive)
	if limit := c.limits.KeepAlive; limit != 0 && (c.keepAlive == 0 || c.keepAlive > limit) {
		c.keepAlive = limit
	}
	c.receiveMax = pk.Properties.ReceiveMaximum
	c.packetMax = pk.Properties.MaximumPacketSize
	c.toClient.max = min(pk.Properties.TopicAliasMaximum, c.limits.TopicAliasMaximum)
	c.noProblem = pk.Properties.RequestProblemInfoFlag && pk.Properties.RequestProblemInfo == 0
	c.askedExpiry = pk.Properties.SessionExpiryInterval
	if c.version < wire.V5 && !c.cleanStart {
		c.askedExpiry = math.MaxUint32
	}
	c.expiry = c.limits.sessionExpiry(c.askedExpiry)
	c.username = string(pk.Connect.Username)
	if pk.Connect.WillFlag {
		c.will = newWill(pk, c.shown.will)
	}
}

// isKnown reports whether there is such a protocol.
func isKnown(pk *packets.Packet) bool {
	return isProtocol(string(pk.Connect.ProtocolName), wire.Version(pk.ProtocolVersion))
}

func isProtocol(name string, v wire.Version) bool {
	return name == "MQTT" && (v == wire.V311 || v == wire.V5) || name == "MQIsdp" && v == 3
}

// flawOf finds what is wrong with a CONNECT packet that shows these properties.
func flawOf(pk *packets.Packet, shown propertySet) packets.Code {
	p := &pk.Connect
	switch {
	case !isKnown(pk): // [MQTT-3.1.2-1], [MQTT-3.1.2-2]
		return packets.ErrUnsupportedProtocolVersion
	case pk.ReservedBit != 0: // [MQTT-3.1.2-3]
		return packets.ErrMalformedPacket
	case !p.WillFlag && (p.WillRetain || p.WillQos != 0): // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
		return packets.ErrProtocolViolationWillFlagSurplusRetain
	case p.WillFlag && p.WillQos > 2: // [MQTT-3.1.2-12]
		return packets.ErrMalformedPacket
	case strings.ContainsAny(p.WillProperties.ResponseTopic, "+#"): // [MQTT-3.3.2-14]
		return packets.ErrProtocolViolationSurplusWildcard
	case !utf8.Valid(p.Username) || bytes.IndexByte(p.Username, 0) >= 0: // [MQTT-3.1.3-12], [MQTT-1.5.4-2]
		return packets.ErrMalformedPacket
	case p.PasswordFlag && !p.UsernameFlag && pk.ProtocolVersion < byte(wire.V5): // [MQTT-3.1.2-22] of 3.1.1
		return packets.ErrProtocolViolation
	case shown.has(packets.PropAuthenticationMethod):
		return packets.ErrBadAuthenticationMethod
	case shown.has(packets.PropAuthenticationData): // MQTT 5, 3.1.2.11.10
		return packets.ErrProtocolViolation
	}
	return packets.CodeSuccess
}

// protocolSize is how many bytes the name and level of MQTT have at the beginning of a CONNECT packet.
const protocolSize = 7

// unreadable tells what is wrong with a CONNECT packet that is not decoded, of which the first bytes of the body are
// enough: clients of MQTT 5 (4.13.1), and those of a version that there is not [MQTT-3.1.2-2 of 3.1.1]. Others get no
// CONNACK.
func (c *conn) unreadable(body []byte, err error) {
	b := bodyReader{b: body}
	name, version := string(b.take(b.uint16())), wire.Version(b.byte())
	known := isProtocol(name, version)
	if b.short || known && version < wire.V5 {
		return
	}
	code, ok := errors.AsType[packets.Code](err)
	switch {
	case !known:
		code = packets.ErrUnsupportedProtocolVersion
	case !ok || code == packets.ErrClientIdentifierNotValid: // which is no string [MQTT-1.5.4-1]
		code = packets.ErrMalformedPacket
	}
	c.connected, c.version = true, version
	c.b.count.refused.Add(1)
	c.refuse(code, known)
}

// accept decides about the connection and gives it the session.
func (c *conn) accept(pk *packets.Packet) packets.Code {
	if code := c.identify(); code != packets.CodeSuccess {
		return code
	}
	if code := c.admit(pk); code != packets.CodeSuccess {
		return code
	}
	if !c.takes(len(c.welcome())) {
		return packets.ErrPacketTooLarge
	}
	if c.will != nil {
		if code := c.checkWill(); code != packets.CodeSuccess {
			return code
		}
	}
	if c.b.journal.Err() != nil && (c.expiry > 0 || c.will != nil) {
		c.fail(storeFails())
		return packets.ErrServerUnavailable
	}
	if code := c.awaitTurn(); code != packets.CodeSuccess {
		return code
	}
	if code := c.takeOver(); code != packets.CodeSuccess {
		return code
	}
	if c.stored && !c.wait() {
		c.client.withSession(c, func() { c.client.setWill(nil) })
		return packets.ErrServerUnavailable
	}
	if !c.b.greeted(c) {
		return packets.ErrServerShuttingDown
	}
	return packets.CodeSuccess
}

// identify checks the client identifier, or assigns one [MQTT-3.1.3-6].
func (c *conn) identify() packets.Code {
	switch {
	case c.clientID != "":
		if len(c.clientID) > c.limits.ClientIDBytes {
			return packets.ErrClientIdentifierNotValid
		}
	case c.version < wire.V5 && !c.cleanStart: // [MQTT-3.1.3-8] of 3.1.1
		return packets.ErrClientIdentifierNotValid
	default:
		c.clientID, c.assignedID = "umbra-"+rand.Text(), true
	}
	return packets.CodeSuccess
}

// takeOver makes c the owner of its client id's session. A connection that has
// it now is told to go [MQTT-3.1.4-3]; its will is sent before this connection
// gets its CONNACK, so that it cannot undo what this connection reports. A session that belongs to somebody else is not
// taken over. One that ends is waited for, until others have got what it leaves, and so is a will that is being sent.
func (c *conn) takeOver() packets.Code {
	for {
		var (
			code packets.Code
			wait <-chan struct{}
		)
		c.b.together(func(a *aftermath) { code, wait = c.own(c.b.clients.lock(c.b, c.clientID), a) })
		if wait == nil {
			return code
		}
		<-wait // it is bounded
	}
}

// own does takeOver for a client whose mutex is locked, and unlocks it. What has to be waited for before is not nil.
func (c *conn) own(cl *client, a *aftermath) (packets.Code, <-chan struct{}) {
	defer cl.unlock()
	now := c.b.now()
	if !c.mayOwn(cl, now) {
		return packets.ErrNotAuthorized, nil
	}
	if code := c.mayStay(); code != packets.CodeSuccess { // something has changed since it was admitted: Recheck did not see it
		cl.settle(now, a) // it may have been made for this connection
		return code, nil
	}
	if cl.departing != nil {
		return packets.CodeSuccess, cl.departing
	}
	old := cl.conn
	if old != nil {
		end := cause{code: packets.ErrSessionTakenOver.Code, text: packets.ErrSessionTakenOver.Reason, reason: reasonDuplicate}
		old.stop(end)
		cl.release(&end, now, a)
	}
	cl.stopTimer()
	if !c.mayHave(cl) {
		cl.settle(now, a)
		return packets.ErrQuotaExceeded, nil
	}
	if c.cleanStart || cl.sess.Over(now) {
		if cl.bequeath(a) {
			c.b.quotas.Give(c.owner, quota.Connections, 1)
			return c.awaitEnd(cl, now, a)
		}
		cl.sendWill(a)
	}
	c.stored = cl.persistent.Load() || cl.willKept || c.expiry > 0 || c.will != nil
	c.present = cl.sess.Connect(session.ConnectParams{
		Version: c.version, CleanStart: c.cleanStart, ReceiveMaximum: c.receiveMax, MaximumPacketSize: c.packetMax, Expiry: c.expiry,
	}, now)
	if !c.present {
		cl.sessionID, cl.waiting, cl.counted = newSessionID(), nil, session.Counters{}
	}
	cl.persistent.Store(c.expiry > 0)
	cl.willAt = 0
	cl.setWill(c.will) // one that waited is not sent any more [MQTT-3.1.3-9]
	cl.conn = c
	cl.noteTimed()
	c.versionNumber = c.b.nextVersion(now)
	if c.will != nil {
		c.will.user, c.will.epoch = c.username, c.versionNumber
	}
	c.b.mapper.connected(c)
	c.b.present.begin(c, old, now)
	cl.last = Connection{
		ClientID: c.clientID, Connected: true, CleanSession: c.cleanStart, ConnectedSince: now, KeepAlive: c.keepAlive,
		SessionExpiry: time.Duration(c.expiry) * time.Second, Source: c.RemoteAddr().String(), Target: c.LocalAddr().String(),
	}
	cl.setOwner(c)
	c.client = cl
	c.expire()
	return packets.CodeSuccess, nil
}

// awaitEnd ends a session of which something has to be read from the store, and returns what own does. mu is held.
func (c *conn) awaitEnd(cl *client, now int64, a *aftermath) (packets.Code, <-chan struct{}) {
	f := cl.fetching
	cl.sess.SetExpiry(0)
	cl.settle(now, a)
	if f == nil {
		return packets.ErrServerShuttingDown, nil
	}
	if f.failed {
		c.fail(storeFails())
		return packets.ErrServerUnavailable, nil
	}
	return packets.CodeSuccess, f.done
}

func newSessionID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// connack accepts the connection.
func (c *conn) connack() { c.out.add(c.welcome(), true) }

// welcome is the CONNACK packet of a connection that is accepted. If it were too large for the client, it is without
// what is true when nothing is said.
func (c *conn) welcome() []byte {
	pk := packets.Packet{SessionPresent: c.present && c.version > 3} // 3.1 has no such flag; [MQTT-3.2.2-2], [MQTT-3.2.2-3]
	p := &pk.Properties
	if c.expiry != c.askedExpiry {
		p.SessionExpiryInterval, p.SessionExpiryIntervalFlag = c.expiry, true
	}
	if c.assignedID {
		p.AssignedClientID = c.clientID // [MQTT-3.2.2-16]
	}
	if c.keepAlive != c.askedAlive {
		p.ServerKeepAlive, p.ServerKeepAliveFlag = uint16(c.keepAlive/time.Second), true
	}
	p.ReceiveMaximum = c.limits.ReceiveMaximum
	p.MaximumPacketSize = uint32(c.limits.packetBytes())
	p.TopicAliasMaximum = c.limits.TopicAliasMaximum
	if c.b.profile.NoQoS2 {
		p.MaximumQos, p.MaximumQosFlag = 1, true // [MQTT-3.2.2-9]
	}
	p.SubIDAvailable, p.SubIDAvailableFlag = 1, true
	if c.b.profile.NoIdentifiers {
		p.SubIDAvailable = 0
	}
	p.RetainAvailable, p.RetainAvailableFlag = 1, true
	p.WildcardSubAvailable, p.WildcardSubAvailableFlag = 1, true
	p.SharedSubAvailable, p.SharedSubAvailableFlag = 1, true
	packet := c.encodeConnack(&pk)
	if !c.takes(len(packet)) {
		p.RetainAvailableFlag, p.WildcardSubAvailableFlag, p.SharedSubAvailableFlag = false, false, false
		p.SubIDAvailableFlag = c.b.profile.NoIdentifiers
		packet = c.encodeConnack(&pk)
	}
	return packet
}

// takes reports whether the client takes a packet of that size [MQTT-3.1.2-24].
func (c *conn) takes(size int) bool { return c.packetMax == 0 || int64(size) <= int64(c.packetMax) }

// refuse says why there is no connection. A malformed CONNECT of a known
// protocol before MQTT 5 gets no CONNACK [MQTT-3.1.4-1 of 3.1.1].
func (c *conn) refuse(code packets.Code, known bool) {
	pk := packets.Packet{ReasonCode: code.Code}
	if c.version == wire.V5 {
		pk.Properties.ReasonString = c.reasonString(code.Reason)
	} else {
		if known && (code.Code == packets.ErrMalformedPacket.Code || code.Code == packets.ErrProtocolViolation.Code) {
			return
		}
		pk.ReasonCode = returnCode(code.Code)
	}
	if packet := c.encodeConnack(&pk); c.takes(len(packet)) {
		c.out.add(packet, true)
	}
}

func (c *conn) encodeConnack(pk *packets.Packet) []byte {
	pk.FixedHeader.Type = packets.Connack
	pk.ProtocolVersion = byte(c.version)
	var buf bytes.Buffer
	_ = pk.ConnackEncode(&buf) // never fails
	return buf.Bytes()
}

// returnCode is the MQTT 3.1.1 return code (3.2.2.3) for a reason code of MQTT 5.
func returnCode(reason byte) byte {
	switch reason {
	case 0, 1, 2, 3, 4, 5:
		return reason
	case packets.ErrUnsupportedProtocolVersion.Code:
		return packets.Err3UnsupportedProtocolVersion.Code
	case packets.ErrClientIdentifierNotValid.Code:
		return packets.Err3ClientIdentifierNotValid.Code
	case packets.ErrBadUsernameOrPassword.Code:
		return packets.ErrMalformedUsernameOrPassword.Code
	case packets.ErrNotAuthorized.Code, packets.ErrBanned.Code, packets.ErrTopicNameInvalid.Code:
		return packets.Err3NotAuthorized.Code
	default:
		return packets.Err3ServerUnavailable.Code
	}
}

// established begins delivery, after the CONNACK.
func (c *conn) established() {
	var (
		asked  []announcement
		joined event
	)
	alive := c.client.withSession(c, func() {
		cl := c.client
		cl.live, c.acknowledged = true, true
		cl.online.Store(true)
		c.b.count.connections.Add(1)
		c.b.count.accepted.Add(1)
		joined = cl.event("connected", cl.last.ConnectedSince)
		joined.IPAddress, joined.VersionNumber = host(c.RemoteAddr()), &c.versionNumber
		asked = cl.resumed()
		cl.pump(c.b.now(), true)
	})
	if !alive {
		return
	}
	c.client.scanOn(c, true)
	c.b.emit("presence/connected", joined)
	c.announce(asked)
}

// disconnect takes the DISCONNECT packet.
func (c *conn) disconnect(pk *packets.Packet) bool {
	end := cause{reason: reasonClient, noWill: pk.ReasonCode == packets.CodeSuccess.Code, byClient: true} // [MQTT-3.14.4-3]
	if pk.Properties.SessionExpiryIntervalFlag {
		if c.askedExpiry == 0 && pk.Properties.SessionExpiryInterval != 0 {
			return c.reject(packets.ErrProtocolViolationZeroNonZeroExpiry) // MQTT 5, 3.14.2.2.2
		}
		expiry := c.limits.sessionExpiry(pk.Properties.SessionExpiryInterval)
		c.client.withSession(c, func() {
			c.client.sess.SetExpiry(expiry)
			c.client.persistent.Store(expiry > 0)
			c.client.last.SessionExpiry = time.Duration(expiry) * time.Second
		})
	}
	c.fail(end)
	return false
}

// pong answers PINGREQ.
func (c *conn) pong() { c.out.shut(wire.AppendPingresp(c.out.open()), true) }

// host is the address without the port.
func host(a net.Addr) string {
	h, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return h
}
