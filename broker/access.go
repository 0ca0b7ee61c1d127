package broker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/statestore"
)

// admit finds out who the client is and whether it may connect. It is told no more than that it may not.
func (c *conn) admit(pk *packets.Packet) packets.Code {
	if c.b.who == nil && c.b.guard == nil {
		return packets.CodeSuccess
	}
	shown := auth.Credentials{
		ClientID: c.clientID, Username: string(pk.Connect.Username), Password: pk.Connect.Password, HasPassword: pk.Connect.PasswordFlag,
	}
	if from, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		shown.Remote = from.Addr()
	}
	if peer, ok := c.Conn.(auth.Peer); ok {
		peer.Complete(&shown)
	}
	if code := c.authenticate(&shown); code != packets.CodeSuccess {
		return code
	}
	return c.authorize(&shown)
}

func (c *conn) authenticate(shown *auth.Credentials) packets.Code {
	if c.b.who == nil {
		return packets.CodeSuccess
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.limits.ConnectTimeout)
	defer cancel()
	p, err := c.b.who.Authenticate(ctx, shown)
	if err == nil {
		c.principal, c.owner = p, p.Owner()
		return packets.CodeSuccess
	}
	c.b.log.Debug("client is not authenticated", "client_id", c.clientID,
		"remote", c.RemoteAddr().String(), "listener", shown.Listener, "error", err)
	if errors.Is(err, auth.ErrDenied) || errors.Is(err, auth.ErrNoCredentials) {
		return packets.ErrBadUsernameOrPassword
	}
	return packets.ErrServerUnavailable
}

// authorize binds what the client may do, and asks whether it may connect.
func (c *conn) authorize(shown *auth.Credentials) packets.Code {
	c.link = &auth.Link{
		MQTT: true, ClientID: c.clientID, Remote: shown.Remote, Secure: shown.Secure, Domain: shown.Domain, Persistent: !c.cleanStart || c.expiry > 0,
	}
	if c.will != nil {
		c.link.WillTopic = c.will.message.Topic
	}
	if c.b.guard == nil {
		return packets.CodeSuccess
	}
	if strings.ContainsAny(c.clientID, "+#") { // it may become part of a filter by a variable of a policy
		return packets.ErrClientIdentifierNotValid
	}
	c.rights = c.b.guard.Rights(c.principal, *c.link)
	if c.rights.Allows(auth.Connect, c.clientID) {
		return packets.CodeSuccess
	}
	c.tell(slog.LevelWarn, "connection denied", "principal", c.principal.String())
	return packets.ErrNotAuthorized
}

// tell logs what the client has brought about, as far as the log is not flooded by its address or network.
func (c *conn) tell(level slog.Level, text string, attrs ...any) {
	remote := c.RemoteAddr().String()
	source := remote
	if from, err := netip.ParseAddrPort(remote); err == nil {
		source = auth.Source(from.Addr()).String()
	}
	c.b.quiet.Log(context.Background(), level, source, text, append([]any{"client_id", c.clientID, "remote", remote}, attrs...)...)
}

// mayOwn reports whether the session of cl, as far as there is one, is that of the principal of c. A
// session from a time without authentication is dropped for whoever comes first. The mutex of cl is held.
func (c *conn) mayOwn(cl *client, now int64) bool {
	over := cl.conn == nil && cl.will == nil && cl.leaving == nil && cl.sess.Over(now)
	if over || c.b.guard == nil || cl.principal.Owner() == c.principal.Owner() {
		return true
	}
	if cl.principal.IsAnonymous() {
		c.cleanStart = true
		return true
	}
	c.tell(slog.LevelWarn, "connection denied: the session belongs to another principal", "principal", c.principal.String(), "owner", cl.principal.String())
	c.b.denied(c.principal, *c.link, auth.Connect, c.clientID, "the session belongs to "+cl.principal.String())
	return false
}

// mayPublish reports whether rights are enough for a message.
func mayPublish(r auth.Rights, m *wire.Message) bool {
	return auth.Allowed(r, auth.Publish, m.Topic) && (!m.Retain || auth.Allowed(r, auth.RetainPublish, m.Topic))
}

// mayPublish reports whether the client may publish a message.
func (c *client) mayPublish(m *wire.Message) bool {
	r := c.rights.Load()
	return r == nil || mayPublish(r, m)
}

// known returns the ID of who has proved who it is, "" for others.
func known(p *auth.Principal) string {
	if p.IsAnonymous() {
		return ""
	}
	return p.ID
}

// box makes rights fit for an atomic pointer.
type box struct{ auth.Rights }

// setOwner makes the session that of the principal of its connection k. A will that nobody in particular has left, and that
// is still being asked for, is not stored any more: the next run would take it for that of the new owner. mu is held.
func (c *client) setOwner(k *conn) {
	if c.leaving != nil && c.principal.Owner() != k.owner {
		c.leaving = nil
		c.setWill(c.will)
	}
	c.principal, c.link = k.principal, k.link
	if k.rights != nil {
		c.rights.Store(&box{k.rights})
	}
	c.ownerChanged = c.b.guard != nil && c.b.journal != nil
}

// mayReceive reports whether the client may get messages of a topic now.
func (c *client) mayReceive(topicName string) bool {
	r := c.rights.Load()
	return r == nil || r.Shows(auth.Receive, topicName)
}

// receives is mayReceive for a session that is about to send a message that has waited.
func (c *client) receives(m *wire.Message) bool { return c.mayReceive(m.Topic) }

// keyOwner is the key of the owner of a session. Package session has those before it.
const keyOwner = "v"

// linkedOwner is the format of an owner with the link; before it there was the principal alone (storedFormat).
const linkedOwner = 2

// owner is the stored form of whose a session is, and what is known of his last connection: while he is away, that decides
// what is kept for him, and whether his will is sent.
type owner struct {
	Principal *auth.Principal
	Link      *auth.Link
}

// parseOwner returns the owner of the session of a client from its stored form, nil for nobody.
func parseOwner(clientID string, value []byte) (o owner, err error) {
	o.Link = &auth.Link{MQTT: true, ClientID: clientID, Persistent: true}
	switch {
	case value == nil:
	case len(value) > 0 && value[0] == storedFormat:
		err = json.Unmarshal(value[1:], &o.Principal)
	case len(value) > 0 && value[0] == linkedOwner:
		err = json.Unmarshal(value[1:], &o)
	default:
		return o, errStored
	}
	if err != nil || o.Link == nil {
		return o, errors.Join(errStored, err)
	}
	return o, nil
}

// drainOwner has the owner stored as long as something of the client is. Nobody is stored too where there are rights,
// as his may depend on the link.
func (c *client) drainOwner() (it statestore.Item, ok bool) {
	want := (c.persistent.Load() || c.will != nil || c.leaving != nil) && (c.b.guard != nil || !c.principal.IsAnonymous())
	changed := c.ownerChanged || want != c.ownerKept
	c.ownerChanged = false
	if !changed || !want && !c.ownerKept {
		return it, false
	}
	c.ownerKept = want
	it = statestore.Item{Space: spaceSessions, Partition: c.id, Key: []byte(keyOwner)}
	if want {
		body, err := json.Marshal(owner{c.principal, c.link})
		if err != nil {
			body = []byte("{}") // never: there is nothing in it that is no JSON
		}
		it.Value = append([]byte{linkedOwner}, body...)
	}
	return it, true
}

// restoreOwner gives a client of the last run its owner. value is nil for nobody.
func (c *client) restoreOwner(value []byte) error {
	o, err := parseOwner(c.id, value)
	if err != nil {
		return err
	}
	if o.Principal != nil && c.b.who != nil {
		c.b.who.Recall(o.Principal)
	}
	c.principal, c.link, c.ownerKept = o.Principal, o.Link, value != nil
	c.charge(o.Principal.Owner(), 0)
	if c.b.guard != nil {
		c.rights.Store(&box{c.b.guard.Rights(o.Principal, *o.Link)})
	}
	return nil
}

// mayStay says whether the client may be connected, by what was found out when it connected: 0, or why not.
func (c *conn) mayStay() packets.Code {
	switch {
	case !c.principal.CountsAt(c.b.clock()):
		return packets.ErrBadUsernameOrPassword
	case !auth.Allowed(c.rights, auth.Connect, c.clientID):
		return packets.ErrNotAuthorized
	}
	return packets.CodeSuccess
}

// Recheck ends the connections of those who may not be connected any more: whose credentials do not
// count, or who may not connect with their client id. It is called when policies or credentials have
// changed, and returns how many it has ended. Connections whose credentials expire end without it.
func (b *Broker) Recheck() (ended int) {
	list := b.clients.all()
	for _, c := range list {
		c.mu.Lock()
		c.noteTimed()
		c.mu.Unlock()
	}
	return recheck(list)
}

// RecheckTimed is Recheck for those who may be shut out because time goes on: by policies that depend on it. It costs
// nothing for others.
func (b *Broker) RecheckTimed() (ended int) { return recheck(b.timed.all()) }

func recheck(list []*client) (ended int) {
	for _, c := range list {
		c.mu.Lock()
		k := c.conn
		c.mu.Unlock()
		if k != nil && k.mayStay() != packets.CodeSuccess && c.evict() {
			ended++
		}
	}
	return ended
}

// noteTimed has RecheckTimed look at the client, or not. It is called when that may have changed; mu is held.
func (c *client) noteTimed() {
	c.b.timed.note(c, c.conn != nil && c.conn.rights != nil && c.conn.rights.Timed(auth.Connect))
}

// evict ends the connection of the client, unless it may stay.
func (c *client) evict() (evicted bool) {
	c.b.together(func(a *aftermath) {
		c.mu.Lock()
		defer c.unlock()
		k := c.conn
		if k == nil {
			return
		}
		code := k.mayStay()
		if code == packets.CodeSuccess {
			return
		}
		evicted = true
		c.b.log.Warn("connection ended: it is not allowed any more", "client_id", c.id, "principal", k.principal.String())
		end := cause{
			code: packets.ErrNotAuthorized.Code, text: packets.ErrNotAuthorized.Reason, reason: reasonForbidden,
			noWill: k.principal.Withdrawn(), // whose time is over was to be trusted until now
		}
		k.stop(end)
		c.release(&end, c.b.now(), a)
		c.settle(c.b.now(), a)
	})
	return evicted
}

// expire has the connection end when the credential of its client does. The mutex of the client is held.
func (c *conn) expire() {
	if c.principal == nil || c.principal.Expires.IsZero() {
		return
	}
	cl := c.client
	c.expiring = time.AfterFunc(c.principal.Expires.Sub(c.b.clock()), func() {
		if !c.b.begin() {
			return
		}
		defer c.b.tasks.Done()
		if !cl.evict() { // the clock was set back, or another connection has taken over
			cl.mu.Lock()
			defer cl.mu.Unlock()
			if cl.conn == c {
				c.expire()
			}
		}
	})
}

// clientSet is some clients. The zero value is ready.
type clientSet struct {
	mu sync.Mutex
	m  map[*client]struct{}
}

// note puts a client in or takes it out.
func (s *clientSet) note(c *client, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in {
		s.m = put(s.m, c, struct{}{})
	} else {
		delete(s.m, c)
	}
}

func (s *clientSet) all() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.m))
}
