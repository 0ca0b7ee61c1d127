package e2e_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// str is a string of MQTT, which need not be UTF-8.
func str(s string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s
}

// packet is a packet of MQTT of less than 128 bytes.
func packet(head byte, body string) string { return string([]byte{head, byte(len(body))}) + body }

// send opens a connection and sends something, as far as the server takes it.
func send(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	c := open(t, addr)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, text) // the server may have closed it
	return c
}

// isClosed reports whether the server ends a connection.
func isClosed(c net.Conn) bool {
	defer c.Close()
	_, err := io.Copy(io.Discard, c)
	timeout, ok := errors.AsType[net.Error](err)
	return !ok || !timeout.Timeout()
}

// TestBrokenTextReachesNobody sends text that is not UTF-8, or has the character U+0000, in every place where others would
// get it.
func TestBrokenTextReachesNobody(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	bystander := dial(t, u.MQTT(), mqtttest.Options{Version: mqtttest.V5, ClientID: "bystander"})
	subscribe(t, bystander, "#", "$aws/events/#")
	connects := 0
	connect := func() string { // of a client that takes over no other one
		connects++
		return packet(0x10, str("MQTT")+"\x05\x02\x00\x00\x00"+str(fmt.Sprint("c", connects)))
	}
	sent := map[string]net.Conn{}
	publish := func(topic, properties string) string {
		return packet(0x30, str(topic)+string([]byte{byte(len(properties))})+properties+"x")
	}
	for _, bad := range []string{"a\xFF", "a\x00b", "\xED\xA0\x80", "\xC0\xAF", "\xF4\x90\x80\x80"} {
		for place, text := range map[string]string{
			"topic":              connect() + publish(bad, ""),
			"topic of a request": connect() + publish("$aws/things/"+bad+"/shadow/update", ""),
			"user property":      connect() + publish("a", "\x26"+str("k")+str(bad)),
			"content type":       connect() + publish("a", "\x03"+str(bad)),
			"response topic":     connect() + publish("a", "\x08"+str(bad)),
			"client id":          packet(0x10, str("MQTT")+"\x05\x02\x00\x00\x00"+str(bad)),
			"will topic":         packet(0x10, str("MQTT")+"\x05\x06\x00\x00\x00"+str("c")+"\x00"+str(bad)+str("x")),
			"will property":      packet(0x10, str("MQTT")+"\x05\x06\x00\x00\x00"+str("c")+string([]byte{byte(len(bad) + 3)})+"\x03"+str(bad)+str("w")+str("x")),
		} {
			sent[fmt.Sprintf("%s of %q", place, bad)] = send(t, u.MQTT(), text)
		}
	}
	for what, c := range sent {
		if !isClosed(c) {
			t.Errorf("a %s does not end the connection", what)
		}
	}
	if _, err := bystander.Publish(wait(t), mqtttest.Message{Topic: "end", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := bystander.Receive(wait(t))
		if err != nil {
			t.Fatal(err)
		}
		if m.Topic == "end" {
			return
		}
		if regexp.MustCompile(`^\$aws/events/[a-z/]+/(c[0-9]+|bystander)$`).MatchString(m.Topic) {
			continue
		}
		t.Errorf("the bystander gets %q on %q", m.Payload, m.Topic)
	}
}

// TestBadConnectsLeaveNothing sends CONNECT packets whose last part is wrong, after a large will: nothing of them stays.
func TestBadConnectsLeaveNothing(t *testing.T) {
	t.Parallel()
	const connects, size = 4000, 32 << 10
	u := umbradtest.Start(t, "--store=memory:")
	bad := func(n int) {
		t.Helper()
		for i := range n {
			user := []string{str("user\xFF"), "\x00\xFFuser"}[i%2] // text that is wrong, and a length that is
			body := str("MQTT") + "\x05\x86\x00\x00\x00" + str("c") + "\x00" + str("w") + str(strings.Repeat("x", size)) + user
			if !isClosed(send(t, u.MQTT(), string(binary.AppendUvarint([]byte{0x10}, uint64(len(body))))+body)) {
				t.Fatal("a CONNECT packet that is wrong does not end the connection")
			}
		}
	}
	bad(100)
	before := rss(t, u.PID())
	bad(connects)
	if grown := rss(t, u.PID()) - before; grown > connects*size/3 {
		t.Errorf("%d bad CONNECT packets of %d KiB leave %d MiB", connects, size>>10, grown>>20)
	}
}
