package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// TestSubscribeSentBeforeAMessageCounts has umbrad find a SUBSCRIBE of one connection and a PUBLISH of another at the
// same time: it is stopped while they come. It runs one goroutine at a time, and the reader of the message would be first.
func TestSubscribeSentBeforeAMessageCounts(t *testing.T) {
	t.Parallel()
	const rounds = 20
	u := umbradtest.Start(t, "--store=memory:", "GOMAXPROCS=1")
	publisher, subscriber := dial(t, u.MQTT(), mqtttest.Options{}), dial(t, u.MQTT(), mqtttest.Options{})
	subscribe(t, subscriber, "last/+")
	came := 0
	for i := range uint16(rounds) {
		topic := fmt.Sprintf("order/%d", i)
		message := mqtttest.Message{Topic: topic, Payload: []byte("1"), QoS: 1}
		threads(t, u, "S")
		u.Signal(syscall.SIGSTOP)
		threads(t, u, "T")
		err1 := subscriber.Write(mqtttest.AppendSubscribe(nil, mqtttest.V311, 1000+i, topic))
		err2 := publisher.Write(mqtttest.AppendPublish(nil, mqtttest.V311, 1000+i, message))
		u.Signal(syscall.SIGCONT)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		publish(t, publisher, fmt.Sprintf("last/%d", i), "1")
		m, err := subscriber.Receive(wait(t))
		if err == nil && m.Topic == topic {
			came++
			m, err = subscriber.Receive(wait(t))
		}
		if err != nil || m.Topic != fmt.Sprintf("last/%d", i) {
			t.Fatalf("round %d: got a message on %q, %v", i, m.Topic, err)
		}
	}
	if came < rounds/2 { // a timer of the runtime may wake a thread at the wrong moment
		t.Errorf("%d of %d messages reached a subscription that was asked for before they were sent", came, rounds)
	}
}

// threads waits until all threads of umbrad are in a state of proc(5): S sleeping, T stopped.
func threads(t *testing.T, u *umbradtest.Umbrad, state string) {
	t.Helper()
	eventually(t, func() error {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", u.PID()))
		for _, f := range files {
			stat, err := os.ReadFile(f)
			if _, after, _ := strings.Cut(string(stat), ") "); err == nil && !strings.HasPrefix(after, state) {
				return fmt.Errorf("umbrad has a thread that is not %s: %s", state, stat)
			}
		}
		return err
	})
}
