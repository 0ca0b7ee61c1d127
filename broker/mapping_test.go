package broker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/mapping/cases"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/things"
)

// TestMappingCases runs the sequences of package cases through the broker, with real clients.
func TestMappingCases(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("mapping/cases/testdata/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := cases.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Sequences {
			s := &f.Sequences[i]
			t.Run(s.ID, func(t *testing.T) {
				t.Parallel()
				set, err := f.Set(s, nil)
				if err != nil {
					t.Fatal(err)
				}
				w := newWorld(t, set, s.Steps)
				for k := range s.Steps {
					w.step(k, &s.Steps[k])
				}
				if left := w.commands(); len(left) > 0 {
					t.Errorf("%s: a command that is not expected: %+v", s.Title, left[0])
				}
				w.checkCounts(s.Steps)
				if len(w.rehearsed) > 0 {
					t.Errorf("%s: a command was rehearsed that is not expected: %+v", s.Title, w.rehearsed[0])
				}
			})
		}
	}
}

// world is a broker with mappings and the clients of a sequence.
type world struct {
	t        *testing.T
	s        *server
	now      atomic.Int64 // ms since the epoch
	clients  map[string]*plain
	spy      *plain
	markers  int
	own      []mapping.Publish // what the sequence has published itself
	versions map[string]uint64
	failures int64 // counted at the last expectation

	rehearsal *broker.Rehearsal // of the same mappings
	rehearsed []mapping.Publish // the commands that it has told of, but those that were expected
}

// plain is an MQTT client that knows nothing of shadows.
type plain struct {
	mqtt3.Client
	conn net.Conn

	mu   sync.Mutex // guards seen
	seen []mapping.Publish
}

func newWorld(t *testing.T, set *mapping.Set, steps []cases.Step) *world {
	t.Helper()
	w := &world{t: t, clients: map[string]*plain{}, versions: map[string]uint64{}}
	w.now.Store(1_700_000_000_000)
	clock := func() time.Time { return time.UnixMilli(w.now.Load()) }
	store := memstore.New(statestore.Options{})
	if len(steps) > 0 && steps[0].Do == "retained_at_start" {
		before := startOn(t, broker.Options{Now: clock}, store, true)
		for name, payload := range steps[0].Messages {
			p := broker.Publication{Topic: name, Payload: []byte(payload), QoS: 1, Retain: true}
			if err := before.PublishMessage(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		before.stop()
		store = before.store.Store.(*memstore.Store)
	}
	w.s = startOn(t, broker.Options{Now: clock, Mappings: set}, store, true)
	var err error
	if w.rehearsal, err = w.s.Rehearse(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.rehearsal.Close)
	w.spy = w.connect("spy", nil, "")
	if tok := w.spy.Subscribe("#", 2, nil); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatalf("the spy cannot subscribe: %v", tok.Error())
	}
	return w
}

// connect connects a client of MQTT 3.1.1.
func (w *world) connect(id string, will *cases.Will, user string) *plain {
	w.t.Helper()
	d := &plain{}
	o := mqtt3.NewClientOptions().AddBroker("tcp://" + w.s.addr).SetClientID(id).SetUsername(user).SetAutoReconnect(false).SetOrderMatters(true)
	o.SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt3.ClientOptions) (net.Conn, error) {
		c, err := net.Dial("tcp", u.Host)
		d.conn = c
		return c, err
	})
	o.SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) {
		if m.Retained() { // it was there before
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.seen = append(d.seen, mapping.Publish{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained()})
	})
	if will != nil {
		body, err := will.Bytes()
		if err != nil {
			w.t.Fatal(err)
		}
		o.SetBinaryWill(will.Topic, body, will.QoS, will.Retain)
		w.own = append(w.own, mapping.Publish{Topic: will.Topic, Payload: body})
	}
	d.Client = mqtt3.NewClient(o)
	if tok := d.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
		w.t.Fatalf("client %s cannot connect: %v", id, tok.Error())
	}
	w.t.Cleanup(func() { d.Disconnect(0) })
	return d
}

// checkCounts compares the commands that are counted with those of the devices that a sequence is about.
func (w *world) checkCounts(steps []cases.Step) {
	w.t.Helper()
	w.settle()
	counted := map[mapping.CommandState]int64{}
	for _, state := range mapping.CommandStates() {
		counted[state] = 0
	}
	seen := map[string]bool{"": true}
	for i := range steps {
		thing := steps[i].Thing
		if seen[thing] {
			continue
		}
		seen[thing] = true
		devices, err := w.s.MappedDevices(w.t.Context(), thing)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range devices {
			for _, c := range d.Commands {
				counted[c.State]++
			}
		}
	}
	if got := w.s.MappingStats().Commands; !maps.Equal(got, counted) {
		w.t.Errorf("commands are counted as %v, and are %v", got, counted)
	}
}

func (w *world) client(id string) *plain {
	if id == "" && len(w.clients) == 1 {
		for _, d := range w.clients {
			return d
		}
	}
	if id == "" {
		id = "nobody"
	}
	if w.clients[id] == nil {
		w.clients[id] = w.connect(id, nil, "")
	}
	return w.clients[id]
}

// rehearse tells the rehearsal of all that has happened.
func (w *world) rehearse() {
	w.t.Helper()
	for {
		select {
		case h := <-w.rehearsal.C:
			w.rehearsed = append(w.rehearsed, commandsOf(w.t)(w.rehearsal.Tell(h))...)
		default:
			return
		}
	}
}

func commandsOf(t *testing.T) func(broker.Rehearsed, error) []mapping.Publish {
	return func(did broker.Rehearsed, err error) []mapping.Publish {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(did.Publish, func(p mapping.Publish) bool { return p.Query })
	}
}

// settle waits until everything that was published has had its effects.
func (w *world) settle() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.s.AwaitMappings(ctx); err != nil {
		w.t.Fatal(err)
	}
	w.markers++
	marker := fmt.Sprintf("spy/%d", w.markers)
	if err := w.s.PublishMessage(ctx, broker.Publication{Topic: marker, QoS: 1}); err != nil {
		w.t.Fatal(err)
	}
	eventually(w.t, "the spy's marker", func() bool {
		w.spy.mu.Lock()
		defer w.spy.mu.Unlock()
		i := slices.IndexFunc(w.spy.seen, func(p mapping.Publish) bool { return p.Topic == marker })
		if i >= 0 {
			w.spy.seen = slices.Delete(w.spy.seen, i, i+1)
		}
		return i >= 0
	})
}

func (w *world) step(n int, s *cases.Step) {
	w.t.Helper()
	if s.Expect != "" {
		w.settle()
		if err := w.expect(s); err != nil {
			w.t.Fatalf("step %d (%s): %v", n+1, s, err)
		}
		return
	}
	w.do(s)
	w.settle()
	w.rehearse()
}

func (w *world) do(s *cases.Step) {
	w.t.Helper()
	switch s.Do {
	case "connect":
		w.clients[s.Client] = w.connect(s.Client, s.Will, s.User)
	case "publish":
		w.publish(s)
	case "subscribe":
		if tok := w.client(s.Client).Subscribe(s.Filter, 2, nil); !tok.WaitTimeout(patience) || tok.Error() != nil {
			w.t.Fatalf("subscribe to %s: %v", s.Filter, tok.Error())
		}
	case "kill":
		w.clients[s.Client].conn.Close()
		w.gone(s.Client)
	case "disconnect":
		w.clients[s.Client].Disconnect(100)
		w.gone(s.Client)
	case "desired":
		r := w.s.things.Do(w.t.Context(), things.Request{
			ID: shadow.ID{Thing: s.Thing, Name: s.Shadow}, Op: shadow.OpUpdate, Payload: []byte(`{"state":{"desired":` + string(s.State) + `}}`),
		})
		if r.Err != nil {
			w.t.Fatal(r.Err)
		}
	case "retained_at_start":
	case "advance":
		w.advance(int64(s.Seconds * 1000))
	default:
		w.t.Fatalf("unknown step %q", s.Do)
	}
}

// gone waits until the server has noticed the end of a client's connection.
func (w *world) gone(id string) {
	w.t.Helper()
	delete(w.clients, id)
	eventually(w.t, "the end of "+id, func() bool {
		c, ok := w.s.Connection(id)
		return !ok || !c.Connected
	})
}

func (w *world) publish(s *cases.Step) {
	w.t.Helper()
	body, err := s.Bytes()
	if err != nil {
		w.t.Fatal(err)
	}
	qos := byte(1) // so that its acknowledgement tells when it has arrived
	if s.QoS != nil && *s.QoS == 2 {
		qos = 2
	}
	w.own = append(w.own, mapping.Publish{Topic: s.Topic, Payload: body})
	if tok := w.client(s.Client).Publish(s.Topic, qos, s.Retain != nil && *s.Retain, body); !tok.WaitTimeout(patience) || tok.Error() != nil {
		w.t.Fatalf("publish %s: %v", s.Topic, tok.Error())
	}
}

// advance moves the clock, from one thing that is due to the next.
func (w *world) advance(ms int64) {
	w.t.Helper()
	end := w.now.Load() + ms
	for next := w.s.NextMapping(); next != 0 && next <= end; next = w.s.NextMapping() {
		w.now.Store(max(next, w.now.Load()))
		w.s.TickMappings()
		w.settle()
		w.rehearse()
		w.rehearsed = append(w.rehearsed, commandsOf(w.t)(w.rehearsal.Tick())...)
	}
	w.now.Store(end)
}

// commands returns what the spy has seen besides what the sequence has published.
func (w *world) commands() []mapping.Publish {
	w.spy.mu.Lock()
	defer w.spy.mu.Unlock()
	seen := w.spy.seen
	w.spy.seen = nil
	var out []mapping.Publish
	for _, p := range seen {
		i := slices.IndexFunc(w.own, func(o mapping.Publish) bool { return o.Topic == p.Topic && string(o.Payload) == string(p.Payload) })
		if i < 0 {
			out = append(out, p)
			continue
		}
		w.own = slices.Delete(w.own, i, i+1)
	}
	return out
}

func (w *world) expect(s *cases.Step) error {
	switch s.Expect {
	case "command":
		if len(w.rehearsed) == 0 {
			return errors.New("the command was not rehearsed")
		}
		rehearsed := w.rehearsed[0]
		w.rehearsed = w.rehearsed[1:]
		if err := cases.Command(s, &rehearsed); err != nil {
			return fmt.Errorf("rehearsed: %w", err)
		}
		found := w.commands()
		if len(found) == 0 {
			return w.expectDelivered(s)
		}
		w.spy.mu.Lock()
		w.spy.seen = append(slices.Clone(found[1:]), w.spy.seen...)
		w.spy.mu.Unlock()
		if r, ok := w.s.RetainedMessage(found[0].Topic); ok { // a subscriber is not told that it was retained
			found[0].Retain = string(r.Payload) == string(found[0].Payload)
		}
		return cases.Command(s, &found[0]) //nolint:wrapcheck // a test
	case "no_command":
		if found := w.commands(); len(found) > 0 {
			return fmt.Errorf("a command was sent: %s %q", found[0].Topic, found[0].Payload)
		}
	case "error", "no_error":
		return w.expectError(s)
	case "no_thing":
		if doc, err := w.s.things.Document(w.t.Context(), shadow.ID{Thing: s.Thing}); doc != nil {
			return fmt.Errorf("there is the thing (%w)", err)
		}
	case "shadow":
		return w.expectShadow(s)
	}
	return nil
}

// expectDelivered waits for a command that only its receiver sees.
func (w *world) expectDelivered(s *cases.Step) error {
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		for _, d := range w.clients {
			d.mu.Lock()
			for _, p := range d.seen {
				if cases.Command(s, &p) == nil {
					d.mu.Unlock()
					return nil
				}
			}
			d.mu.Unlock()
		}
		<-time.After(time.Millisecond)
	}
	return fmt.Errorf("no command was sent; errors: %+v", w.s.MappingErrors().Last)
}

func (w *world) expectError(s *cases.Step) error {
	all := w.s.MappingErrors()
	var count int64
	for _, counts := range all.Counts {
		for _, n := range counts {
			count += n
		}
	}
	fresh := count > w.failures
	switch {
	case s.Expect == "no_error" && fresh:
		return fmt.Errorf("errors: %+v", all.Last)
	case s.Expect == "no_error":
		return nil
	case !fresh:
		return fmt.Errorf("no error, want %s", s.Code)
	}
	w.failures = count
	if newest := all.Last[len(all.Last)-1]; string(newest.Code) != s.Code {
		return fmt.Errorf("the newest error is %+v", newest)
	}
	return nil
}

func (w *world) expectShadow(s *cases.Step) error {
	doc, err := w.s.things.Document(w.t.Context(), shadow.ID{Thing: s.Thing, Name: s.Shadow})
	if err != nil || doc == nil {
		return fmt.Errorf("there is no such shadow (%w)", err)
	}
	last, had := w.versions[s.Thing]
	w.versions[s.Thing] = doc.Version()
	if s.Unchanged && had && last != doc.Version() {
		return fmt.Errorf("the version went from %d to %d", last, doc.Version())
	}
	return cases.Document(s, doc) //nolint:wrapcheck // a test
}

// lampMapping is a mapping for tests of what surrounds it.
const lampMapping = `
version: 1
mapping: lamps
thing: "{dev}"
link: {path: connected, from: [{topic: "l/{dev}/lwt", map: online}]}
report:
  - {topic: "l/{dev}/set/#", ignore: true}
  - {topic: "l/{dev}/{k}", as: auto, to: "{k}"}
commands:
  - {path: "{k}", topic: "l/{dev}/set/{k}"}
`

func mappings(t *testing.T, text string) *mapping.Set {
	t.Helper()
	list, _, err := mapping.Load("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := mapping.NewSet(list)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func (s *server) reported(t *testing.T, thing string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.AwaitMappings(ctx); err != nil {
		t.Fatal(err)
	}
	doc, err := s.things.Document(ctx, shadow.ID{Thing: thing})
	if err != nil {
		t.Fatal(err)
	}
	return string(doc.State())
}

func (s *server) say(t *testing.T, topic, payload string, retain bool) {
	t.Helper()
	if err := s.PublishMessage(t.Context(), broker.Publication{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain}); err != nil {
		t.Fatal(err)
	}
}

// A device that was known before kill -9 is known after it: its identity, its command under way, and that nobody has
// heard of it since.
func TestMappingsSurviveKill(t *testing.T) {
	t.Parallel()
	o := broker.Options{Mappings: mappings(t, lampMapping)}
	s := start(t, o)
	device := s.connect(t, connectOptions{id: "dev"})
	device.subscribe(1, "l/a/set/#")
	s.say(t, "l/a/lwt", "online", false)
	s.say(t, "l/a/on", "false", false)
	if got := s.reported(t, "a"); got != `{"reported":{"connected":true,"on":false}}` {
		t.Fatalf("state = %s", got)
	}
	r := s.things.Do(t.Context(), things.Request{ID: shadow.ID{Thing: "a"}, Op: shadow.OpUpdate, Payload: []byte(`{"state":{"desired":{"on":true}}}`)})
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	if pk := device.wantMessage("l/a/set/on"); string(pk.Payload) != "true" {
		t.Fatalf("command = %s", pk.Payload)
	}
	s.reported(t, "a")
	eventually(t, "the binding in the store", func() bool {
		found := false
		if err := s.store.Store.Scan(t.Context(), 3, func(statestore.Item) error { found = true; return nil }); err != nil {
			t.Fatal(err)
		}
		return found
	})
	s = s.kill(t, o)
	eventually(t, "the link to be false", func() bool {
		return s.reported(t, "a") == `{"desired":{"on":true},"reported":{"connected":false,"on":false}}`
	})
}

// Deleting a thing clears the retained messages that it was made of, so that a restart does not bring it back.
func TestDeletedThingStaysDeleted(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		o := broker.Options{Mappings: mappings(t, lampMapping), KeepRetained: keep}
		s := start(t, o)
		s.say(t, "l/a/lwt", "online", true)
		s.say(t, "l/a/on", "false", true)
		s.say(t, "l/b/on", "false", true)
		s.reported(t, "a")
		if r := s.things.Do(t.Context(), things.Request{ID: shadow.ID{Thing: "a"}, Op: shadow.OpDelete}); r.Err != nil {
			t.Fatal(r.Err)
		}
		s.reported(t, "a")
		if _, kept := s.RetainedMessage("l/a/on"); kept != keep {
			t.Errorf("KeepRetained %v: retained message is there: %v", keep, kept)
		}
		if _, ok := s.RetainedMessage("l/b/on"); !ok {
			t.Error("the retained message of another thing is gone")
		}
		s.stop()
		s = startOn(t, o, s.store.Store, true)
		if got := s.reported(t, "a"); got != "{}" {
			t.Errorf("KeepRetained %v: after a restart the thing is back: %s", keep, got)
		}
		if got := s.reported(t, "b"); got != `{"reported":{"on":false}}` {
			t.Errorf("state of the other thing = %s", got)
		}
		if orphans, err := s.Orphans(t.Context(), 10); err != nil || (len(orphans) == 2) != keep {
			t.Errorf("KeepRetained %v: after a restart the orphans are %+v, %v", keep, orphans, err)
		}
	}
}

// The acknowledgement of a mapped message comes when its update is stored: not at all while the store fails.
func TestMappedMessageIsAcknowledgedWhenStored(t *testing.T) {
	t.Parallel()
	s := startVolatile(t, broker.Options{Mappings: mappings(t, lampMapping)})
	c := s.connect(t, connectOptions{id: "dev"})
	c.send(message("l/a/on", "true", 1, 1))
	c.want(packets.Puback)
	if got := s.reported(t, "a"); got != `{"reported":{"on":true}}` {
		t.Errorf("state = %s", got)
	}
	s.store.SetDown(errKilled)
	c.send(message("l/a/on", "false", 1, 2))
	if ack := c.want(packets.Puback); ack.ReasonCode < 0x80 {
		t.Errorf("PUBACK = %#x while the store fails", ack.ReasonCode)
	}
	s.store.SetDown(nil)
}

func TestNativeTopics(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{NativeTopics: true})
	c := s.connect(t, connectOptions{id: "dev", edit: func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "things/a/reported/connected", []byte("false")
	}})
	c.send(message("things/a/reported", `{"on":false,"t":21.5}`, 1, 1), message("things/a/reported/connected", "true", 1, 2))
	c.want(packets.Puback)
	c.want(packets.Puback)
	s.say(t, "things/a/desired/on", "true", false)
	eventually(t, "the state", func() bool {
		return s.reported(t, "a") == `{"desired":{"on":true},"reported":{"on":false,"t":21.5,"connected":true}}`
	})
	c.subscribe(1, "things/a/delta")
	if pk := c.wantMessage("things/a/delta"); string(pk.Payload) != `{"on":true}` || !pk.FixedHeader.Retain {
		t.Errorf("delta = %s, retained %v", pk.Payload, pk.FixedHeader.Retain)
	}
	c.send(message("things/a/reported/on", "true", 1, 3))
	c.want(packets.Publish) // the delta is cleared before the update is acknowledged
	c.want(packets.Puback)
	if _, ok := s.RetainedMessage("things/a/delta"); ok {
		t.Error("the delta is retained after the device has reported what is desired")
	}
	_ = c.conn.Close()
	eventually(t, "the will", func() bool {
		return s.reported(t, "a") == `{"desired":{"on":true},"reported":{"on":true,"t":21.5,"connected":false}}`
	})
	s.say(t, "things/no thing/reported", "{}", false)
	s.say(t, "things/a/reported/t", "", true)
	eventually(t, "a key to be removed", func() bool {
		return s.reported(t, "a") == `{"desired":{"on":true},"reported":{"on":true,"connected":false}}`
	})
}

// Operators see mappings, devices with the states of their commands, and retained messages that no thing owns.
func TestMappingAdmin(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{Mappings: mappings(t, "create: known\n"+lampMapping)})
	s.say(t, "l/a/on", "false", true) // refused: there is no such thing
	s.reported(t, "a")
	list, err := s.Mappings(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != "lamps" || list[0].Things != 0 || list[0].Errors != 1 {
		t.Errorf("Mappings = %+v, %v", list, err)
	}
	if got := s.MappingStats(); got.Messages != 1 || got.Errors["unknown_thing"] != 1 {
		t.Errorf("MappingStats = %+v", got)
	}
	orphans, err := s.Orphans(t.Context(), 10)
	if err != nil || len(orphans) != 1 || orphans[0].Topic != "l/a/on" || orphans[0].Thing != "a" {
		t.Fatalf("Orphans = %+v, %v", orphans, err)
	}
	r := s.things.Do(t.Context(), things.Request{ID: shadow.ID{Thing: "b"}, Op: shadow.OpUpdate, Payload: []byte(`{"state":{"desired":{"on":true}}}`)})
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	s.say(t, "l/b/on", "false", true)
	s.reported(t, "b")
	if got := s.MappingStats(); got.Updates != 1 || got.Sent != 0 || got.Commands[mapping.StateHeld] != 1 {
		t.Errorf("MappingStats = %+v", got)
	}
	devices, err := s.MappedDevices(t.Context(), "b")
	if err != nil || len(devices) != 1 || len(devices[0].Commands) != 1 || devices[0].Commands[0].State != mapping.StateHeld {
		t.Errorf("MappedDevices = %+v, %v", devices, err)
	}
	for topic, want := range map[string]bool{"l/a/on": true, "l/b/on": false, "other": false} {
		if done, err := s.ClearOrphan(t.Context(), topic); done != want || err != nil {
			t.Errorf("ClearOrphan(%s) = %v, %v, want %v", topic, done, err, want)
		}
	}
	if _, ok := s.RetainedMessage("l/a/on"); ok {
		t.Error("the orphan is still there")
	}
}
