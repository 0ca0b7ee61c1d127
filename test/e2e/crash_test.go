package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

const (
	crashRounds  = 4
	crashThings  = 4
	crashWriters = 4      // connections to each thing, each with a key of its own
	crashAcks    = 400    // acknowledged updates before a kill
	crashHistory = 100    // entries that umbrad keeps of a shadow
	crashMemory  = 10_000 // versions of a shadow of which the test knows what they stand for
)

// TestCrash kills umbrad again and again while devices write, and holds it to what it acknowledged.
func TestCrash(t *testing.T) {
	t.Parallel()
	h := &crashHistoryOf{accepted: make(map[string]map[uint64]string)}
	u := umbradtest.Start(t, "--store=pebble:"+filepath.Join(t.TempDir(), "db"))
	writers := newCrashWriters()
	for round := range crashRounds {
		h.load(t, u, writers)
		u.Restart()
		h.verify(t, u, writers)
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
}

// crashWriter counts its key up; every value is sent once.
type crashWriter struct {
	thing, key  string
	sent, acked int
}

func newCrashWriters() []*crashWriter {
	writers := make([]*crashWriter, 0, crashThings*crashWriters)
	for thing := range crashThings {
		for key := range crashWriters {
			writers = append(writers, &crashWriter{thing: fmt.Sprintf("crash-%d", thing), key: fmt.Sprintf("k%d", key)})
		}
	}
	return writers
}

// write updates until the connection or ctx ends, but does not leave an update under way.
func (w *crashWriter) write(ctx context.Context, addr string, acknowledged func()) {
	c, err := mqtttest.Dial(ctx, addr, mqtttest.Options{})
	if err != nil {
		return // killed already
	}
	defer c.Abort()
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for ctx.Err() == nil {
		w.sent++
		token := fmt.Sprintf("%s-%d", w.key, w.sent)
		payload := fmt.Sprintf(`{"state":{"desired":{%q:%d},"reported":{%q:%d}},"clientToken":%q}`, w.key, w.sent, w.key, w.sent-1, token)
		if _, err := c.Publish(patient, mqtttest.Message{Topic: "$aws/things/" + w.thing + "/shadow/update", QoS: 1, Payload: []byte(payload)}); err != nil {
			return
		}
		w.acked = w.sent
		acknowledged()
	}
}

// crashHistoryOf is what clients saw over all crashes.
type crashHistoryOf struct {
	mu       sync.Mutex
	accepted map[string]map[uint64]string // thing, version: token
}

// listenAll notes what is accepted until the connections end.
func (h *crashHistoryOf) listenAll(t *testing.T, u *umbradtest.Umbrad, wg *sync.WaitGroup) (listeners []*mqtttest.Client) {
	t.Helper()
	for thing := range crashThings {
		c, err := mqtttest.Dial(wait(t), u.MQTT(), mqtttest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("crash-%d", thing)
		subscribe(t, c, "$aws/things/"+name+"/shadow/update/accepted")
		wg.Go(func() { h.listen(t, c, name) })
		listeners = append(listeners, c)
	}
	return listeners
}

// load lets all writers write and kills umbrad in the middle of it.
func (h *crashHistoryOf) load(t *testing.T, u *umbradtest.Umbrad, writers []*crashWriter) {
	t.Helper()
	var wg sync.WaitGroup
	h.listenAll(t, u, &wg)
	ctx := wait(t)
	var acks atomic.Int64
	enough := make(chan struct{})
	acknowledged := func() {
		if acks.Add(1) == crashAcks {
			close(enough)
		}
	}
	for _, w := range writers {
		wg.Go(func() { w.write(ctx, u.MQTT(), acknowledged) })
	}
	select {
	case <-enough:
	case <-ctx.Done():
	}
	u.Kill()
	wg.Wait()
	if n := acks.Load(); n < crashAcks {
		t.Fatalf("%d updates were acknowledged in %v, want %d", n, patience, crashAcks)
	}
}

// listen notes accepted messages until the connection ends.
func (h *crashHistoryOf) listen(t *testing.T, c *mqtttest.Client, thing string) {
	for {
		m, err := c.Receive(t.Context())
		if err != nil {
			return
		}
		d, err := parse(m.Payload)
		if err != nil {
			t.Errorf("%s: accepted: %v", thing, err)
			return
		}
		h.note(t, thing, d.Version, d.Token)
	}
}

// note checks that a version never stands for two updates.
func (h *crashHistoryOf) note(t *testing.T, thing string, version uint64, token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.accepted[thing] == nil {
		h.accepted[thing] = make(map[uint64]string)
	}
	if was, ok := h.accepted[thing][version]; ok && was != token {
		t.Errorf("%s: version %d stands for %s and for %s", thing, version, was, token)
	}
	h.accepted[thing][version] = token
}

// verify looks at the shadows after a restart.
func (h *crashHistoryOf) verify(t *testing.T, u *umbradtest.Umbrad, writers []*crashWriter) {
	t.Helper()
	documents := make(map[string]document)
	for i := range crashThings {
		thing := fmt.Sprintf("crash-%d", i)
		d := fetch(t, u.URL(), thing)
		documents[thing] = d
		h.mu.Lock()
		for v := range h.accepted[thing] {
			if v > d.Version {
				t.Errorf("%s: version %d after a crash, but %d was accepted before", thing, d.Version, v)
			}
			if v+crashMemory < d.Version {
				delete(h.accepted[thing], v)
			}
		}
		h.mu.Unlock()
		h.verifyHistory(t, u, thing, d.Version)
		verifyDelta(t, u, thing, d.Version)
	}
	for _, w := range writers {
		n, _ := documents[w.thing].State.Desired[w.key].(float64)
		if int(n) < w.acked || int(n) > w.sent {
			t.Errorf("%s: %s = %v after a crash, acknowledged %d, sent %d", w.thing, w.key, n, w.acked, w.sent)
		}
	}
}

// verifyHistory checks that no version is without its history entry.
func (h *crashHistoryOf) verifyHistory(t *testing.T, u *umbradtest.Umbrad, thing string, version uint64) {
	t.Helper()
	from := uint64(0)
	if version > crashHistory {
		from = version - crashHistory
	}
	next := from + 1
	for _, c := range changes(t, u.URL(), thing, from, version) {
		if c.Version != next {
			t.Errorf("%s: history has version %d where %d has to be", thing, c.Version, next)
		}
		next = c.Version + 1
		h.note(t, thing, c.Version, c.Token)
	}
}

// verifyDelta checks that a device which subscribes after a crash hears of the difference, once.
func verifyDelta(t *testing.T, u *umbradtest.Umbrad, thing string, version uint64) {
	t.Helper()
	c := dial(t, u.MQTT(), mqtttest.Options{})
	defer c.Close()
	topic := "$aws/things/" + thing + "/shadow/update/delta"
	subscribe(t, c, topic)
	subscribe(t, c, "end-"+thing)
	if d := mustParse(t, receive(t, c, topic)); d.Version != version {
		t.Errorf("%s: delta on subscribe has version %d, want %d", thing, d.Version, version)
	}
	publish(t, c, "end-"+thing, "{}")
	if m, err := c.Receive(wait(t)); err != nil || m.Topic != "end-"+thing {
		t.Errorf("%s: after the delta came %s %s, %v", thing, m.Topic, m.Payload, err)
	}
}
