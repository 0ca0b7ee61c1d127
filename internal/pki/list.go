package pki

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/internal/atomicfile"
	"github.com/umbra-iot/umbra/internal/filelock"
)

// ErrUnknown is in the error of a name or serial number that no certificate has.
var ErrUnknown = errors.New("pki: no such certificate")

// List returns all certificates that the authority of dir has issued, by name and age. It needs no private key.
func List(dir string) ([]*Issued, error) {
	files, err := filepath.Glob(filepath.Join(dir, issuedDir, "*.pem"))
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	revoked, err := readList(filepath.Join(dir, CRL))
	if err != nil {
		return nil, err
	}
	times := map[string]time.Time{}
	for _, e := range revoked.RevokedCertificateEntries {
		times[e.SerialNumber.Text(16)] = e.RevocationTime
	}
	list := make([]*Issued, 0, len(files))
	for _, file := range files {
		cert, err := readCertificate(file)
		if err != nil {
			return nil, err
		}
		issued := describe(cert)
		issued.Revoked = times[issued.Serial]
		list = append(list, issued)
	}
	slices.SortFunc(list, func(a, b *Issued) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.NotBefore.Compare(b.NotBefore), strings.Compare(a.Serial, b.Serial))
	})
	return list, nil
}

// Revoke puts certificates on the revocation list: all that are not yet revoked
// of the device or server that which names, or the one with this serial number or id. It
// returns those that it has revoked. It waits for other processes that revoke.
func (a *Authority) Revoke(which string, now time.Time) ([]*Issued, error) {
	unlock, err := filelock.Lock(filepath.Join(a.dir, CRL))
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	defer unlock()
	all, err := List(a.dir)
	if err != nil {
		return nil, err
	}
	known := false
	var hit []*Issued
	for _, c := range all {
		if c.Name != which && c.Serial != strings.ToLower(which) && c.ID != strings.ToLower(which) {
			continue
		}
		known = true
		if c.Revoked.IsZero() {
			c.Revoked = now
			hit = append(hit, c)
		}
	}
	if !known {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, which)
	}
	if len(hit) == 0 {
		return nil, nil
	}
	old, err := readList(filepath.Join(a.dir, CRL))
	if err != nil {
		return nil, err
	}
	entries := old.RevokedCertificateEntries
	for _, c := range hit {
		serial, _ := new(big.Int).SetString(c.Serial, 16)
		entries = append(entries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now})
	}
	return hit, a.writeList(entries, now)
}

// writeList replaces the revocation list at once.
func (a *Authority) writeList(entries []x509.RevocationListEntry, now time.Time) error {
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number:                    big.NewInt(now.UnixNano()),
		ThisUpdate:                now.Add(-backdate),
		NextUpdate:                now.Add(crlLifetime),
		RevokedCertificateEntries: entries,
	}, a.cert, a.key)
	if err != nil {
		return fmt.Errorf("pki: revocation list: %w", err)
	}
	return atomicfile.Write(filepath.Join(a.dir, CRL), pemOf("X509 CRL", der), modePublic)
}

func readList(file string) (*x509.RevocationList, error) {
	block, err := readBlock(file)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(block)
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w", file, err)
	}
	return list, nil
}

func readCertificate(file string) (*x509.Certificate, error) {
	block, err := readBlock(file)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(block)
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w", file, err)
	}
	return cert, nil
}

func readBlock(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("pki: %s is no PEM file", file)
	}
	return block.Bytes, nil
}

func describe(c *x509.Certificate) *Issued {
	sum := sha256.Sum256(c.Raw)
	issued := &Issued{
		Name: c.Subject.CommonName, Serial: c.SerialNumber.Text(16), ID: hex.EncodeToString(sum[:]),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
	issued.Hosts = append(issued.Hosts, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		issued.Hosts = append(issued.Hosts, ip.String())
	}
	return issued
}
