package e2e_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// TestIdleSessionsCostNoCPU looks at the CPU time of a server with many sessions that wait with full queues, and with
// clients that say nothing.
func TestIdleSessionsCostNoCPU(t *testing.T) {
	t.Parallel()
	const (
		sessions, messages = 500, 20
		idle               = 2 * time.Second
		most               = idle / 10
	)
	u := umbradtest.Start(t, "--store=memory:", "--system-interval=0s")
	for i := range sessions {
		c := dial(t, u.MQTT(), mqtttest.Options{ClientID: fmt.Sprint("sleeper-", i), Keep: true})
		subscribe(t, c, "t")
		if i%2 == 0 {
			c.Abort()
		}
	}
	p := dial(t, u.MQTT(), mqtttest.Options{})
	for range messages {
		publish(t, p, "t", "x")
	}
	before := cpuTime(t, u.PID())
	time.Sleep(idle) // what is measured is that nothing happens
	if used := cpuTime(t, u.PID()) - before; used > most {
		t.Errorf("%v of CPU time in %v with %d idle sessions, want at most %v", used, idle, sessions, most)
	}
}

// cpuTime is what a process has used, user and system.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		umbradtest.Skip(t, "no /proc: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // after the name
	fields := strings.Fields(rest)
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
