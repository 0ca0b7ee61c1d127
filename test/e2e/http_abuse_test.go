package e2e_test

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/test/mqtttest"
)

// basic is the header with a user and a password.
func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

// exchange makes one request after another on one connection.
type exchange struct {
	net.Conn
	r *bufio.Reader
}

func exchangeWith(t *testing.T, addr string) *exchange {
	t.Helper()
	c := open(t, addr)
	_ = c.SetDeadline(time.Now().Add(patience))
	return &exchange{c, bufio.NewReader(c)}
}

// do sends a request without a body and returns the status of its answer.
func (e *exchange) do(t *testing.T, line, headers string) int {
	t.Helper()
	_, _ = io.WriteString(e, line+" HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n")
	resp, err := http.ReadResponse(e.r, nil)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return resp.StatusCode
}

// TestWhatARequestShowsCountsForItAlone makes a request without credentials on a connection where others have shown some.
func TestWhatARequestShowsCountsForItAlone(t *testing.T) {
	t.Parallel()
	l := startLogin(t, "--store=memory:")
	root := basic("root", l.adminPassword)
	e := exchangeWith(t, l.HTTP())
	for _, tt := range []struct {
		line, headers string
		want          int
	}{
		{"GET /mqtt", root, http.StatusUpgradeRequired},
		{"GET /things/lamp/shadow", "", http.StatusUnauthorized},
		{"GET /things/lamp/shadow", root, http.StatusNotFound},
		{"GET /things/lamp/shadow", "", http.StatusUnauthorized},
		{"GET /v1/credentials/users", "", http.StatusUnauthorized},
	} {
		if got := e.do(t, tt.line, tt.headers); got != tt.want {
			t.Errorf("%s with the headers %q = %d, want %d", tt.line, tt.headers, got, tt.want)
		}
	}
	connect := string(mqtttest.AppendConnect(nil, mqtttest.Options{ClientID: "web"}))
	for headers, accepted := range map[string]bool{root: true, "": false} {
		e := exchangeWith(t, l.HTTP())
		if got := e.do(t, "GET /mqtt", root); got != http.StatusUpgradeRequired {
			t.Errorf("GET /mqtt = %d", got)
		}
		_, _ = io.WriteString(e, upgrade(headers))
		if head := readHead(t, e); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
			t.Fatalf("the answer to the upgrade is %s", head)
		}
		_, _ = io.WriteString(e, frame(0x82, uint64(len(connect)), connect))
		connack := make([]byte, 6) // two bytes of the frame, four of the packet
		if _, err := io.ReadFull(e, connack); err != nil || (connack[5] == 0) != accepted {
			t.Errorf("a WebSocket with the headers %q is answered with %x, %v", headers, connack, err)
		}
	}
}
