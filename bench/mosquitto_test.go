package bench

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkMosquitto measures plain QoS 1 messages from one connection to another, for sessions that end with their
// connection: umbrad against Mosquitto without persistence.
func BenchmarkMosquitto(b *testing.B) {
	if b.N > 1 {
		return // see BenchmarkUpdatePath
	}
	umbra, bare := umbraServer(b, "umbra", "pebble:"+diskDir(b)), bareServer(b)
	umbra.traffic, bare.traffic = apart, apart
	measureAll(b, []*server{mosquittoServer(b), umbra, bare})
}

// apart is plain with a connection for each direction.
func apart(run string) traffic {
	t := plain(run)
	t.apart = true
	return t
}

// mosquittoServer starts Mosquitto, which listens until the benchmark ends.
func mosquittoServer(b *testing.B) *server {
	b.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto" // not in the PATH of every user
		if _, err := os.Stat(program); err != nil {
			b.Skip("mosquitto is not installed (Debian package mosquitto)")
		}
	}
	addr := freeAddress(b)
	_, port, _ := net.SplitHostPort(addr)
	config := filepath.Join(b.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nlog_type error\n", port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "-c", config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	})
	for end := time.Now().Add(10 * time.Second); ; pause(b.Context(), 10*time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(end) {
			b.Fatalf("mosquitto does not listen: %v", err)
		}
	}
	return &server{name: "mosquitto", addr: addr, pids: []int{cmd.Process.Pid}, traffic: apart}
}

// freeAddress returns an address on which nobody listens now.
func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
