package broker_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
)

// denials is a guard: it allows what is not on its list of "user action name".
type denials struct {
	mu   sync.Mutex
	list map[string]bool
}

func (d *denials) set(denied bool, entries ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list == nil {
		d.list = map[string]bool{}
	}
	for _, e := range entries {
		d.list[e] = denied
	}
}

func (d *denials) Rights(p *auth.Principal, _ auth.Link) auth.Rights { return denialsFor{d, p} }

type denialsFor struct {
	*denials
	who *auth.Principal
}

func (denialsFor) Timed(auth.Action) bool { return false }

func (r denialsFor) Shows(a auth.Action, name string) bool { return r.Allows(a, name) }

func (r denialsFor) Allows(a auth.Action, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	user := "nobody"
	if r.who != nil {
		user = r.who.Name
	}
	return !r.list[user+" "+strings.TrimPrefix(a.String(), "iot:")+" "+name]
}

// guarded is a server for users, and what is denied on it.
func guarded(t *testing.T) (*server, *denials) {
	t.Helper()
	d := &denials{}
	return start(t, broker.Options{Authenticator: users{}, Guard: d}), d
}

// login are options of a persistent session of a user.
func login(user, id string) connectOptions {
	return connectOptions{id: id, keep: true, expiry: 1000, edit: as(user, "secret")}
}

func TestReceiveIsAskedForEveryDelivery(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	bob, app := s.connect(t, login("bob", "bob")), s.connect(t, login("app", "app"))
	bob.subscribe(1, "a/#")
	publish := func(name, payload string, retain bool) {
		t.Helper()
		pk := message(name, payload, 1, 9)
		pk.FixedHeader.Retain = retain
		app.send(pk)
		if ack := app.want(packets.Puback); ack.ReasonCode >= 0x80 {
			t.Fatalf("PUBACK = %#x", ack.ReasonCode)
		}
	}
	publish("a/x", "1", true)
	bob.wantMessage("a/x")

	d.set(true, "bob Receive a/x")
	for qos := range byte(3) {
		bob.subscribe(qos, "a/#") // brings retained messages again
		publish("a/x", "2", true)
		publish("a/y", "1", false)
		bob.wantMessage("a/y")
		bob.wantQuiet()
	}
	bob.subscribe(1, "a/#")

	d.set(false, "bob Receive a/x")
	publish("a/x", "in flight", false)
	if pk := bob.want(packets.Publish); string(pk.Payload) != "in flight" { // and not acknowledged
		t.Errorf("the message is %s", pk.Payload)
	}
	bob.leave()
	publish("a/x", "queued", false)
	publish("a/y", "2", false)
	d.set(true, "bob Receive a/x")
	bob = s.connect(t, login("bob", "bob"))
	bob.wantMessage("a/y")
	bob.wantQuiet()
}

// A QoS 2 message that the client may have half of is brought to its end without its content.
func TestReceiveOfExactlyOnce(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	bob, app := s.connect(t, login("bob", "bob")), s.connect(t, login("app", "app"))
	bob.subscribe(2, "a")
	app.send(message("a", "x", 2, 1))
	finish(app, 2, 1)
	bob.want(packets.Publish)
	bob.leave()
	d.set(true, "bob Receive a")
	bob = s.connect(t, login("bob", "bob"))
	if pk, err := bob.next(patience); err != nil || pk.FixedHeader.Type != packets.Pubrel {
		t.Fatalf("packet %d, %v, want PUBREL", pk.FixedHeader.Type, err)
	}
}

func TestDeltaOnSubscribeIsADelivery(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	s.do(t, `{"state":{"desired":{"on":true}}}`)
	d.set(true, "bob Receive "+delta)
	bob := s.connect(t, login("bob", "bob"))
	bob.subscribe(1, delta)
	bob.wantQuiet()
}

// The members of a group who may not receive a message do not use it up.
func TestSharedSubscriptionGoesToWhoMayReceive(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	d.set(true, "bob Receive a")
	bob, eve, app := s.connect(t, login("bob", "bob")), s.connect(t, login("eve", "eve")), s.connect(t, login("app", "app"))
	bob.subscribe(1, "$share/g/a")
	eve.subscribe(1, "$share/g/a")
	for i := range uint16(4) {
		app.send(message("a", "x", 1, i+1))
		app.want(packets.Puback)
		eve.wantMessage("a")
	}
	bob.wantQuiet()
	eve.leave() // and is the only one who may have it all the same
	for i := range uint16(2) {
		app.send(message("a", "y", 1, i+1))
		app.want(packets.Puback)
	}
	bob.wantQuiet()
	eve = s.connect(t, login("eve", "eve"))
	eve.wantMessage("a")
	eve.wantMessage("a")
}

// What a member leaves whose session ends goes to one who may receive it.
func TestSharedMessagesAreLeftToWhoMayReceive(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	d.set(true, "bob Receive a")
	bob, eve, app := s.connect(t, login("bob", "bob")), s.connect(t, login("eve", "eve")), s.connect(t, login("app", "app"))
	alice := s.connect(t, login("alice", "alice"))
	alice.subscribe(1, "$share/g/a")
	alice.leave()
	for i := range uint16(4) {
		app.send(message("a", "x", 1, i+1))
		app.want(packets.Puback)
	}
	bob.subscribe(1, "$share/g/a")
	eve.subscribe(1, "$share/g/a")
	s.connect(t, connectOptions{id: "alice", edit: as("alice", "secret")}) // with a clean start
	for range 4 {
		eve.wantMessage("a")
	}
	bob.wantQuiet()
}

func TestRetainIsAPermissionOfItsOwn(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	d.set(true, "bob RetainPublish a", "bob RetainPublish "+update)
	bob := s.connect(t, login("bob", "bob"))
	for _, name := range []string{"a", update} {
		pk := message(name, `{"state":{}}`, 1, 1)
		pk.FixedHeader.Retain = true
		bob.send(pk)
		if ack := bob.want(packets.Puback); ack.ReasonCode != 0x87 {
			t.Errorf("PUBACK for %s = %#x, want 0x87", name, ack.ReasonCode)
		}
	}
	_, ack := s.tryConnect(t, connectOptions{id: "w", edit: func(pk *packets.Packet) {
		as("bob", "secret")(pk)
		withWill("a", "x", func(pk *packets.Packet) { pk.Connect.WillRetain = true })(pk)
	}})
	if ack.ReasonCode != 0x87 {
		t.Errorf("CONNACK with a will that is retained = %#x, want 0x87", ack.ReasonCode)
	}
}

func TestAliasHidesNoTopic(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	d.set(true, "bob Publish secret")
	bob := s.connect(t, login("bob", "bob"))
	for i, name := range []string{"secret", ""} {
		pk := message(name, "x", 1, uint16(i)+1)
		pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 1, true
		bob.send(pk)
		if ack := bob.want(packets.Puback); ack.ReasonCode != 0x87 {
			t.Errorf("PUBACK for topic %q = %#x, want 0x87", name, ack.ReasonCode)
		}
	}
}

func TestWillIsAskedForWhenItIsSent(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"will", update} {
		s, d := guarded(t)
		app := s.connect(t, login("app", "app"))
		app.subscribe(1, "will", update)
		bob := s.connect(t, connectOptions{id: "bob", edit: func(pk *packets.Packet) {
			as("bob", "secret")(pk)
			withWill(name, `{"state":{"reported":{"a":1}}}`, nil)(pk)
		}})
		d.set(true, "bob Publish "+name)
		_ = bob.conn.Close()
		eventually(t, "the denial", func() bool { return s.Stats().Refused == 1 })
		app.wantQuiet()
	}
}

// The will of a crashed server's client is sent with the rights of its principal.
func TestWillIsAskedForAfterKill(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	o := login("bob", "bob")
	o.edit = func(pk *packets.Packet) {
		as("bob", "secret")(pk)
		withWill("will", "x", func(pk *packets.Packet) { pk.Connect.WillRetain = true })(pk)
	}
	s.connect(t, o)
	d.set(true, "bob Publish will", "nobody Publish will")
	s = s.kill(t, broker.Options{Authenticator: users{}, Guard: d})
	if _, ok := s.RetainedMessage("will"); ok {
		t.Error("the will was sent")
	}
	d.set(false, "bob Publish will") // but still nobody may
	s = s.kill(t, broker.Options{Authenticator: users{}, Guard: d})
	s.connect(t, o)
	s = s.kill(t, broker.Options{Authenticator: users{}, Guard: d})
	if m, ok := s.RetainedMessage("will"); !ok || string(m.Payload) != "x" {
		t.Errorf("the retained message is %+v, %t", m, ok)
	}
}

func TestResponseTopicNeedsPublish(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	d.set(true, "bob Publish answers")
	app, bob := s.connect(t, login("app", "app")), s.connect(t, login("bob", "bob"))
	app.subscribe(1, "answers", "others")
	for _, name := range []string{"answers", "others"} {
		pk := message(update, `{"state":{}}`, 1, 1)
		pk.Properties.ResponseTopic = name
		bob.send(pk)
		bob.want(packets.Puback)
	}
	app.wantMessage("others")
	app.wantQuiet()
}

func TestSessionBelongsToItsPrincipal(t *testing.T) {
	t.Parallel()
	s, d := guarded(t)
	app, alice := s.connect(t, login("app", "app")), s.connect(t, login("alice", "c"))
	alice.subscribe(1, "a")
	refuse := func(when string) {
		t.Helper()
		if _, ack := s.tryConnect(t, login("bob", "c")); ack.ReasonCode != 0x87 {
			t.Errorf("another principal, %s: CONNACK = %#x, want 0x87", when, ack.ReasonCode)
		}
		if _, ack := s.tryConnect(t, connectOptions{id: "c", edit: as("bob", "secret")}); ack.ReasonCode != 0x87 {
			t.Errorf("another principal with clean start, %s: CONNACK = %#x, want 0x87", when, ack.ReasonCode)
		}
	}
	refuse("connected")
	alice.ping()
	alice.leave()
	app.send(message("a", "x", 1, 1))
	app.want(packets.Puback)
	refuse("offline")
	s = s.kill(t, broker.Options{Authenticator: users{}, Guard: d})
	refuse("after a restart")
	alice, ack := s.tryConnect(t, login("alice", "c"))
	if !ack.SessionPresent {
		t.Error("the owner's session is gone")
	}
	alice.wantMessage("a")
	alice.leave()
	end := s.connect(t, connectOptions{id: "c", edit: as("alice", "secret")})
	end.leave()
	if _, ack := s.tryConnect(t, login("bob", "c")); ack.ReasonCode != 0 || ack.SessionPresent {
		t.Errorf("after the end of the session: CONNACK = %#x, session present %t", ack.ReasonCode, ack.SessionPresent)
	}
}

// A will that is still being asked for is that of its owner, whoever comes with the client id, over a restart too.
func TestWillUnderWayBelongsToItsPrincipal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		owner func(*packets.Packet)
		code  byte // for somebody else
		done  int  // wills, after the restart
	}{
		{as("alice", "secret"), 0x87, 1},
		{func(*packets.Packet) {}, 0, 0}, // the session of nobody is dropped for whoever comes
	} {
		o := broker.Options{Authenticator: visitors{}, Guard: &denials{}}
		s := start(t, o)
		dying := s.connect(t, connectOptions{id: "c", edit: func(pk *packets.Packet) {
			test.owner(pk)
			withWill(update, `{"state":{"reported":{"a":1}}}`, nil)(pk)
		}})
		held, release := make(chan struct{}), make(chan struct{})
		s.store.Intercept(func(func() []error) []error {
			close(held)
			<-release
			return []error{errKilled}
		})
		_ = dying.conn.Close()
		<-held
		if _, ack := s.tryConnect(t, login("bob", "c")); ack.ReasonCode != test.code {
			t.Errorf("CONNACK of somebody else = %#x, want %#x", ack.ReasonCode, test.code)
		}
		close(release)
		s = s.kill(t, o)
		if n := s.Stats().Requests; n > int64(test.done) {
			t.Errorf("%d requests by wills after the restart, want %d", n, test.done)
		}
		eventually(t, "the will is done", func() bool {
			list, err := s.things.Changes(t.Context(), shadow.ID{Thing: "lamp"}, 0, 10)
			for _, entry := range list {
				if by := entry.Author; by.Principal != "user:alice" {
					t.Fatalf("the will is by %+v", by)
				}
			}
			return err == nil && len(list) == test.done
		})
	}
}

// Sessions from a time without authentication are for nobody.
func TestSessionOfNobodyIsDropped(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	s.connect(t, connectOptions{id: "c", keep: true, expiry: 1000}).subscribe(1, "a")
	s = s.kill(t, broker.Options{Authenticator: users{}, Guard: &denials{}})
	if _, ack := s.tryConnect(t, login("alice", "c")); ack.ReasonCode != 0 || ack.SessionPresent {
		t.Errorf("CONNACK = %#x, session present %t, want a new session", ack.ReasonCode, ack.SessionPresent)
	}
}

// links is a guard that allows everything, and knows the links of the clients.
type links struct{ sync.Map }

func (l *links) Rights(_ *auth.Principal, link auth.Link) auth.Rights {
	l.Store(link.ClientID, link)
	return allowed{}
}

type allowed struct{}

func (allowed) Allows(auth.Action, string) bool { return true }

func (allowed) Shows(auth.Action, string) bool { return true }

func (allowed) Timed(auth.Action) bool { return false }

// What is decided for somebody who is away is decided with the link of his last connection, after a restart too.
func TestLinkIsKnownAfterKill(t *testing.T) {
	t.Parallel()
	before := &links{}
	s := start(t, broker.Options{Authenticator: visitors{}, Guard: before})
	s.connect(t, leavingWill(login("bob", "will"), "wills/bob", 100))
	s.connect(t, login("bob", "away")).leave()
	s.connect(t, connectOptions{id: "nobody", keep: true, expiry: 1000}).leave()
	after := &links{}
	s.kill(t, broker.Options{Authenticator: visitors{}, Guard: after})
	for _, id := range []string{"will", "away", "nobody"} {
		was, _ := before.Load(id)
		is, _ := after.Load(id)
		if was != is || !was.(auth.Link).Remote.IsLoopback() {
			t.Errorf("the link of %s was %+v and is %+v", id, was, is)
		}
	}
}

// visitors is users, and others who are nobody.
type visitors struct{ users }

func (v visitors) Authenticate(ctx context.Context, c *auth.Credentials) (*auth.Principal, error) {
	if !c.HasPassword {
		return auth.Nobody(), nil
	}
	return v.users.Authenticate(ctx, c)
}

// An owner that was stored without his link is the owner all the same.
func TestOwnerWithoutLink(t *testing.T) {
	t.Parallel()
	const spaceSessions = 1
	store := memstore.New(statestore.Options{})
	body := append([]byte{1}, `{"ID":"user:bob","Kind":"user","Name":"bob"}`...)
	o := broker.Options{Authenticator: users{}, Guard: &denials{}}
	s := startOn(t, o, store, true)
	s.connect(t, login("bob", "c")).leave()
	s.stop()
	if err := store.Put(t.Context(), []statestore.Item{{Space: spaceSessions, Partition: "c", Key: []byte("v"), Value: body}}); err != nil {
		t.Fatal(err)
	}
	s = startOn(t, o, store, true)
	if _, ack := s.tryConnect(t, login("alice", "c")); ack.ReasonCode != 0x87 {
		t.Errorf("CONNACK of somebody else = %#x, want 0x87", ack.ReasonCode)
	}
	if _, ack := s.tryConnect(t, login("bob", "c")); ack.ReasonCode != 0 || !ack.SessionPresent {
		t.Errorf("CONNACK of the owner = %#x, session present %t", ack.ReasonCode, ack.SessionPresent)
	}
}

func TestEndedSessionsLeaveNoOwner(t *testing.T) {
	t.Parallel()
	store := memstore.New(statestore.Options{})
	s := startOn(t, broker.Options{Authenticator: users{}, Guard: &denials{}}, store, true)
	s.connect(t, login("alice", "c")).leave()
	s.connect(t, connectOptions{id: "c", edit: as("alice", "secret")}).leave()
	s.stop()
	for space := range byte(4) {
		err := store.Scan(t.Context(), space, func(it statestore.Item) error {
			t.Errorf("item %q of %q is left", it.Key, it.Partition)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecheck(t *testing.T) {
	t.Parallel()
	d, who := &denials{}, &revocable{}
	s := start(t, broker.Options{Authenticator: who, Guard: d})
	alice, bob, eve := s.connect(t, login("alice", "alice")), s.connect(t, login("bob", "bob")), s.connect(t, login("eve", "eve"))
	if n := s.Recheck(); n != 0 {
		t.Errorf("%d connections ended, want none", n)
	}
	d.set(true, "alice Connect alice")
	who.revoke("bob")
	if n := s.Recheck(); n != 2 {
		t.Errorf("%d connections ended, want 2", n)
	}
	alice.wantEnd(0x87)
	bob.wantEnd(0x87)
	eve.ping()
	if _, ack := s.tryConnect(t, login("alice", "alice")); ack.ReasonCode != 0x87 {
		t.Errorf("CONNACK = %#x, want 0x87", ack.ReasonCode)
	}
}

// asked is a guard that counts how often it is asked whether somebody may connect.
type asked struct {
	auth.Guard
	mu sync.Mutex
	n  map[string]int // by name
}

func (g *asked) Rights(p *auth.Principal, l auth.Link) auth.Rights {
	return askedBy{g.Guard.Rights(p, l), g, p.Name}
}

// take returns the counts since the last call.
func (g *asked) take() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.n
	g.n = nil
	return n
}

type askedBy struct {
	auth.Rights
	g   *asked
	who string
}

func (r askedBy) Allows(a auth.Action, name string) bool {
	if a == auth.Connect {
		r.g.mu.Lock()
		defer r.g.mu.Unlock()
		if r.g.n == nil {
			r.g.n = map[string]int{}
		}
		r.g.n[r.who]++
	}
	return r.Rights.Allows(a, name)
}

// TestRecheckTimed has time pass under policies that depend on it: only those whom they may shut out are asked about.
func TestRecheckTimed(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).Unix()
	now.Store(noon - 1)
	until := func(action string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "` + action + `", "Resource": "*",
			"Condition": {"DateLessThan": {"aws:CurrentTime": "2026-01-01T12:00:00Z"}}}}`)}
	}
	attached := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	files := fstest.MapFS{
		"noon.json": until("*"), "talk.json": until("iot:Publish"),
		"attachments.json": attached(`{"user:alice": ["noon"], "user:bob": ["device", "talk"]}`),
	}
	engine, err := authz.New(authz.Options{Default: []string{"device"}, Files: files, Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	if err != nil {
		t.Fatal(err)
	}
	g := &asked{Guard: engine}
	s := start(t, broker.Options{Authenticator: users{}, Guard: g})
	alice, bob, eve := s.connect(t, login("alice", "alice")), s.connect(t, login("bob", "bob")), s.connect(t, login("eve", "eve"))
	check := func(when string, ended int, want map[string]int) {
		t.Helper()
		g.take()
		n := s.RecheckTimed()
		if got := g.take(); n != ended || !maps.Equal(got, want) {
			t.Errorf("%s: %d connections ended after the questions %v, want %d after %v", when, n, got, ended, want)
		}
	}
	check("before the time", 0, map[string]int{"alice": 1})
	now.Store(noon)
	check("at the end of the time", 1, map[string]int{"alice": 2}) // once more under the lock of the session
	alice.wantEnd(0x87)
	check("after it", 0, nil)
	now.Store(noon - 1)
	files["attachments.json"] = attached(`{"user:bob": ["noon"]}`)
	engine.Reload(true)
	if n := s.Recheck(); n != 0 {
		t.Errorf("%d connections ended, want none", n)
	}
	check("with another policy", 0, map[string]int{"bob": 1})
	s.connect(t, login("bob", "bob")) // takes over
	bob.wantEnd(0x8e)
	check("with another connection", 0, map[string]int{"bob": 1})
	files["attachments.json"] = attached(`{}`)
	engine.Reload(true)
	s.Recheck()
	check("without the policy", 0, nil)
	eve.ping()
}

// A connection whose session ends with it leaves the journal nothing to do, again and again.
func TestCleanSessionsOfPrincipalsSettle(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Authenticator: users{}, Guard: &denials{}, Store: memstore.New(statestore.Options{})})
	s.connect(t, connectOptions{id: "bob", edit: as("bob", "secret")})
	eventually(t, "the journal settles", func() bool {
		for range 10_000 { // for longer than it takes to find that there is nothing to store
			if !s.Settled() {
				return false
			}
		}
		return true
	})
}

// A credential that is taken back while its owner logs in lets nobody in, whatever was found out before.
func TestCredentialThatGoesDuringTheLogin(t *testing.T) {
	t.Parallel()
	who := &revocable{}
	s := start(t, broker.Options{Authenticator: who, Guard: &denials{}})
	who.found = func() {
		who.revoke("bob")
		s.Recheck()
	}
	if _, ack := s.tryConnect(t, login("bob", "bob")); ack.ReasonCode != 0x86 {
		t.Errorf("CONNACK = %#x, want 0x86", ack.ReasonCode)
	}
	if n := s.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestConnectionEndsWithItsCredential(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Authenticator: &revocable{life: time.Second}, Guard: &denials{}})
	alice := s.connect(t, leavingWill(login("alice", "alice"), "will/alice", 0))
	alice.wantEnd(0x87)
	bob := s.connect(t, login("bob", "bob"))
	bob.subscribe(1, "will/#")
	bob.wantMessage("will/alice") // her time is over, but she was to be trusted until now
}

// A will that waits is not sent when the credential of its owner is taken back.
func TestWillGoesWithTheCredentialOfItsOwner(t *testing.T) {
	t.Parallel()
	who := &revocable{}
	s := start(t, broker.Options{Authenticator: who, Guard: &denials{}})
	eve := s.connect(t, login("eve", "eve"))
	eve.subscribe(1, "will/#")
	for _, name := range []string{"bob", "alice"} {
		c := s.connect(t, leavingWill(login(name, name), "will/"+name, 1))
		_ = c.conn.Close()
	}
	who.revoke("bob")
	eve.wantMessage("will/alice") // the delays are over
	eve.wantQuiet()
}

// After a restart the will of somebody whose credential was taken back meanwhile is not sent either.
func TestWillGoesWithTheCredentialOfItsOwnerAfterKill(t *testing.T) {
	t.Parallel()
	who := &revocable{}
	o := broker.Options{Authenticator: who, Guard: &denials{}}
	s := start(t, o)
	for _, name := range []string{"bob", "alice"} {
		s.connect(t, leavingWill(login(name, name), "will/"+name, 0))
		s.connect(t, leavingWill(login(name, name+"2"), "$aws/things/"+name+"/shadow/update", 0))
	}
	who.revoke("bob")
	s = s.kill(t, o)
	if _, ok := s.RetainedMessage("will/alice"); !ok {
		t.Error("the will of alice was not sent")
	}
	if _, ok := s.RetainedMessage("will/bob"); ok {
		t.Error("the will of bob was sent")
	}
	if n := s.Stats().Requests; n != 1 {
		t.Errorf("%d requests by wills, want that of alice", n)
	}
}

// leavingWill adds a retained will with a delay in seconds.
func leavingWill(o connectOptions, topic string, delay uint32) connectOptions {
	edit := o.edit
	o.edit = func(pk *packets.Packet) {
		edit(pk)
		p := &pk.Connect
		p.WillFlag, p.WillTopic, p.WillPayload, p.WillQos, p.WillRetain = true, topic, []byte("gone"), 1, true
		p.WillProperties.WillDelayInterval = delay
	}
	return o
}

// revocable is users whose credentials may be taken back, and last for life unless that is zero.
type revocable struct {
	life    time.Duration
	found   func() // is called when it is known who somebody is; may be nil
	revoked sync.Map
}

func (r *revocable) revoke(name string) { r.revoked.Store(name, true) }

func (r *revocable) Recall(p *auth.Principal) {
	p.Standing = func() auth.Standing {
		if _, gone := r.revoked.Load(p.Name); gone {
			return auth.Withdrawn
		}
		return auth.Unchanged
	}
}

func (r *revocable) Authenticate(ctx context.Context, c *auth.Credentials) (*auth.Principal, error) {
	p, err := users{}.Authenticate(ctx, c)
	if err != nil {
		return nil, err
	}
	r.Recall(p)
	if r.life > 0 {
		p.Expires = time.Now().Add(r.life)
	}
	if r.found != nil {
		r.found()
	}
	return p, nil
}

func TestClientIDsAreNoPatterns(t *testing.T) {
	t.Parallel()
	s, _ := guarded(t)
	for _, id := range []string{"+", "#", "a/+"} {
		if _, ack := s.tryConnect(t, login("bob", id)); ack.ReasonCode != 0x85 {
			t.Errorf("CONNACK for %q = %#x, want 0x85", id, ack.ReasonCode)
		}
	}
}

// Histories and events name the principal.
func TestPrincipalIsTold(t *testing.T) {
	t.Parallel()
	s, _ := guarded(t)
	app := s.connect(t, login("app", "app"))
	app.subscribe(1, "$aws/events/presence/connected/bob")
	bob := s.connect(t, login("bob", "bob"))
	if e := app.wantMessage("$aws/events/presence/connected/bob"); field[string](t, e.Payload, "principalIdentifier") != "user:bob" {
		t.Errorf("the event is %s", e.Payload)
	}
	bob.send(message(update, `{"state":{"reported":{"a":1}}}`, 1, 1))
	bob.want(packets.Puback)
	list, err := s.things.Changes(t.Context(), shadow.ID{Thing: "lamp"}, 0, 10)
	if err != nil || len(list) != 1 || list[0].Author.Principal != "user:bob" {
		t.Errorf("the history is %s, %v", fmt.Sprintf("%+v", list), err)
	}
}

// What messages bring about by mappings and native topics has the name of who published them, be it as a will or held back.
func TestMappedChangesNameThePublisher(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Authenticator: users{}, Guard: &denials{}, NativeTopics: true, Mappings: mappings(t, `
version: 1
mapping: lamps
thing: "lamp"
report:
  - {topic: "l/slow", to: slow, min_interval: 50ms}
  - {topic: "l/end", to: end, empty: delete}
  - {topic: "l/{k}", to: "{k}"}
`)})
	bob := s.connect(t, login("bob", "b1"))
	carol := login("carol", "c1")
	carol.edit = func(pk *packets.Packet) {
		as("carol", "secret")(pk)
		withWill("l/will", "5", nil)(pk)
	}
	dying := s.connect(t, carol)
	send := func(pk packets.Packet) {
		t.Helper()
		bob.send(pk)
		bob.want(packets.Puback)
	}
	want := func(thing, key, author string) {
		t.Helper()
		var list []shadow.HistoryEntry
		eventually(t, author+" of "+key, func() bool {
			changes, err := s.things.Changes(t.Context(), shadow.ID{Thing: thing}, 0, 100)
			if err != nil {
				t.Fatal(err)
			}
			list = list[:0]
			for _, c := range changes {
				if key == "" && c.Op == shadow.OpDelete || key != "" && strings.Contains(string(c.Patch), key) {
					list = append(list, *c)
				}
			}
			return len(list) > 0
		})
		if by := list[len(list)-1].Author; by.Channel+" "+by.Principal+" "+by.ClientID != author {
			t.Errorf("%s is by %+v, want %s", key, by, author)
		}
	}
	send(message("l/on", "1", 1, 1))
	want("lamp", `"on":1`, "mapping user:bob b1")
	send(message("l/slow", "1", 1, 2))
	send(message("l/slow", "2", 1, 3))
	want("lamp", `"slow":2`, "mapping user:bob b1")
	_ = dying.conn.Close()
	want("lamp", `"will":5`, "mapping user:carol c1")
	send(message("things/pump/reported", `{"n":6}`, 1, 4))
	want("pump", `"n":6`, "mqtt user:bob b1")
	end := message("l/end", "7", 1, 5)
	end.FixedHeader.Retain = true
	send(end)
	end = message("l/end", "", 1, 6)
	end.FixedHeader.Retain = true
	send(end)
	want("lamp", "", "mapping user:bob b1")
	by := shadow.Author{Channel: "rest", Principal: "user:dave"}
	if err := s.PublishMessage(t.Context(), broker.Publication{Topic: "l/rest", Payload: []byte("8"), QoS: 1, Author: by}); err != nil {
		t.Fatal(err)
	}
	want("lamp", `"rest":8`, "mapping user:dave ")
}
