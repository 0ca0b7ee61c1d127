package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/faultfs"
	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// The flags of make torture.
var (
	tortureFor   = flag.Duration("torture", 0, "how long TestTorture goes on; 0 for every fault once")
	tortureStore = flag.String("torture.store", "", "the one store, pebble or redis, of TestTorture")
	tortureSeed  = flag.Uint64("torture.seed", 0, "of the order of faults and their moments; 0 for a random one")
)

// tortureTell is how often a long run says how it is.
const tortureTell = 10 * time.Second

// TestTorture is [TestDelivery] and [TestCrash] together, with everything that can happen to umbrad, to its disk and to
// its Redis: whatever was acknowledged stays so, and umbrad serves again by itself, or after a restart when it has
// said why it ended.
func TestTorture(t *testing.T) {
	t.Parallel()
	stores := map[string]func(*testing.T) *torture{"pebble": torturePebble, "redis": tortureRedis}
	for name, start := range stores {
		if *tortureStore != "" && *tortureStore != name {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start(t).run(t)
		})
	}
}

// torture is a umbrad and what may happen to it.
type torture struct {
	u      *umbradtest.Umbrad
	faults []tortureFault
	rnd    *rand.Rand

	shadows crashHistoryOf
	writers []*crashWriter
	updates atomic.Int64 // acknowledged
	rounds  map[string]int
}

// tortureFault does something bad and repairs it.
type tortureFault struct {
	name string
	do   func(t *testing.T)
}

func newTorture(t *testing.T) *torture {
	t.Helper()
	seed := *tortureSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-torture.seed=%d", seed)
	return &torture{
		rnd: rand.New(rand.NewPCG(seed, 0)), writers: newCrashWriters(), rounds: map[string]int{},
		shadows: crashHistoryOf{accepted: make(map[string]map[uint64]string)},
	}
}

func torturePebble(t *testing.T) *torture {
	t.Helper()
	r := newTorture(t)
	control := filepath.Join(t.TempDir(), "disk")
	disk := func(t *testing.T, fault string) {
		t.Helper()
		if err := faultfs.Tell(control, fault); err != nil {
			t.Fatal(err)
		}
	}
	r.u = umbradtest.StartTorture(t, "--queue-messages=1000000", "--queue-memory=1KiB", "--commit-timeout=1s",
		"--store=pebble:"+filepath.Join(t.TempDir(), "db"), "TORTURE_DISK="+control)
	deadly := func(fault string, code int, says string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			disk(t, fault)
			r.died(t, code, says)
			disk(t, faultfs.None)
			r.u.Restart()
		}
	}
	passing := func(fault string, least, most time.Duration) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			disk(t, fault)
			r.pause(least, most)
			disk(t, faultfs.None)
		}
	}
	r.faults = []tortureFault{
		{"umbrad is killed", r.kill},
		{"umbrad is killed at its start", r.killAtStart},
		{"umbrad is stopped", r.stop},
		{"power cut", deadly(faultfs.PowerCut, -1, "")},
		{"sync fails", deadly(faultfs.SyncError, 1, "umbrad: pebblestore: out of service until it is opened again: ")},
		{"disk full", deadly(faultfs.Full, 1, "no space left on device")},
		{"disk full for tables", passing(faultfs.TablesFull, 0, time.Second)},
		{"slow disk", passing(faultfs.Slow+" 50ms", time.Second, 2*time.Second)},
		{"disk hangs", passing(faultfs.Hang, 100*time.Millisecond, 3*time.Second)},
	}
	return r
}

func tortureRedis(t *testing.T) *torture {
	t.Helper()
	r := newTorture(t)
	redis := storetest.Redis(t)
	line := newCable(t, strings.TrimSuffix(strings.TrimPrefix(redis.URL, "redis://"), "/0"))
	r.u = umbradtest.Start(t, "--queue-messages=1000000", "--queue-memory=1KiB", "--commit-timeout=1s", "--store-wait=30s",
		"--store=redis://"+line.listener.Addr().String()+"/0")
	r.faults = []tortureFault{
		{"umbrad is killed", r.kill},
		{"umbrad is killed at its start", r.killAtStart},
		{"umbrad is stopped", r.stop},
		{"redis is killed", func(*testing.T) {
			redis.Kill()
			r.pause(0, time.Second)
			redis.Start()
		}},
		{"redis is paused", func(*testing.T) {
			redis.Pause()
			r.pause(0, 3*time.Second)
			redis.Resume()
		}},
		{"connections are cut", func(*testing.T) { line.cut() }},
		{"line is down", func(*testing.T) {
			line.pull()
			r.pause(0, 3*time.Second)
			line.plug()
		}},
		{"umbrad and redis are killed", func(*testing.T) {
			redis.Kill()
			r.u.Kill()
			redis.Start()
			r.u.Restart()
		}},
	}
	return r
}

func (r *torture) kill(*testing.T) {
	r.u.Kill()
	r.u.Restart()
}

func (r *torture) killAtStart(t *testing.T) {
	r.u.Kill()
	r.u.Relaunch()
	r.pause(0, 100*time.Millisecond)
	r.kill(t)
}

func (r *torture) stop(*testing.T) {
	r.u.Stop()
	r.u.Restart()
}

// died checks that umbrad has ended by itself, and what it said last.
func (r *torture) died(t *testing.T, code int, says string) {
	t.Helper()
	got := r.u.Wait()
	lines := strings.Split(strings.TrimSpace(r.u.Log()), "\n")
	if last := lines[len(lines)-1]; got != code || !strings.Contains(last, says) {
		t.Errorf("umbrad ended with code %d, want %d with the last line %q; its log:\n%s", got, code, says, r.u.Log())
	}
}

// pause lets a random time pass.
func (r *torture) pause(least, most time.Duration) {
	time.Sleep(least + time.Duration(r.rnd.Int64N(int64(most-least)))) // the moment is what is random here
}

// run lets every fault happen, and then random ones until the time is over.
func (r *torture) run(t *testing.T) {
	d := startDelivery(t, r.u.MQTT())
	began, told, round := time.Now(), time.Now(), 0
	for _, i := range r.rnd.Perm(len(r.faults)) {
		round++
		r.round(t, d, round, r.faults[i])
	}
	for time.Since(began) < *tortureFor {
		round++
		r.round(t, d, round, r.faults[r.rnd.IntN(len(r.faults))])
		if time.Since(told) > tortureTell {
			told = time.Now()
			t.Logf("%v: %d rounds, %d messages, %d updates", time.Since(began).Round(time.Second), round, d.acknowledged(), r.updates.Load())
		}
	}
	d.finish(t)
	t.Logf("%d rounds in %v: %d messages and %d updates were acknowledged and are all there", round,
		time.Since(began).Round(time.Second), d.acknowledged(), r.updates.Load())
	for _, f := range r.faults {
		t.Logf("%s: %d times", f.name, r.rounds[f.name])
	}
}

// round lets one fault happen while everybody is at work, waits until all is well, and looks at what is left.
func (r *torture) round(t *testing.T, d *delivery, round int, f tortureFault) {
	r.rounds[f.name]++
	if r.rounds[f.name] == 1 {
		t.Logf("round %d: %s", round, f.name)
	}
	doomed := d.doomed(t)
	asking := r.asking(t, round)
	collected := d.collect(t)
	stop := r.write(t)
	r.pause(0, 150*time.Millisecond)
	f.do(t)
	doomed.Abort()
	asking.Abort()
	eventually(t, func() error { return ready(t.Context(), r.u.URL()) })
	d.progress(t)
	collected()
	stop()
	d.verifyKept(t)
	r.verifyAsked(t, round)
	r.shadows.verify(t, r.u, r.writers)
	if t.Failed() {
		t.Fatalf("in round %d: %s", round, f.name)
	}
}

// asking connects a client whose will is a request.
func (r *torture) asking(t *testing.T, round int) *mqtttest.Client {
	t.Helper()
	return dial(t, r.u.MQTT(), mqtttest.Options{ClientID: fmt.Sprint("asking-", round), Will: &mqtttest.Message{
		Topic: fmt.Sprintf("$aws/things/asking-%d/shadow/update", round), Payload: []byte(`{"state":{"reported":{"here":false}}}`), QoS: 1,
	}})
}

// verifyAsked waits until the request of asking is done, and checks that it was done once.
func (r *torture) verifyAsked(t *testing.T, round int) {
	t.Helper()
	eventually(t, func() error {
		res, err := call(t.Context(), http.MethodGet, shadowURL(r.u.URL(), fmt.Sprint("asking-", round)), nil)
		if err != nil {
			return err
		}
		d, err := parse(res.body)
		if err != nil {
			return err
		}
		if res.status != http.StatusOK {
			return fmt.Errorf("shadow of the will: %d %s", res.status, d.Message)
		}
		if d.Version != 1 {
			t.Errorf("a will that is a request made version %d, want 1", d.Version)
		}
		return nil
	})
}

// write lets the writers update shadows, over all faults, until stop.
func (r *torture) write(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	addr := r.u.MQTT()
	listeners := r.shadows.listenAll(t, r.u, &wg)
	for _, w := range r.writers {
		wg.Go(func() {
			for ctx.Err() == nil {
				w.write(ctx, addr, func() { r.updates.Add(1) })
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	return func() {
		cancel()
		for _, l := range listeners {
			l.Abort()
		}
		wg.Wait()
	}
}

// acknowledged is the number of messages that were.
func (d *delivery) acknowledged() (n int) {
	for _, p := range d.senders() {
		n += p.acknowledged()
	}
	return n
}

// progress waits until every publisher has had a few messages acknowledged.
func (d *delivery) progress(t *testing.T) {
	t.Helper()
	for _, p := range d.senders() {
		before := p.acknowledged()
		p.await(t, "acknowledgements again", func() bool { return p.acked > before+2*deliveryWindow })
	}
}

// cable is a line between umbrad and its store that can be cut.
type cable struct {
	listener net.Listener
	target   string

	mu    sync.Mutex // guards what follows
	down  bool
	conns map[net.Conn]struct{}
}

func newCable(t *testing.T, target string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.join(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.pull()
		wg.Wait()
	})
	return c
}

// join connects a connection with the target until one of them ends.
func (c *cable) join(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer out.Close()
	if !c.add(in, out) {
		return
	}
	defer c.remove(in, out)
	var wg sync.WaitGroup
	wg.Go(func() { pipe(in, out) })
	pipe(out, in)
	wg.Wait()
}

// pipe copies until one side ends, then ends both.
func pipe(dst, src net.Conn) {
	_, _ = io.Copy(dst, src)
	_ = dst.Close()
	_ = src.Close()
}

func (c *cable) add(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return false
	}
	for _, conn := range conns {
		c.conns[conn] = struct{}{}
	}
	return true
}

func (c *cable) remove(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		delete(c.conns, conn)
	}
}

// cut ends all connections.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		_ = conn.Close()
	}
}

// pull is cut, and no others can be made until plug.
func (c *cable) pull() {
	c.mu.Lock()
	c.down = true
	c.mu.Unlock()
	c.cut()
}

func (c *cable) plug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = false
}

// TestDiskFull fills the disk: umbrad acknowledges nothing that it cannot store, says why it ends and why it does not
// start, and has everything that it acknowledged when there is room again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	control := filepath.Join(t.TempDir(), "disk")
	u := umbradtest.StartTorture(t, "--store=pebble:"+filepath.Join(t.TempDir(), "db"), "TORTURE_DISK="+control)
	c := dial(t, u.MQTT(), mqtttest.Options{})
	publish(t, c, "$aws/things/lamp/shadow/update", `{"state":{"reported":{"n":1}}}`)
	tell := func(fault string) {
		if err := faultfs.Tell(control, fault); err != nil {
			t.Fatal(err)
		}
	}
	tell(faultfs.Full)
	update := mqtttest.Message{Topic: "$aws/things/lamp/shadow/update", QoS: 1, Payload: []byte(`{"state":{"reported":{"n":2}}}`)}
	if ack, err := c.Publish(wait(t), update); err == nil {
		t.Errorf("update on a full disk was acknowledged: %+v", ack)
	}
	for _, life := range []string{"running", "started"} {
		if code := u.Wait(); code != 1 || !strings.Contains(u.Log(), syscall.ENOSPC.Error()) {
			t.Errorf("umbrad %s on a full disk: exit code %d, want 1 and why:\n%s", life, code, u.Log())
		}
		if life == "running" {
			u.Relaunch()
		}
	}
	tell(faultfs.None)
	u.Restart()
	if d := fetch(t, u.URL(), "lamp"); d.State.Reported["n"] != 1.0 {
		t.Errorf("shadow after the disk was full = %+v, want n = 1", d)
	}
	c = dial(t, u.MQTT(), mqtttest.Options{})
	publish(t, c, update.Topic, string(update.Payload))
}
