package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/pki"
	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// secure is a umbrad with TLS and an authority whose certificates it takes.
type secure struct {
	*umbradtest.Umbrad
	ca  *pki.Authority
	dir string
}

func startSecure(t *testing.T, args ...string) *secure {
	t.Helper()
	s := &secure{dir: t.TempDir()}
	var err error
	if s.ca, err = pki.Init(s.dir, pki.Options{}); err == nil {
		_, err = s.ca.Issue(pki.Request{Name: "umbra", Hosts: []string{"localhost", "127.0.0.1"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Umbrad = umbradtest.Start(t, append([]string{
		"--store=memory:", "--mqtts=127.0.0.1:0", "--https=127.0.0.1:0", "--tls-cert=" + s.file("server.pem"), "--tls-key=" + s.file("server.key"),
		"--tls-client-ca=" + s.file("ca.pem"), "--tls-crl=" + s.file("ca.crl"),
	}, args...)...)
	return s
}

func (s *secure) file(name string) string { return filepath.Join(s.dir, name) }

func (s *secure) issue(t *testing.T, thing string) {
	t.Helper()
	if _, err := s.ca.Issue(pki.Request{Name: thing}); err != nil {
		t.Fatal(err)
	}
}

// config is the TLS settings of a client, with the certificate of a thing ("" for none).
func (s *secure) config(t *testing.T, thing string) *tls.Config {
	t.Helper()
	data, err := os.ReadFile(s.file("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	c := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	if thing != "" {
		pair, err := tls.LoadX509KeyPair(s.file(thing+".pem"), s.file(thing+".key"))
		if err != nil {
			t.Fatal(err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return c
}

// connect connects over TLS; kind is the listener.
func (s *secure) connect(t *testing.T, kind string, c *tls.Config, o mqtttest.Options) (*mqtttest.Client, error) {
	t.Helper()
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		return (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", s.Addr(kind))
	}
	return mqtttest.Dial(wait(t), s.Addr(kind), o)
}

func (s *secure) mustConnect(t *testing.T, kind string, c *tls.Config, o mqtttest.Options) *mqtttest.Client {
	t.Helper()
	client, err := s.connect(t, kind, c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// get asks over HTTPS and returns the status and the body.
func (s *secure) get(t *testing.T, c *tls.Config, path string) (int, string) {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(wait(t), http.MethodGet, "https://"+s.Addr("https")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestMosquittoOverTLS(t *testing.T) {
	t.Parallel()
	s := startSecure(t)
	s.issue(t, "lamp")
	_, port, _ := strings.Cut(s.Addr("mqtts"), ":")
	for _, alpn := range []string{"", "x-amzn-mqtt-ca", "mqtt"} {
		args := []string{
			"-h", "localhost", "-p", port, "--cafile", s.file("ca.pem"), "--cert", s.file("lamp.pem"), "--key", s.file("lamp.key"),
			"-i", "lamp", "-q", "1", "-t", "$aws/things/lamp/shadow/update", "-m", `{"state":{"reported":{"alpn":"` + alpn + `"}}}`,
		}
		if alpn != "" {
			args = append(args, "--tls-alpn", alpn)
		}
		if out, err := exec.CommandContext(wait(t), umbradtest.Tool(t, "mosquitto_pub"), args...).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub with ALPN %q: %v\n%s", alpn, err, out)
		}
		if status, body := s.get(t, s.config(t, "lamp"), "/things/lamp/shadow"); status != http.StatusOK || !strings.Contains(body, `"alpn":"`+alpn+`"`) {
			t.Errorf("shadow after mosquitto_pub with ALPN %q: %d %s", alpn, status, body)
		}
	}
}

// TestCertificates holds the door against everybody whose certificate does not count.
func TestCertificates(t *testing.T) {
	t.Parallel()
	s := startSecure(t)
	s.issue(t, "lamp")
	if _, err := s.ca.Issue(pki.Request{Name: "old", Now: time.Now().Add(-48 * time.Hour), Valid: time.Hour}); err != nil {
		t.Fatal(err)
	}
	rogue := startSecure(t)
	rogue.issue(t, "lamp")
	foreign := rogue.config(t, "lamp")
	foreign.RootCAs = s.config(t, "").RootCAs
	for name, c := range map[string]*tls.Config{"none": s.config(t, ""), "expired": s.config(t, "old"), "rogue": foreign} {
		if client, err := s.connect(t, "mqtts", c, mqtttest.Options{ClientID: "lamp"}); err == nil {
			client.Close()
			t.Errorf("a client gets in with this certificate: %s", name)
		}
		if status, body := s.get(t, c, "/things/lamp/shadow"); status == http.StatusOK || status == http.StatusNotFound {
			t.Errorf("GET with this certificate: %s = %d %s", name, status, body)
		}
	}
	if status, body := s.get(t, s.config(t, ""), "/things/lamp/shadow"); status != http.StatusUnauthorized || !strings.Contains(body, `"message"`) {
		t.Errorf("GET without a certificate = %d %s, want 401", status, body)
	}
	if status, _ := s.get(t, s.config(t, ""), "/livez"); status != http.StatusOK {
		t.Errorf("GET /livez without a certificate = %d", status)
	}
	plain, err := mqtttest.Dial(wait(t), s.MQTT(), mqtttest.Options{ClientID: "lamp"})
	if err == nil {
		plain.Close()
		t.Error("a client gets in without TLS and without anything else")
	}
	old := s.config(t, "lamp")
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	if _, err := s.connect(t, "mqtts", old, mqtttest.Options{ClientID: "lamp"}); err == nil {
		t.Error("a client gets in with TLS 1.1")
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := s.config(t, "lamp")
		c.MinVersion, c.MaxVersion = version, version
		s.mustConnect(t, "mqtts", c, mqtttest.Options{ClientID: "lamp"})
		c = s.config(t, "lamp")
		c.NextProtos = []string{"x-amzn-mqtt-ca"}
		s.mustConnect(t, "https", c, mqtttest.Options{ClientID: "lamp"})
	}
}

// The URI in a certificate of umbra cert names the thing as its common name does.
// TestLongHandshakes shows many certificates.
func TestLongHandshakes(t *testing.T) {
	t.Parallel()
	for bound, want := range map[string]bool{"16KiB": true, "4KiB": false} {
		s := startSecure(t, "--tls-handshake-bytes="+bound)
		s.issue(t, "lamp")
		c := s.config(t, "lamp")
		pair, err := c.GetClientCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			pair.Certificate = append(pair.Certificate, pair.Certificate...)
		}
		client, err := s.connect(t, "mqtts", c, mqtttest.Options{ClientID: "lamp"})
		if err == nil {
			client.Close()
		}
		if (err == nil) != want {
			t.Errorf("a handshake of certificates of %d bytes, of which there may be %s: %v", len(pair.Certificate)*len(pair.Certificate[0]), bound, err)
		}
	}
}

func TestIdentityByURI(t *testing.T) {
	t.Parallel()
	s := startSecure(t, "--tls-identity=uri")
	s.issue(t, "lamp")
	lamp := s.mustConnect(t, "mqtts", s.config(t, "lamp"), mqtttest.Options{ClientID: "lamp"})
	publish(t, lamp, "$aws/things/lamp/shadow/update", `{"state":{"reported":{"on":true}}}`)
	if status, body := s.get(t, s.config(t, "lamp"), "/things/lamp/shadow"); status != http.StatusOK {
		t.Errorf("lamp gets its shadow: %d %s", status, body)
	}
}

// TestRevocation ends a connection whose certificate is revoked, and lets it not come back.
func TestRevocation(t *testing.T) {
	t.Parallel()
	s := startSecure(t)
	s.issue(t, "lamp")
	s.issue(t, "plug")
	lamp := s.mustConnect(t, "mqtts", s.config(t, "lamp"), mqtttest.Options{ClientID: "lamp"})
	plug := s.mustConnect(t, "mqtts", s.config(t, "plug"), mqtttest.Options{ClientID: "plug"})
	if _, err := s.ca.Revoke("lamp", time.Now()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lamp.Done():
	case <-wait(t).Done():
		t.Fatal("a connection whose certificate was revoked goes on")
	}
	if client, err := s.connect(t, "mqtts", s.config(t, "lamp"), mqtttest.Options{ClientID: "lamp"}); err == nil {
		client.Close()
		t.Error("a client gets in with a revoked certificate")
	}
	select {
	case <-plug.Done():
		t.Error("another client is thrown out")
	default:
	}
}

// TestRenewal replaces the server's certificate while it runs; one that is broken changes nothing.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := startSecure(t)
	serial := func() string {
		conn, err := (&tls.Dialer{Config: s.config(t, "")}).DialContext(wait(t), "tcp", s.Addr("https"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	whole, err := os.ReadFile(s.file("server.pem"))
	if err == nil {
		err = os.WriteFile(s.file("server.pem"), bytes.Repeat([]byte("x"), 100), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if !strings.Contains(s.Log(), "the old ones stay in force") {
			return fmt.Errorf("the log does not tell of a bad certificate")
		}
		return nil
	})
	if serial() != first {
		t.Error("a bad certificate changes something")
	}
	if err := os.WriteFile(s.file("server.pem"), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ca.Issue(pki.Request{Name: "umbra", Hosts: []string{"localhost", "127.0.0.1"}, Force: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if serial() == first {
			return fmt.Errorf("the old certificate is still served")
		}
		return nil
	})
}
