package broker

import (
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/internal/auth"
)

// subscribe handles SUBSCRIBE. What the subscriptions bring at once, retained
// messages and deltas, follows the SUBACK.
func (c *conn) subscribe(pk *packets.Packet) bool {
	if code := c.checkRequest(pk); code != packets.CodeSuccess {
		return c.reject(code)
	}
	if c.b.profile.NoIdentifiers && len(pk.Properties.SubscriptionIdentifier) > 0 {
		return c.reject(packets.ErrSubscriptionIdentifiersNotSupported)
	}
	var (
		reasons []byte
		granted []string
		asked   []announcement
		seen    map[string]bool // granted in this packet
	)
	alive := c.client.withSession(c, func() {
		for left := (bodyReader{b: c.shown.filters}); len(left.b) > 0; {
			name, bits := left.filter(true)
			filter, o := string(name), c.options(bits, pk)
			existed, code := c.grant(filter, len(reasons), o)
			if reasons = append(reasons, code); code >= wire.ReasonFailure {
				continue
			}
			granted = append(granted, filter)
			asked = ask(asked, filter, o)
			c.client.scanLater(filter, o, existed, seen[filter])
			seen = put(seen, filter, true)
		}
		for _, a := range asked {
			c.client.expectDelta(a.id)
		}
	})
	if !alive || !c.commit() {
		return false
	}
	c.out.shut(wire.AppendSuback(c.out.open(), c.version, wire.SubAck{ID: pk.PacketID, Reasons: reasons}), true)
	c.b.subscriptionEvent(c, "subscribed", granted)
	c.b.mapper.hasSubscribed(granted)
	c.client.scanOn(c, true)
	c.announce(asked)
	return true
}

// checkRequest finds what is wrong with a SUBSCRIBE or UNSUBSCRIBE packet whose filters are as they should be.
func (c *conn) checkRequest(pk *packets.Packet) packets.Code {
	switch {
	case pk.PacketID == 0: // [MQTT-2.2.1-3]
		return packets.ErrProtocolViolationNoPacketID
	case len(c.shown.filters) == 0: // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
		return packets.ErrProtocolViolationNoFilters
	case len(pk.Properties.SubscriptionIdentifier) > 1: // MQTT 5, 3.8.2.1.2
		return packets.ErrProtocolViolation
	}
	n := 0
	for left := (bodyReader{b: c.shown.filters}); len(left.b) > 0; n++ {
		left.filter(pk.FixedHeader.Type == packets.Subscribe)
	}
	if !c.takes(wire.SubAckSize(n)) {
		return packets.ErrPacketTooLarge
	}
	return packets.CodeSuccess
}

// options returns the options of a filter in a packet.
func (c *conn) options(bits byte, pk *packets.Packet) topic.Options {
	o := topic.Options{
		QoS: c.b.profile.qos(bits & optionQoS), NoLocal: bits&optionNoLocal != 0, RetainAsPublished: bits&optionPublished != 0,
		RetainHandling: bits >> optionHandling,
	}
	if ids := pk.Properties.SubscriptionIdentifier; len(ids) > 0 {
		o.Identifier = uint32(ids[0]) //nolint:gosec // a variable byte integer
	}
	return o
}

// grant makes a subscription and returns the reason code for it. It is that of
// the filter after so many others of the packet. The client's mutex is held.
func (c *conn) grant(filter string, before int, o topic.Options) (existed bool, code byte) {
	if code := c.refusedFilter(filter, before); code != 0 {
		return false, code
	}
	var err error
	if existed, err = c.b.index.Set(filter, c.client, o); err != nil {
		c.client.account() // there is not one more
		if errors.Is(err, topic.ErrTooManyLevels) {
			return false, packets.ErrQuotaExceeded.Code
		}
		return false, packets.ErrTopicFilterInvalid.Code
	}
	c.client.sess.Subscribe(filter, o)
	return existed, o.QoS
}

// refusedFilter returns the reason code for a filter that the client may not
// subscribe to, 0 for others. The client's mutex is held.
func (c *conn) refusedFilter(filter string, before int) byte {
	_, plain, _, err := topic.ParseShare(filter)
	others := c.client.sess.SubscriptionCount()
	if _, existed := c.client.sess.Subscription(filter); existed {
		others--
	}
	switch {
	case err != nil, closedFilter(plain), c.b.profile.refusesTopic(plain):
		return packets.ErrTopicFilterInvalid.Code
	case slices.Contains(c.limits.RefuseFilters, plain):
		return packets.ErrUnspecifiedError.Code
	case c.b.profile.isFull(others, before), c.limits.isFull(others, before): // before what costs more is asked
		return packets.ErrQuotaExceeded.Code
	case !auth.Allowed(c.rights, auth.Subscribe, plain):
		c.tell(slog.LevelInfo, "subscription denied", "principal", c.principal.String(), "filter", plain)
		return packets.ErrNotAuthorized.Code
	case others == c.client.sess.SubscriptionCount() && !c.client.chargeSubscription(c.limits.Principal.Subscriptions):
		c.tell(slog.LevelInfo, "subscription refused: the principal has too many", "principal", c.principal.String(), "filter", plain)
		return packets.ErrQuotaExceeded.Code
	}
	return 0
}

// unsubscribe handles UNSUBSCRIBE.
func (c *conn) unsubscribe(pk *packets.Packet) bool {
	if code := c.checkRequest(pk); code != packets.CodeSuccess {
		return c.reject(code)
	}
	var (
		reasons []byte
		gone    []string
	)
	alive := c.client.withSession(c, func() {
		for left := (bodyReader{b: c.shown.filters}); len(left.b) > 0; {
			name, _ := left.filter(false)
			filter := string(name)
			c.b.index.Remove(filter, c.client)
			if !c.client.sess.Unsubscribe(filter) {
				reasons = append(reasons, packets.CodeNoSubscriptionExisted.Code)
				continue
			}
			reasons = append(reasons, packets.CodeSuccess.Code)
			gone = append(gone, filter)
		}
	})
	if !alive || !c.commit() {
		return false
	}
	c.out.shut(wire.AppendUnsuback(c.out.open(), c.version, wire.SubAck{ID: pk.PacketID, Reasons: reasons}), true)
	c.b.subscriptionEvent(c, "unsubscribed", gone)
	return true
}

// scanPage is how many retained messages are looked at in one step.
const scanPage = 64

// scanLater notes that the retained messages for a subscription have to be
// delivered [MQTT-3.3.1-9] to [MQTT-3.3.1-11]. With again set its filter has come
// before in the packet: they come for both [MQTT-3.8.4-5]. mu is held.
func (c *client) scanLater(filter string, o topic.Options, existed, again bool) {
	if o.RetainHandling == 2 || o.RetainHandling == 1 && existed || strings.HasPrefix(filter, "$share/") {
		return
	}
	if c.b.profile.RetainedByName && strings.ContainsAny(filter, "+#") {
		return
	}
	if page := c.b.retainedFor(filter).Match(filter, "", scanPage, c.b.now()); len(page.Messages) == 0 && page.Done {
		c.sess.EndScan(filter)
		return
	}
	if again {
		c.sess.RepeatScan(filter)
		return
	}
	c.sess.BeginScan(filter)
}

// entryOf is the entry of one subscription alone.
func entryOf(o topic.Options) topic.Entry[*client] {
	e := topic.Entry[*client]{QoS: o.QoS}
	if o.Identifier != 0 {
		e.Identifiers = []uint32{o.Identifier}
	}
	return e
}

// scanOn delivers retained messages as long as the client keeps up. Where it
// stops, an acknowledgement or an outbox that drains takes it up again.
func (c *client) scanOn(k *conn, reader bool) {
	for more := true; more; {
		more = false
		c.withSession(k, func() { more = c.scanStep(reader) })
	}
}

// scanStep delivers one page and reports whether there may be another. mu is held.
func (c *client) scanStep(reader bool) bool {
	s, o, ok := c.sess.Scan()
	if !ok || c.sess.Len() > 0 || !c.live || !c.conn.out.room() {
		return false
	}
	now, entry := c.b.now(), entryOf(o)
	page := c.b.retainedFor(s.Filter).Match(s.Filter, s.After, scanPage, now)
	for i, m := range page.Messages {
		if !c.fits(m.Message, now) {
			if i > 0 {
				c.sess.Scanned(page.Messages[i-1].Topic)
			}
			return false
		}
		if c.mayReceive(m.Topic) {
			c.hand(m.Message, &entry, handling{retain: true}, now)
		}
	}
	if page.Done {
		c.sess.ScannedAll()
	} else {
		c.sess.Scanned(page.Next)
	}
	c.pump(now, reader)
	return true
}

// fits reports whether a retained message can be handed over without dropping
// anything. If not, the client still has something to take or to acknowledge,
// after which the scan goes on. mu is held.
func (c *client) fits(m *wire.Message, now int64) bool {
	return c.conn.out.room() && (c.sess.Fits(m, now) || c.sess.Len()+c.sess.InFlight() == 0)
}
