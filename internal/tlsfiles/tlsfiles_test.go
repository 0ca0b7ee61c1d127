package tlsfiles_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/pki"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

// authority makes a directory with an authority, a server and a device.
func authority(t *testing.T) (dir string, ca *pki.Authority) {
	t.Helper()
	dir = t.TempDir()
	ca, err := pki.Init(dir, pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	issue(t, ca, pki.Request{Name: "umbra", Hosts: []string{"localhost", "127.0.0.1"}})
	issue(t, ca, pki.Request{Name: "lamp"})
	return dir, ca
}

func issue(t *testing.T, ca *pki.Authority, r pki.Request) *pki.Issued {
	t.Helper()
	i, err := ca.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func files(dir string, want tlsfiles.ClientCert) tlsfiles.Files {
	return tlsfiles.Files{
		Cert: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server.key"),
		ClientCA: filepath.Join(dir, "ca.pem"), CRL: filepath.Join(dir, "ca.crl"), ClientCert: want,
	}
}

// connection returns both ends of one that has room for what is not read yet: both sides of a handshake may write at a time.
func connection(t *testing.T) (client, server net.Conn) {
	t.Helper()
	var conf net.ListenConfig
	l, err := conf.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// shake does a handshake with the certificate of a device ("" for none) and returns the state that the server sees.
func shake(t *testing.T, c *tlsfiles.Config, dir, device string, change ...func(*tls.Config)) (tls.ConnectionState, error) {
	t.Helper()
	roots := x509.NewCertPool()
	data, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(data)
	conf := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	if device != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, device+".pem"), filepath.Join(dir, device+".key"))
		if err != nil {
			t.Fatal(err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	for _, fn := range change {
		fn(conf)
	}
	a, b := connection(t)
	defer a.Close()
	defer b.Close()
	deadline := time.Now().Add(10 * time.Second)
	_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
	done := make(chan struct{})
	go func() {
		defer close(done)
		client := tls.Client(a, conf)
		if client.Handshake() == nil {
			_, _ = client.Read(make([]byte, 1)) // takes the alert of TLS 1.3, or the end
		}
	}()
	server := tls.Server(b, c.TLS())
	err = server.Handshake()
	state := server.ConnectionState()
	_ = b.Close()
	<-done
	return state, err
}

func load(t *testing.T, f tlsfiles.Files) *tlsfiles.Config {
	t.Helper()
	c, err := tlsfiles.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	dir, ca := authority(t)
	other, _ := authority(t)
	issue(t, ca, pki.Request{Name: "old", Now: time.Now().Add(-48 * time.Hour), Valid: 24 * time.Hour})
	for _, ext := range []string{".pem", ".key"} { // a device of an authority that nobody here knows
		data, err := os.ReadFile(filepath.Join(other, "lamp"+ext))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "rogue"+ext), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		want   tlsfiles.ClientCert
		device string
		ok     bool
	}{
		{tlsfiles.None, "", true},
		{tlsfiles.Optional, "", true},
		{tlsfiles.Optional, "lamp", true},
		{tlsfiles.Optional, "rogue", false},
		{tlsfiles.Required, "", false},
		{tlsfiles.Required, "lamp", true},
		{tlsfiles.Required, "rogue", false},
		{tlsfiles.Required, "old", false},
		{tlsfiles.Required, "server", false}, // may serve, not be a client
	} {
		state, err := shake(t, load(t, files(dir, tt.want)), dir, tt.device)
		if (err == nil) != tt.ok {
			t.Errorf("handshake of %q where certificates are %s: %v", tt.device, tt.want, err)
		}
		if tt.ok && tt.device != "" && state.PeerCertificates[0].Subject.CommonName != tt.device {
			t.Errorf("the server sees %v", state.PeerCertificates[0].Subject)
		}
	}
}

// With TLS 1.2 there is no encryption without forward secrecy and authentication, whatever the client asks for.
func TestCipherSuites(t *testing.T) {
	t.Parallel()
	dir, _ := authority(t)
	c := load(t, files(dir, tlsfiles.None))
	for suite, want := range map[uint16]bool{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       true,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       true,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: true,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:          false,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:          false,
	} {
		only := func(conf *tls.Config) { conf.MaxVersion, conf.CipherSuites = tls.VersionTLS12, []uint16{suite} }
		if _, err := shake(t, c, dir, "", only); (err == nil) != want {
			t.Errorf("a client that has only %s: %v", tls.CipherSuiteName(suite), err)
		}
	}
}

func TestRevocationCountsAfterReload(t *testing.T) {
	t.Parallel()
	dir, ca := authority(t)
	c := load(t, files(dir, tlsfiles.Required))
	state, err := shake(t, c, dir, "lamp")
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := c.Reload(false); changed || err != nil {
		t.Errorf("Reload of the same files = %v, %v", changed, err)
	}
	if _, err := ca.Revoke("lamp", time.Now()); err != nil {
		t.Fatal(err)
	}
	if changed, err := c.Reload(false); !changed || err != nil {
		t.Errorf("Reload after a revocation = %v, %v", changed, err)
	}
	if err := c.Check(state, time.Now()); !errors.Is(err, tlsfiles.ErrRevoked) {
		t.Errorf("Check of a connection whose certificate was revoked = %v", err)
	}
	if _, err := shake(t, c, dir, "lamp"); !errors.Is(err, tlsfiles.ErrRevoked) {
		t.Errorf("handshake with a revoked certificate = %v", err)
	}
}

// remembering is for a client that keeps its session, with TLS up to a version.
func remembering(version uint16) func(*tls.Config) {
	cache := tls.NewLRUClientSessionCache(1)
	return func(conf *tls.Config) { conf.ClientSessionCache, conf.MaxVersion = cache, version }
}

// revoke has the certificate of the lamp count no more.
func revoke(t *testing.T, ca *pki.Authority, c *tlsfiles.Config) {
	t.Helper()
	if _, err := ca.Revoke("lamp", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reload(true); err != nil {
		t.Fatal(err)
	}
}

// A client that comes back goes on with its session, also after the files were read again, and as long as its certificate
// counts.
func TestSessionsAreResumed(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		dir, ca := authority(t)
		c := load(t, files(dir, tlsfiles.Required))
		remember := remembering(version)
		come := func(when string, resumed bool) {
			t.Helper()
			state, err := shake(t, c, dir, "lamp", remember)
			if err != nil || state.DidResume != resumed || len(state.PeerCertificates) == 0 || len(state.VerifiedChains) == 0 {
				t.Errorf("%s, %s: %v, resumed: %t", tls.VersionName(version), when, err, state.DidResume)
			}
		}
		come("at first", false)
		come("again", true)
		if _, err := c.Reload(true); err != nil {
			t.Fatal(err)
		}
		come("after the files were read", true)
		revoke(t, ca, c)
		if _, err := shake(t, c, dir, "lamp", remember); !errors.Is(err, tlsfiles.ErrRevoked) {
			t.Errorf("%s, after a revocation: %v", tls.VersionName(version), err)
		}
	}
}

// Who comes back with a new certificate is not kept out by a session of the old one, which was revoked.
func TestSessionOfARevokedCertificate(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		dir, ca := authority(t)
		c := load(t, files(dir, tlsfiles.Required))
		remember := remembering(version)
		old, err := shake(t, c, dir, "lamp", remember)
		if err != nil {
			t.Fatal(err)
		}
		revoke(t, ca, c)
		issue(t, ca, pki.Request{Name: "lamp", Force: true})
		for _, resumed := range []bool{false, true} {
			state, err := shake(t, c, dir, "lamp", remember)
			if err != nil || state.DidResume != resumed || state.PeerCertificates[0].Equal(old.PeerCertificates[0]) {
				t.Errorf("%s: with a new certificate: %v, resumed: %t, want %t", tls.VersionName(version), err, state.DidResume, resumed)
			}
		}
	}
}

// Who resumes a session whose authority does not count any more has to show a certificate of one that does.
func TestSessionOfARemovedAuthority(t *testing.T) {
	t.Parallel()
	for _, want := range []tlsfiles.ClientCert{tlsfiles.Required, tlsfiles.Optional} {
		dir, _ := authority(t)
		f := files(dir, want)
		f.CRL = ""
		c := load(t, f)
		remember := remembering(tls.VersionTLS13)
		if _, err := shake(t, c, dir, "lamp", remember); err != nil {
			t.Fatal(err)
		}
		other, _ := authority(t)
		bundle, err := os.ReadFile(filepath.Join(other, pki.CACert))
		if err == nil {
			err = os.WriteFile(f.ClientCA, bundle, 0o600)
		}
		if err == nil {
			_, err = c.Reload(true)
		}
		if err != nil {
			t.Fatal(err)
		}
		if state, err := shake(t, c, dir, "lamp", remember); err == nil {
			t.Errorf("%s: a session of an authority that was removed goes on, resumed: %t", want, state.DidResume)
		}
	}
}

func TestCheckSeesThatTimeGoesOn(t *testing.T) {
	t.Parallel()
	dir, _ := authority(t)
	c := load(t, files(dir, tlsfiles.Required))
	state, err := shake(t, c, dir, "lamp")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(state, time.Now()); err != nil {
		t.Errorf("Check of a valid certificate = %v", err)
	}
	if err := c.Check(state, time.Now().AddDate(11, 0, 0)); err == nil {
		t.Error("Check eleven years later gives no error")
	}
}

// TestBadFilesLeaveTheOldOnes breaks each file in turn.
func TestBadFilesLeaveTheOldOnes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"server.pem", "server.key", "ca.pem", "ca.crl"} {
		dir, _ := authority(t)
		f := files(dir, tlsfiles.Required)
		broken := map[string]*string{"server.pem": &f.Cert, "server.key": &f.Key, "ca.pem": &f.ClientCA, "ca.crl": &f.CRL}[name]
		*broken = filepath.Join(t.TempDir(), name) // the client goes on to read the whole ones
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(*broken, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		c := load(t, f)
		if err := os.WriteFile(*broken, []byte("not what it was\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if changed, err := c.Reload(false); changed || err == nil {
			t.Errorf("Reload with a bad %s = %v, %v", name, changed, err)
		}
		if _, err := shake(t, c, dir, "lamp"); err != nil {
			t.Errorf("handshake after a bad %s = %v", name, err)
		}
		if _, err := tlsfiles.Load(f); err == nil {
			t.Errorf("Load with a bad %s gives no error", name)
		}
	}
}

// A file of several blocks counts whole or not at all: what of it cannot be read is not left out.
func TestBrokenBlocks(t *testing.T) {
	t.Parallel()
	for _, name := range []string{pki.CACert, pki.CRL} {
		dir, ca := authority(t)
		first, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ca.Revoke("lamp", time.Now()); err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f := files(dir, tlsfiles.Required)
		file := filepath.Join(dir, "several")
		*map[string]*string{pki.CACert: &f.ClientCA, pki.CRL: &f.CRL}[name] = file
		write := func(parts ...[]byte) {
			t.Helper()
			if err := os.WriteFile(file, bytes.Join(parts, nil), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for what, parts := range map[string][][]byte{
			"is cut off":                        {first, second[:len(second)-40]},
			"has no end":                        {first, bytes.Split(second, []byte("-----END"))[0]},
			"is damaged":                        {first, bytes.Replace(second, []byte("-----\nM"), []byte("-----\n?"), 1)},
			"has the next one in the same line": {first, bytes.TrimSpace(second), first},
		} {
			write(parts...)
			if _, err := tlsfiles.Load(f); err == nil {
				t.Errorf("%s: a block that %s is left out", name, what)
			}
		}
		write(first, second)
		if _, err := shake(t, load(t, f), dir, "lamp"); !errors.Is(err, tlsfiles.ErrRevoked) {
			t.Errorf("%s: handshake with a certificate that is revoked = %v", name, err)
		}
	}
}

func TestListOfAnotherAuthority(t *testing.T) {
	t.Parallel()
	dir, _ := authority(t)
	other, _ := authority(t)
	f := files(dir, tlsfiles.Optional)
	f.CRL = filepath.Join(other, "ca.crl")
	if _, err := tlsfiles.Load(f); err == nil {
		t.Error("a revocation list of somebody else is taken")
	}
}
