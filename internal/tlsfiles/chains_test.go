package tlsfiles_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
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

// signer is an authority, or who has a certificate of one.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// sign makes a certificate with a name, for a key or, with nil, a new one. An authority without an issuer signs for itself.
func sign(t *testing.T, name string, isCA bool, issuer *signer, key *ecdsa.PrivateKey) *signer {
	t.Helper()
	var err error
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if isCA {
		template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	}
	if issuer == nil {
		issuer = &signer{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{cert, key}
}

// writeChain writes certificates into a file.
func writeChain(t *testing.T, file string, chain ...*signer) {
	t.Helper()
	var text []byte
	for _, s := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeList writes the revocation list of an authority.
func writeList(t *testing.T, file string, by *signer, revoked ...*signer) {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: s.cert.SerialNumber, RevocationTime: time.Now(),
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, by.cert, by.key)
	if err == nil {
		err = os.WriteFile(file, der, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A certificate counts by a chain of which nothing is revoked, whichever certificates of it the client sends.
func TestRevokedIntermediate(t *testing.T) {
	t.Parallel()
	root, other := sign(t, "root", true, nil, nil), sign(t, "other", true, nil, nil)
	between := sign(t, "between", true, root, nil)
	again := sign(t, "between", true, other, between.key) // the same authority, by another root
	leaf := sign(t, "lamp", false, between, nil)
	key, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name          string
		bundle, shown []*signer
		ok            bool // after between was revoked
	}{
		{"all that there is", []*signer{root, between}, []*signer{leaf, between}, false},
		{"the leaf alone", []*signer{root, between}, []*signer{leaf}, false},
		{"the chain to the root", []*signer{root}, []*signer{leaf, between}, false},
		{"two chains", []*signer{root, other}, []*signer{leaf, between, again}, true},
		{"another chain than that which was revoked", []*signer{root, between, other, again}, []*signer{leaf}, true},
	} {
		dir, _ := authority(t)
		f := files(dir, tlsfiles.Required)
		f.ClientCA, f.CRL = filepath.Join(dir, "clients.pem"), filepath.Join(dir, "clients.crl")
		writeChain(t, f.ClientCA, test.bundle...)
		writeList(t, f.CRL, root)
		writeChain(t, filepath.Join(dir, "leaf.pem"), test.shown...)
		if err := os.WriteFile(filepath.Join(dir, "leaf.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600); err != nil {
			t.Fatal(err)
		}
		c := load(t, f)
		before, err := shake(t, c, dir, "leaf")
		if err != nil {
			t.Errorf("%s, before the revocation: %v", test.name, err)
			continue
		}
		writeList(t, f.CRL, root, between)
		if _, err := c.Reload(true); err != nil {
			t.Fatal(err)
		}
		want := func(what string, err error) {
			t.Helper()
			if test.ok && err != nil || !test.ok && !errors.Is(err, tlsfiles.ErrRevoked) {
				t.Errorf("%s, %s: %v, want it to be allowed: %t", test.name, what, err, test.ok)
			}
		}
		_, err = shake(t, c, dir, "leaf")
		want("a new connection", err)
		want("one that was there", c.Check(before, time.Now()))
		if got := c.Counts(tlsfiles.Chains(before)); got != test.ok {
			t.Errorf("%s: the certificate counts: %t", test.name, got)
		}
	}
}

// A list that has not all that its issuer has revoked, or what others have, is not taken for one.
func TestListsThatAreNotWhatTheyLook(t *testing.T) {
	t.Parallel()
	dir, _ := authority(t)
	root := sign(t, "root", true, nil, nil)
	lamp := sign(t, "lamp", false, root, nil)
	delta := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	issuer := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}
	list := func(of, entry []pkix.Extension) []byte {
		t.Helper()
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), ExtraExtensions: of,
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: lamp.cert.SerialNumber, RevocationTime: time.Now(), ExtraExtensions: entry}},
		}, root.cert, root.key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	}
	whole, changes, indirect := list(nil, nil), list([]pkix.Extension{delta}, nil), list(nil, []pkix.Extension{issuer})
	f := files(dir, tlsfiles.Required)
	f.ClientCA, f.CRL = filepath.Join(dir, "clients.pem"), filepath.Join(dir, "clients.crl")
	writeChain(t, f.ClientCA, root)
	for name, test := range map[string]struct {
		text []byte
		ok   bool
	}{
		"whole": {whole, true}, "changes": {changes, false}, "changes of what is there": {slices.Concat(changes, whole), true},
		"of other issuers": {indirect, false},
	} {
		if err := os.WriteFile(f.CRL, test.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tlsfiles.Load(f); (err == nil) != test.ok {
			t.Errorf("a list %s: %v", name, err)
		}
	}
}
