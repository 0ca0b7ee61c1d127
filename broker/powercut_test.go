package broker_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/pebblestore"
)

// TestPowerCut cuts the power at random moments while clients publish, retain and connect with wills, and starts another
// server on what is left of the disk, of which what was not synced is lost in part.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	const cuts = 12
	files := vfs.NewCrashableMem()
	s := startOn(t, broker.Options{}, openOn(t, files), true)
	away := s.connect(t, device("away"))
	away.subscribe(2, "once", "least", "will/#")
	away.leave()
	l := &load{once: s.connect(t, device("once")), least: s.connect(t, connectOptions{id: "least"})}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		l.run(stop)
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	random := rand.New(rand.NewPCG(1, 2))
	for cut := range cuts {
		for target := l.done.Load() + 10; l.done.Load() < target && !t.Failed(); {
			l.tick(t)
		}
		s.connect(t, connectOptions{id: fmt.Sprint("doomed-", cut), edit: withWill(fmt.Sprint("will/", cut), "1", func(pk *packets.Packet) {
			pk.Connect.WillQos = 2
		})})
		floor := l.done.Load()
		after := files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: cut * 100 / (cuts - 1), RNG: random})
		ceiling := l.begun.Load()
		l.verify(t, after, floor, ceiling, cut+1)
	}
}

func openOn(t *testing.T, files vfs.FS) statestore.Store {
	t.Helper()
	store, err := pebblestore.Open("db", statestore.Options{}, pebblestore.Options{FS: files})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return store
}

// load is publishers that publish the same number each, one after the other.
type load struct {
	once, least *raw         // publish with QoS 2, and with QoS 1 and retained
	begun, done atomic.Int64 // numbers of which the first was sent, and all are acknowledged
}

// tick waits a moment.
func (l *load) tick(t *testing.T) {
	t.Helper()
	done := l.done.Load()
	eventually(t, "another message is acknowledged", func() bool { return l.done.Load() > done })
}

func (l *load) run(stop chan struct{}) {
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		l.begun.Store(int64(n))
		id := uint16(n%60000 + 1)
		l.once.publish(message("once", strconv.Itoa(n), 2, id))
		kept := message("least", strconv.Itoa(n), 1, id)
		kept.FixedHeader.Retain = true
		l.least.publish(kept)
		l.done.Store(int64(n))
	}
}

// verify starts a server on what the disk holds and looks at what the subscriber gets.
func (l *load) verify(t *testing.T, files vfs.FS, floor, ceiling int64, wills int) {
	t.Helper()
	s := startOn(t, broker.Options{}, openOn(t, files), true)
	kept, ok := s.RetainedMessage("least")
	if n, _ := strconv.ParseInt(string(kept.Payload), 10, 64); !ok || n < floor || n > ceiling {
		t.Errorf("retained message = %q, want %d to %d", kept.Payload, floor, ceiling)
	}
	away := s.again(t, device("away"), true)
	got := map[string]int64{}
	for got["wills"] < int64(wills) || got["once"] < floor || got["least"] < floor {
		pk := away.want(packets.Publish)
		n, err := strconv.ParseInt(string(pk.Payload), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(pk.TopicName, "will/") {
			got["wills"]++
		}
		if n != got[pk.TopicName]+1 || n > max(ceiling, 1) {
			t.Errorf("%s: %d comes after %d", pk.TopicName, n, got[pk.TopicName])
		}
		got[pk.TopicName] = n
		away.acknowledge(pk)
	}
	s.stop()
}
