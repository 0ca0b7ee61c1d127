package e2e_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// health is what others notice of an attack: a client that publishes to itself, one that is new, and one of HTTP, each
// with a second for its answer.
type health struct {
	u    *umbradtest.Umbrad
	conn *mqtttest.Client
	o    mqtttest.Options
}

// oneSecond is how long a healthy client waits at most; with the race detector, and on a machine that is busy, more.
const oneSecond = 5 * time.Second

func newHealth(t *testing.T, u *umbradtest.Umbrad, o mqtttest.Options) *health {
	t.Helper()
	h := &health{u: u, o: o}
	h.o.ClientID = "health"
	h.conn = dial(t, u.MQTT(), h.o)
	subscribe(t, h.conn, "health")
	return h
}

// check fails the test when a healthy client is not served in time. It returns the longest wait.
func (h *health) check(t *testing.T) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), oneSecond)
	defer cancel()
	began := time.Now()
	if _, err := h.conn.Publish(ctx, mqtttest.Message{Topic: "health", Payload: []byte("x"), QoS: 1}); err != nil {
		t.Fatalf("a client that was there is not served: %v", err)
	}
	receive(t, h.conn, "health")
	o := h.o
	o.ClientID = "health-new"
	c, err := mqtttest.Dial(ctx, h.u.MQTT(), o)
	if err != nil {
		t.Fatalf("a new client is not served: %v", err)
	}
	c.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.u.URL()+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("HTTP is not served: %v", err)
	}
	resp.Body.Close()
	return time.Since(began)
}

// rss is the memory of a process in bytes.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		umbradtest.Skip(t, "no /proc: %v", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func open(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(wait(t), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestConnectionsLeaveFilesToTheStore has clients that are known open more connections than the process may have files:
// the store keeps those that it needs.
func TestConnectionsLeaveFilesToTheStore(t *testing.T) {
	t.Parallel()
	const files = 300 // 75 for the store, 161 connections
	u := umbradtest.StartWithFiles(t, files)
	h := dial(t, u.MQTT(), mqtttest.Options{ClientID: "health"})
	subscribe(t, h, "health")
	refused := 0
	for i := range files {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		c, err := mqtttest.Dial(ctx, u.MQTT(), mqtttest.Options{ClientID: fmt.Sprint("c", i)})
		cancel()
		if err != nil {
			refused++
			continue
		}
		t.Cleanup(c.Close)
	}
	if refused < files/3 {
		t.Errorf("%d of %d connections are refused", refused, files)
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", u.PID()))
	if err != nil {
		umbradtest.Skip(t, "no /proc: %v", err)
	}
	if left := files - len(open); left < files/4 {
		t.Errorf("of %d files %d are left to the store", files, left)
	}
	if _, err := h.Publish(wait(t), mqtttest.Message{Topic: "health", Payload: []byte("x"), QoS: 1}); err != nil {
		t.Errorf("a client that was there is not served: %v", err)
	}
	if strings.Contains(u.Log(), "too many open files") || !strings.Contains(u.Log(), "allows few connections") {
		t.Errorf("log:\n%s", u.Log())
	}
}

// TestStrangers occupies the places of strangers in every way: silent connections, a byte now and then, packets that are
// announced and do not come, HTTP headers without an end. Others are served throughout, and memory stays bounded.
func TestStrangers(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:", "--stranger-bytes=8MiB", "--connect-timeout=30s") // 256 strangers
	h := newHealth(t, l.Umbrad, mqtttest.Options{Username: "alice", Password: l.userPassword})
	before := rss(t, l.PID())
	var slow []net.Conn
	longest := time.Duration(0)
	for range 3 {
		for range 60 {
			for _, first := range []string{"", "\x10", "\x10\xFF\x7F\x00\x04MQTT", "\x10\xFF\xFF\xFF\x7F"} {
				c := open(t, l.MQTT())
				_, _ = io.WriteString(c, first)
				slow = append(slow, c)
			}
			c := open(t, l.HTTP())
			_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
			slow = append(slow, c)
		}
		for _, c := range slow {
			_, _ = c.Write([]byte("\x00")) // many are closed by now
		}
		longest = max(longest, h.check(t))
	}
	if grown := rss(t, l.PID()) - before; grown > 96<<20 {
		t.Errorf("%d strangers cost %d MiB", len(slow), grown>>20)
	}
	t.Logf("%d strangers; a healthy client waited %v at most", len(slow), longest)
}

// TestManyFilters has clients send the most filters that there is room for in a packet, all at once: they are answered, and
// cost little more than their packets.
func TestManyFilters(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	h := newHealth(t, u, mqtttest.Options{})
	before := rss(t, u.PID())
	const clients, filters = 30, 340_000
	var group sync.WaitGroup
	for i := range clients {
		head, size, answer := byte(0x82), 3, 2+filters // SUBSCRIBE to empty filters, and its SUBACK
		if i%2 == 0 {
			head, size, answer = 0xA2, 2, 2 // UNSUBSCRIBE
		}
		body := make([]byte, 2+filters*size)
		body[1] = 1
		packet := mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: fmt.Sprint("c", i)})
		packet = append(binary.AppendUvarint(append(packet, head), uint64(len(body))), body...)
		c := open(t, u.MQTT())
		_ = c.SetDeadline(time.Now().Add(patience))
		group.Go(func() {
			if _, err := c.Write(packet); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
			if n, err := io.CopyN(io.Discard, c, int64(4+answer)); err != nil { // after CONNACK
				t.Errorf("client %d: %d bytes of the answer, %v", i, n, err)
			}
		})
	}
	group.Wait()
	if grown := rss(t, u.PID()) - before; grown > 128<<20 {
		t.Errorf("%d packets of %d filters cost %d MiB", clients, filters, grown>>20)
	}
	h.check(t)
}

// TestAnnouncedPackets has clients announce large packets and begin them: memory is spent on what has come.
func TestAnnouncedPackets(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--payload-bytes=1MiB")
	number := func(name string) float64 {
		t.Helper()
		n, err := strconv.ParseFloat(metric(t, u, name), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const heap = "go_memstats_heap_alloc_bytes"
	before, sent := number(heap), 0
	const clients = 300
	for i := range clients {
		c := open(t, u.MQTT())
		packet := append(mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: fmt.Sprint("c", i)}), "\x30\x80\x80\x40\x00\x01ax"...)
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		sent += len(packet)
	}
	eventually(t, func() error {
		if got := number(`umbra_mqtt_bytes_total{dir="in"}`); got < float64(sent) {
			return fmt.Errorf("%v of %d bytes are read", got, sent)
		}
		return nil
	})
	if grown := int(number(heap)-before) >> 20; grown > clients/3 {
		t.Errorf("%d packets of 1 MiB that are announced cost %d MiB", clients, grown)
	}
}

// TestClientThatReadsNothing has a client subscribe to a flood and never read: it loses messages or its connection,
// nobody else does.
func TestClientThatReadsNothing(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--queue-bytes=1MiB", "--outgoing-bytes=64KiB")
	h := newHealth(t, u, mqtttest.Options{})
	deaf := open(t, u.MQTT())
	_, _ = deaf.Write(mqtttest.AppendSubscribe(mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: "deaf"}), mqtttest.V311, 1, "flood"))
	before := rss(t, u.PID())
	payload := bytes.Repeat([]byte("x"), 16<<10)
	for range 500 {
		if _, err := h.conn.Publish(wait(t), mqtttest.Message{Topic: "flood", Payload: payload, QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	h.check(t)
	if grown := rss(t, u.PID()) - before; grown > 64<<20 {
		t.Errorf("a client that reads nothing costs %d MiB", grown>>20)
	}
}

// TestClientThatReadsNothingIsForgotten cuts off clients that take no bytes, over TCP and over WebSocket. Of what they have
// not taken the system keeps nothing: they are reset.
func TestClientThatReadsNothingIsForgotten(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--write-timeout=1s")
	hello := string(mqtttest.AppendSubscribe(mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: "deaf"}), mqtttest.V311, 1, "flood"))
	cut := 0
	for name, begin := range map[string]func() net.Conn{
		"TCP": func() net.Conn {
			c := open(t, u.MQTT())
			_, _ = io.WriteString(c, hello)
			return c
		},
		"WebSocket": func() net.Conn {
			c := webSocket(t, u.HTTP())
			_, _ = io.WriteString(c, frame(0x82, uint64(len(hello)), hello))
			return c
		},
	} {
		deaf := begin()
		cut++
		publisher := dial(t, u.MQTT(), mqtttest.Options{ClientID: "publisher"})
		flood := mqtttest.Message{Topic: "flood", Payload: make([]byte, 100<<10), QoS: 1}
		eventually(t, func() error { // until it is noticed
			for range 10 {
				if _, err := publisher.Publish(wait(t), flood); err != nil {
					t.Fatal(err)
				}
			}
			if told := strings.Count(u.Log(), "the client reads nothing"); told < cut {
				return fmt.Errorf("%s: the connection stands", name)
			}
			return nil
		})
		_ = deaf.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, deaf); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the connection ends with %v, want a reset", name, err)
		}
	}
}

// TestFloodOfLogins tries passwords on many connections at once: the checks take turns, and who is in stays served.
func TestFloodOfLogins(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:", "--password-checks=1")
	h := newHealth(t, l.Umbrad, mqtttest.Options{Username: "alice", Password: l.userPassword})
	before := rss(t, l.PID())
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil && n < 3; n++ {
				c, err := mqtttest.Dial(ctx, l.MQTT(), mqtttest.Options{Username: "alice", Password: fmt.Sprint("guess", i, n)})
				if err == nil {
					c.Close()
					t.Error("a guess gets in")
				}
			}
		})
	}
	for range 3 {
		h.check(t) // its password is remembered
	}
	if grown := rss(t, l.PID()) - before; grown > 96<<20 {
		t.Errorf("a flood of logins costs %d MiB", grown>>20)
	}
	cancel()
	all.Wait()
}

// fuzzFor is how long TestListenerFuzz runs; make fuzz gives it minutes.
func fuzzFor() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("UMBRA_FUZZTIME")); err == nil {
		return d
	}
	return 3 * time.Second
}

// TestListenerFuzz sends packets that were mutated, before and after CONNECT, over MQTT and WebSocket's port. Nothing
// panics, nothing leaks, and others are served throughout.
func TestListenerFuzz(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:", "--connect-timeout=1s")
	h := newHealth(t, u, mqtttest.Options{})
	end := time.Now().Add(fuzzFor())
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() { mutate(t, u, uint64(worker), end) })
	}
	longest := time.Duration(0)
	for time.Now().Before(end) {
		longest = max(longest, h.check(t))
	}
	all.Wait()
	h.check(t)
	if strings.Contains(u.Log(), "panic") {
		t.Error("a packet makes the server panic: see the log")
	}
	eventually(t, func() error {
		text := metric(t, u, "umbra_mqtt_connections")
		if text != "1" {
			return fmt.Errorf("%s connections are left, want that of the healthy client", text)
		}
		return nil
	})
	t.Logf("a healthy client waited %v at most", longest)
}

// metric returns the value of a metric.
func metric(t *testing.T, u *umbradtest.Umbrad, name string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(wait(t), http.MethodGet, u.URL()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// mutate sends mutated packets until end. The seed makes a failure come again.
func mutate(t *testing.T, u *umbradtest.Umbrad, seed uint64, end time.Time) {
	random := rand.New(rand.NewPCG(seed, 5))
	packets := [][]byte{
		mqtttest.AppendPublish(nil, mqtttest.V311, 1, mqtttest.Message{Topic: "a/b", Payload: []byte("x"), QoS: 1}),
		mqtttest.AppendPublish(nil, mqtttest.V5, 2, mqtttest.Message{Topic: "$aws/things/lamp/shadow/update", Payload: []byte(`{"state":{"desired":{"a":[1,{"b":null}]}}}`), QoS: 2}),
		mqtttest.AppendSubscribe(nil, mqtttest.V311, 3, "a/#", "$share/g/+"),
		mqtttest.AppendSubscribe(nil, mqtttest.V5, 4, "$aws/things/+/shadow/#"),
		{0xC0, 0},
		{0x62, 2, 0, 1},
		{0x40, 2, 0, 1},
		{0xA2, 5, 0, 1, 0, 1, 'a'},
		{0xE0, 0},
		{0xF0, 2, 0x18, 0},
		[]byte("GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n\x82\x85\x00\x00\x00\x00\x10\x0c\x00\x04M"),
	}
	connects := [][]byte{
		mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: fmt.Sprint("fuzz", seed), Username: "u", Password: "p"}),
		mqtttest.AppendConnect(nil, mqtttest.Options{
			Version: mqtttest.V5, ClientID: fmt.Sprint("fuzz", seed), Keep: true, Will: &mqtttest.Message{Topic: "will", Payload: []byte("w")},
		}),
	}
	for time.Now().Before(end) {
		addr := u.MQTT()
		var b []byte
		if random.IntN(3) > 0 { // after CONNECT
			b = append(b, connects[random.IntN(2)]...)
		} else {
			packets = append(packets[:11], connects...)
		}
		if random.IntN(8) == 0 {
			addr = u.HTTP()
			b = nil
		}
		for range 1 + random.IntN(4) {
			b = append(b, damage(random, packets[random.IntN(len(packets))])...)
		}
		c, err := (&net.Dialer{Timeout: patience}).Dial("tcp", addr)
		if err != nil {
			t.Errorf("dial: %v", err)
			return
		}
		_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = c.Write(b)
		_, _ = c.Read(make([]byte, 64))
		_ = c.Close()
	}
}

// damage returns a copy of a packet with some bytes changed, left out or put in.
func damage(random *rand.Rand, p []byte) []byte {
	p = bytes.Clone(p)
	for range random.IntN(4) {
		if len(p) == 0 {
			return p
		}
		i := random.IntN(len(p))
		switch random.IntN(4) {
		case 0:
			p[i] = byte(random.Uint32())
		case 1:
			p[i] ^= 1 << random.IntN(8)
		case 2:
			p = append(p[:i], p[i+1:]...)
		default:
			p = append(p[:i], append([]byte{byte(random.Uint32())}, p[i:]...)...)
		}
	}
	return p
}
