package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

const (
	fleetShadows = 50
	fleetClients = 20 // of each five: two on MQTT at the first node, two at the second, one on REST
	fleetUpdates = 50 // of each client
)

// fleet is two nodes on one Redis and what their clients did.
type fleet struct {
	nodes [2]*umbradtest.Umbrad
}

// TestTwoNodes lets 20 clients of two nodes update the same 50 shadows.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	store := "--store=" + storetest.Redis(t).URL
	f := &fleet{nodes: [2]*umbradtest.Umbrad{umbradtest.Start(t, store), umbradtest.Start(t, store)}}
	var collectors [2]*mqtttest.Client
	for i, n := range f.nodes {
		collectors[i] = dial(t, n.MQTT(), mqtttest.Options{ClientID: "collector"})
		subscribe(t, collectors[i], "$aws/things/+/shadow/update/accepted")
	}
	writers := make([]writer, fleetClients)
	g, ctx := errgroup.WithContext(wait(t))
	for i := range writers {
		writers[i] = writer{id: i, last: make(map[string]int)}
		g.Go(func() error { return f.write(ctx, &writers[i]) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	f.check(t, writers, f.collect(t, collectors, fleetClients*fleetUpdates))
}

// writer is a client with a key of its own in each shadow, and a share in the key that the REST
// clients count up together under a version guard.
type writer struct {
	id      int
	last    map[string]int // by thing: the last acknowledged value of the own key
	counted int            // successful increments by REST clients
}

func (w *writer) key() string { return fmt.Sprintf("c%d", w.id) }

func fleetThing(i int) string { return fmt.Sprintf("fleet-%d", i) }

func (f *fleet) write(ctx context.Context, w *writer) error {
	node := f.nodes[w.id%2]
	random := rand.New(rand.NewPCG(1, uint64(w.id)))
	if w.id%5 == 4 {
		for range fleetUpdates {
			if err := w.increment(ctx, node.URL(), fleetThing(random.IntN(fleetShadows))); err != nil {
				return err
			}
		}
		return nil
	}
	version := mqtttest.V311 + byte(w.id/2%2)
	c, err := mqtttest.Dial(ctx, node.MQTT(), mqtttest.Options{ClientID: "writer-" + w.key(), Version: version})
	if err != nil {
		return err
	}
	defer c.Close()
	for n := 1; n <= fleetUpdates; n++ {
		thing := fleetThing(random.IntN(fleetShadows))
		payload := fmt.Sprintf(`{"state":{"reported":{%q:%d}},"clientToken":"%s-%d"}`, w.key(), n, w.key(), n)
		ack, err := c.Publish(ctx, mqtttest.Message{Topic: "$aws/things/" + thing + "/shadow/update", QoS: 1, Payload: []byte(payload)})
		if err != nil || ack.Code >= 0x80 {
			return fmt.Errorf("%s %s: %+v, %w", thing, payload, ack, err)
		}
		w.last[thing] = n
	}
	return nil
}

// increment adds 1 to the common counter of a shadow: read, then write if nobody else did meanwhile.
func (w *writer) increment(ctx context.Context, base, thing string) error {
	for {
		res, err := call(ctx, http.MethodGet, shadowURL(base, thing), nil)
		if err != nil {
			return err
		}
		var d document
		if res.status == http.StatusOK {
			if d, err = parse(res.body); err != nil {
				return err
			}
		}
		n, _ := d.State.Reported["counter"].(float64)
		payload := fmt.Sprintf(`{"state":{"reported":{"counter":%d}},"version":%d}`, int(n)+1, d.Version)
		res, err = call(ctx, http.MethodPost, shadowURL(base, thing), []byte(payload))
		switch {
		case err != nil:
			return err
		case res.status == http.StatusOK:
			w.counted++
			return nil
		case res.status != http.StatusConflict:
			return fmt.Errorf("POST %s = %d %s", thing, res.status, res.body)
		}
	}
}

// collect takes want accepted messages from the two nodes and returns the versions that each shadow went
// through. More messages than wanted show up as versions out of line.
func (f *fleet) collect(t *testing.T, collectors [2]*mqtttest.Client, want int) map[string]map[uint64]bool {
	t.Helper()
	versions := make(map[string]map[uint64]bool)
	take := func(m mqtttest.Message) {
		thing := strings.Split(m.Topic, "/")[2]
		d := mustParse(t, m.Payload)
		if versions[thing] == nil {
			versions[thing] = make(map[uint64]bool)
		}
		if versions[thing][d.Version] {
			t.Errorf("%s: version %d was accepted twice", thing, d.Version)
		}
		versions[thing][d.Version] = true
	}
	all := wait(t)
	for total := 0; total < want; {
		for _, c := range collectors {
			ctx, cancel := context.WithTimeout(all, 200*time.Millisecond)
			m, err := c.Receive(ctx)
			for ; err == nil; m, err = c.Receive(ctx) {
				take(m)
				total++
			}
			cancel()
			if c.Err() != nil {
				t.Fatalf("%d accepted messages, want %d: %v", total, want, err)
			}
		}
		if all.Err() != nil {
			t.Fatalf("%d accepted messages, want %d", total, want)
		}
	}
	return versions
}

// check compares the shadows with what the writers know.
func (f *fleet) check(t *testing.T, writers []writer, versions map[string]map[uint64]bool) {
	t.Helper()
	counted, want := 0, 0
	for i := range fleetShadows {
		thing := fleetThing(i)
		if versions[thing] == nil {
			continue // by chance nobody wrote to it
		}
		a, b := fetch(t, f.nodes[0].URL(), thing), fetch(t, f.nodes[1].URL(), thing)
		if a.Version != b.Version || a.Version != uint64(len(versions[thing])) {
			t.Errorf("%s: version %d at one node, %d at the other, %d updates", thing, a.Version, b.Version, len(versions[thing]))
		}
		for v := uint64(1); v <= a.Version; v++ {
			if !versions[thing][v] {
				t.Errorf("%s: nobody was told of version %d", thing, v)
			}
		}
		for _, w := range writers {
			if n, ok := w.last[thing]; ok && a.State.Reported[w.key()] != float64(n) {
				t.Errorf("%s: %s = %v, want %d", thing, w.key(), a.State.Reported[w.key()], n)
			}
		}
		n, _ := a.State.Reported["counter"].(float64)
		counted += int(n)
	}
	for _, w := range writers {
		want += w.counted
	}
	if counted != want {
		t.Errorf("counters add up to %d, want %d increments", counted, want)
	}
}
