package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// TestSyncBeforeAcknowledgement watches the system calls of umbrad: between the read of a PUBLISH and the write of
// its PUBACK there is a sync of a file that succeeded. A killed process does not show that, since what it wrote
// stays in the memory of the operating system. The load is one message at a time, so that no sync is another one's.
func TestSyncBeforeAcknowledgement(t *testing.T) {
	t.Parallel()
	strace := umbradtest.Tool(t, "strace")
	u := umbradtest.Start(t, "--store=pebble:"+filepath.Join(t.TempDir(), "db"))
	keeper := dial(t, u.MQTT(), mqtttest.Options{ClientID: "keeper", Keep: true})
	subscribe(t, keeper, "trace/#")
	keeper.Close()
	device := dial(t, u.MQTT(), mqtttest.Options{ClientID: "device"})

	calls := traced(t, strace, u.PID(), func() {
		for i := range 5 {
			publish(t, device, "$aws/things/trace/shadow/update", fmt.Sprintf(`{"state":{"reported":{"n":%d}},"clientToken":"sync-update-%d."}`, i, i))
			publish(t, device, "trace/plain", fmt.Sprintf("sync-message-%d.", i))
		}
	})
	for i := range 5 {
		for _, token := range []string{fmt.Sprintf("sync-update-%d.", i), fmt.Sprintf("sync-message-%d.", i)} {
			if err := syncedBetween(calls, token); err != nil {
				t.Errorf("%s: %v", token, err)
			}
		}
	}
	if t.Failed() {
		t.Logf("system calls:\n%s", strings.Join(calls, "\n"))
	}
}

// traced returns the system calls of a process while do runs, a line each, in the order of their ends.
func traced(t *testing.T, strace string, pid int, do func()) []string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-p", strconv.Itoa(pid), "-o", out, "-s", "400",
		"-e", "trace=read,write,fsync,fdatasync")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var said bytes.Buffer
	attached := make(chan error, 1)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := io.CopyN(&said, stderr, 1) // it says that it is attached, or why not
		attached <- err
		_, _ = io.Copy(&said, stderr)
	}()
	select {
	case <-attached:
	case <-wait(t).Done():
		t.Fatal("strace says nothing")
	}
	do()
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait() // it ends by the signal
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 {
		umbradtest.Skip(t, "strace cannot attach: %s", said.String())
	}
	return strings.Split(string(text), "\n")
}

// syncedBetween finds the read of a packet with token in it, then a sync, then the write of a PUBACK.
func syncedBetween(calls []string, token string) error {
	const pubackV311 = `"@\2` // as strace writes the two bytes that begin it
	read, synced := false, false
	for _, call := range calls {
		switch {
		case !read:
			read = strings.Contains(call, "read") && strings.Contains(call, token)
		case strings.Contains(call, "sync") && strings.HasSuffix(call, "= 0"):
			synced = true
		case strings.Contains(call, "write(") && strings.Contains(call, pubackV311):
			if !synced {
				return fmt.Errorf("acknowledged without a sync: %s", call)
			}
			return nil
		}
	}
	return fmt.Errorf("read: %v, synced: %v, acknowledgement not seen", read, synced)
}
