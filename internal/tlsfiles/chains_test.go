package tlsfiles_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/pki"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

// What was known of a certificate when it was shown tells later whether it counts, by other settings too.
func TestCounts(t *testing.T) {
	t.Parallel()
	dir, ca := authority(t)
	issue(t, ca, pki.Request{Name: "plug"})
	issue(t, ca, pki.Request{Name: "brief", Valid: time.Hour})
	c := load(t, files(dir, tlsfiles.Required))
	chains := map[string][]byte{"nothing": nil, "rubbish": []byte("\x02rubbish")}
	for _, name := range []string{"lamp", "plug", "brief"} {
		state, err := shake(t, c, dir, name)
		if err != nil {
			t.Fatal(err)
		}
		chains[name] = tlsfiles.Chains(state)
	}
	check := func(when string, c *tlsfiles.Config, want ...string) {
		t.Helper()
		counts := map[string]bool{}
		for _, name := range want {
			counts[name] = true
		}
		for name, chains := range chains {
			if got := c.Counts(chains); got != counts[name] {
				t.Errorf("%s: %s counts: %t", when, name, got)
			}
		}
	}
	check("now", c, "lamp", "plug", "brief")
	if _, err := ca.Revoke("plug", time.Now()); err != nil {
		t.Fatal(err)
	}
	check("before the files are read", c, "lamp", "plug", "brief")
	if _, err := c.Reload(true); err != nil {
		t.Fatal(err)
	}
	check("after a revocation", c, "lamp", "brief")
	other, _ := authority(t)
	f := files(dir, tlsfiles.Required)
	f.CRL, f.ClientCA = "", filepath.Join(other, "ca.pem")
	check("with another authority", load(t, f))
	f.ClientCA = renewed(t, dir)
	check("with a new certificate of the authority", load(t, f), "lamp", "plug", "brief")
	check("where certificates are not asked for", load(t, files(dir, tlsfiles.None)))
}

// renewed writes another certificate for the key of an authority, and returns its file.
func renewed(t *testing.T, dir string) string {
	t.Helper()
	read := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		block, _ := pem.Decode(data)
		if err != nil || block == nil {
			t.Fatalf("%s: %v", name, err)
		}
		return block.Bytes
	}
	cert, err := x509.ParseCertificate(read("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(read("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	cert.SerialNumber = new(big.Int).Add(cert.SerialNumber, big.NewInt(1))
	cert.NotAfter = cert.NotAfter.Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.(crypto.Signer).Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
