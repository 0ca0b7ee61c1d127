package broker

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// announcement is a delta to be told to a client that has begun to listen.
type announcement struct {
	id    shadow.ID
	entry topic.Entry[*client]
}

// closedFilter reports whether a filter without wildcards is for a topic under
// that of things which is neither a request nor an answer to one. Answers of an
// unknown kind pass: their number may grow.
func closedFilter(filter string) bool {
	if !strings.HasPrefix(filter, shadow.TopicPrefix) || strings.ContainsAny(filter, "+#") {
		return false
	}
	if _, ok := shadow.ParseTopic(filter); ok {
		return false
	}
	parent := filter[:strings.LastIndexByte(filter, '/')]
	_, ok := requestTopic(parent)
	return !ok
}

// deltaOf returns the shadow whose update/delta topic a filter is for: the names
// of thing and shadow are in it, wildcards may only come after them.
func deltaOf(filter string) (id shadow.ID, ok bool) {
	rest, ok := strings.CutPrefix(filter, shadow.TopicPrefix)
	if !ok {
		return id, false
	}
	id.Thing, rest, ok = strings.Cut(rest, "/shadow/")
	if !ok {
		return id, false
	}
	if named, isNamed := strings.CutPrefix(rest, "name/"); isNamed {
		if id.Name, _, ok = strings.Cut(named, "/"); !ok || id.Name == "" {
			return id, false
		}
	}
	if id.Validate() != nil {
		return id, false
	}
	t := shadow.Topic{ID: id, Op: shadow.OpUpdate, Kind: shadow.KindDelta}
	return id, topic.Match(filter, t.String())
}

// ask adds the delta that a subscription is for, once for each shadow.
func ask(asked []announcement, filter string, o topic.Options) []announcement {
	id, ok := deltaOf(filter)
	if !ok {
		return asked
	}
	id = shadow.ID{Thing: strings.Clone(id.Thing), Name: strings.Clone(id.Name)}
	entry := entryOf(o)
	i := slices.IndexFunc(asked, func(a announcement) bool { return a.id == id })
	if i < 0 {
		return append(asked, announcement{id, entry})
	}
	had := &asked[i].entry
	had.QoS = max(had.QoS, entry.QoS)
	had.Identifiers = append(had.Identifiers, entry.Identifiers...)
	return asked
}

// expectDelta notes that the current delta of a shadow is being asked for, so
// that it is not told again if it comes by itself meanwhile. mu is held.
func (c *client) expectDelta(id shadow.ID) { c.deltas = put(c.deltas, id, 0) }

// announce tells the client the current deltas, each in order with the
// messages of updates, except those that it has got, or will get from its queue.
func (c *conn) announce(asked []announcement) {
	for i := range asked {
		a := &asked[i]
		c.b.things.AnnounceDelta(a.id, func(m *things.Message) {
			c.client.withSession(c, func() { c.client.tellDelta(a, m) })
		})
	}
}

// tellDelta delivers a delta that was asked for; m is nil when there is none. mu is held.
func (c *client) tellDelta(a *announcement, m *things.Message) {
	told := c.deltas[a.id]
	delete(c.deltas, a.id)
	if len(c.deltas) == 0 {
		c.deltas = nil
	}
	if m == nil || m.Version <= told || !c.mayReceive(m.Topic) {
		return
	}
	c.hand(wire.NewMessage(wire.Message{Topic: m.Topic, Payload: m.Payload(), QoS: 1}), &a.entry, handling{}, c.b.now())
}

// resumed returns the deltas to announce to a client that comes back. mu is held.
func (c *client) resumed() []announcement {
	var asked []announcement
	for s := range c.sess.Subscriptions("") {
		asked = ask(asked, s.Filter, s.Options)
	}
	if len(asked) == 0 {
		return nil
	}
	for i := range asked {
		c.expectDelta(asked[i].id)
	}
	for i := range asked {
		t := shadow.Topic{ID: asked[i].id, Op: shadow.OpUpdate, Kind: shadow.KindDelta}
		c.spilledOn(t.String(), func(m *wire.Message) bool {
			c.deltas[t.ID] = versionIn(m.Payload)
			return false
		})
	}
	for m := range c.sess.Pending() {
		t, ok := shadow.ParseTopic(m.Topic)
		if _, ours := c.deltas[t.ID]; ok && ours && t.Kind == shadow.KindDelta {
			c.deltas[t.ID] = max(c.deltas[t.ID], versionIn(m.Payload))
		}
	}
	return asked
}

// holds reports whether the client has a message of the service in its queue, or may get it again. mu is held.
func (c *client) holds(source *things.Message) bool {
	for m := range c.sess.Pending() {
		if carries(m, source) {
			return true
		}
	}
	found := false
	c.spilledOn(source.Topic, func(m *wire.Message) bool {
		found = carries(m, source)
		return !found
	})
	return found
}

// carries reports whether m is the message of the service.
func carries(m *wire.Message, source *things.Message) bool {
	return m.Topic == source.Topic && versionIn(m.Payload) == source.Version
}

// versionIn returns the version that the body of a message of ours carries.
func versionIn(body []byte) uint64 {
	var v struct {
		Version uint64 `json:"version"`
		Current struct {
			Version uint64 `json:"version"`
		} `json:"current"`
	}
	_ = json.Unmarshal(body, &v) // 0 does no harm: the message is told twice
	return max(v.Version, v.Current.Version)
}
