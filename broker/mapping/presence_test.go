package mapping_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/shadow"
)

// TestPresenceInterleavings lives 10,000 random lives of a device: connections that are taken over, killed, left in good
// order; wills at once, late, or after the next connection; restarts of the server. At every point where nothing is
// under way, reported.connected has to be true exactly when the newest connection lives and has said that it is there.
func TestPresenceInterleavings(t *testing.T) {
	t.Parallel()
	const lives = 10_000
	list, _, err := mapping.Load("m", []byte(presenceMapping))
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := mapping.NewSet(list)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(lives) {
		w := &presence{set: set, rand: rand.New(rand.NewPCG(seed, 7)), retains: seed%2 == 0}
		w.boot()
		for step := range 12 {
			w.step()
			if got, want := w.reported(), w.want(); got != want {
				t.Fatalf("life %d, step %d: connected = %s, want %s\n%v", seed, step, got, want, w.story)
			}
		}
	}
}

// presence is a server with one mapping and one device, whose messages arrive in any order that MQTT allows.
type presence struct {
	set     *mapping.Set
	rand    *rand.Rand
	retains bool // birth and will are retained
	story   []string

	engine   *mapping.Engine
	doc      *shadow.Document
	saved    map[string]*mapping.Saved
	retained string
	now      int64
	epoch    uint64
	alive    bool     // the newest connection lives
	said     bool     // it has said that it is there
	seen     bool     // the device was ever there
	doubt    bool     // taken over, and nothing said yet: what the older connection said may still count
	wills    []uint64 // of ended connections, not yet sent
}

const presenceMapping = `{"version": 1, "mapping": "m", "thing": "t-{d}", "report": [{"topic": "{d}/x", "to": "x"}],
 "link": {"from": [{"topic": "{d}/status", "map": "online"}]}}`

func (w *presence) boot() {
	w.engine = mapping.New(w.set, mapping.Options{})
	for _, s := range w.saved {
		w.engine.Restore(s)
	}
	if w.saved == nil {
		w.saved = map[string]*mapping.Saved{}
	}
	if w.retained != "" {
		w.message(mapping.Message{Topic: "d/status", Payload: []byte(w.retained), Retain: true, Replayed: true})
	}
	for _, epoch := range w.wills { // those of connections that the crash has ended come first
		w.will(epoch)
	}
	w.wills = nil
	w.do(w.engine.Started(w.now))
}

func (w *presence) step() {
	w.now += 1000
	switch n := w.rand.IntN(7); {
	case n < 2:
		w.connect()
	case n == 2 && w.alive:
		w.tell("birth")
		w.said, w.doubt, w.seen = true, false, true
		w.publish("online")
	case n == 3 && w.alive: // kill: the will comes now or later
		w.tell("kill")
		w.engine.Forget(w.session())
		w.end()
		if w.rand.IntN(2) == 0 {
			w.wills = append(w.wills, w.epoch)
			w.flush() // late, but before anything else is looked at
			return
		}
		w.will(w.epoch)
	case n == 4 && w.alive:
		w.tell("disconnect")
		w.do(w.engine.Disconnected(w.session(), true, w.now))
		w.end()
	case n == 5:
		w.tell("restart")
		if w.alive {
			w.wills = append(w.wills, w.epoch)
		}
		w.end()
		w.boot()
	case n == 6 && w.alive:
		w.message(mapping.Message{Topic: "d/x", Payload: fmt.Appendf(nil, "%d", w.now), Client: "c", Epoch: w.epoch})
		w.seen = true
	}
}

// flush sends the wills that wait, perhaps after another connection has begun and has said that it is there.
func (w *presence) flush() {
	if w.rand.IntN(2) == 0 {
		w.connect()
		if w.rand.IntN(2) == 0 {
			w.tell("birth")
			w.said, w.doubt, w.seen = true, false, true
			w.publish("online")
		}
	}
	for _, epoch := range w.wills {
		w.will(epoch)
	}
	w.wills = nil
}

func (w *presence) connect() {
	w.tell("connect")
	old, taken := w.session(), w.alive
	w.epoch++
	w.doubt = w.doubt || w.said || w.alive && w.doubt || len(w.wills) > 0
	w.alive, w.said = true, false
	w.do(w.engine.Connected(w.session()))
	if !taken {
		return
	}
	if w.rand.IntN(2) == 0 { // the end of the older one, noticed late
		w.do(w.engine.Disconnected(old, false, w.now))
		return
	}
	w.will(old.Epoch)
}

func (w *presence) end() { w.alive, w.said, w.doubt = false, false, false }

func (w *presence) session() mapping.Session {
	return mapping.Session{Client: "c", Epoch: w.epoch, Will: "d/status"}
}

func (w *presence) publish(word string) {
	if w.retains {
		w.retained = word
	}
	w.message(mapping.Message{Topic: "d/status", Payload: []byte(word), Retain: w.retains, Client: "c", Epoch: w.epoch})
}

func (w *presence) will(epoch uint64) {
	w.tell(fmt.Sprintf("will of %d", epoch))
	if w.retains {
		w.retained = "offline"
	}
	w.message(mapping.Message{Topic: "d/status", Payload: []byte("offline"), Retain: w.retains, Will: true, Client: "c", Epoch: epoch})
}

func (w *presence) tell(what string) { w.story = append(w.story, what) }

func (w *presence) message(m mapping.Message) {
	if p := w.engine.Set().Prepare(m); p != nil {
		w.do(w.engine.Message(p, w.now))
	}
}

func (w *presence) do(e *mapping.Effects) {
	for _, s := range e.Changed {
		w.saved[s.Key()] = s
	}
	for _, r := range e.Reports {
		payload, changed := r.Patch(w.doc)
		if !changed {
			continue
		}
		req, err := shadow.ParseUpdate(payload, shadow.Limits{})
		if err != nil {
			panic(err)
		}
		c, err := shadow.Apply(w.doc, req, w.now, shadow.Limits{})
		if err != nil {
			panic(err)
		}
		w.doc = c.After
		w.do(w.engine.Update(r.ID, c, w.now))
	}
	for _, id := range e.Loads {
		w.do(w.engine.Document(id, w.doc, w.now))
	}
}

func (w *presence) reported() string {
	if b, ok := w.doc.Reported().Member("connected").Bool(); ok && b {
		return "true"
	}
	return "false"
}

// want is what connected has to be. Between a takeover and the first word of the new connection nothing is assumed: what
// it was stays.
func (w *presence) want() string {
	switch {
	case !w.alive:
		return "false"
	case w.said:
		return "true"
	case w.doubt:
		return w.reported()
	}
	return "false"
}
