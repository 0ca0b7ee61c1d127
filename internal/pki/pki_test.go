package pki_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/internal/pki"
)

func TestLife(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "ca")
	if _, err := pki.Init(dir, pki.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Init(dir, pki.Options{}); !errors.Is(err, pki.ErrExists) {
		t.Errorf("a second Init = %v, want ErrExists", err)
	}
	ca, err := pki.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []pki.Request{{Name: "lamp"}, {Name: "plant/lamp 2", Key: pki.RSA}, {Name: "umbra", Hosts: []string{"localhost", "::1"}}} {
		issued, err := ca.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		check(t, dir, issued, r)
		if _, err := ca.Issue(r); !errors.Is(err, pki.ErrExists) {
			t.Errorf("a second Issue of %s = %v, want ErrExists", r.Name, err)
		}
	}
	if _, err := ca.Issue(pki.Request{Name: "lamp", Force: true}); err != nil {
		t.Errorf("a renewal of lamp = %v", err)
	}
	revoked, err := ca.Revoke("lamp", time.Now())
	if err != nil || len(revoked) != 2 {
		t.Errorf("Revoke(lamp) = %d certificates, %v; want both", len(revoked), err)
	}
	if again, err := ca.Revoke("lamp", time.Now()); err != nil || len(again) != 0 {
		t.Errorf("a second Revoke(lamp) = %v, %v", again, err)
	}
	if _, err := ca.Revoke("nobody", time.Now()); !errors.Is(err, pki.ErrUnknown) {
		t.Errorf("Revoke(nobody) = %v", err)
	}
	list, err := pki.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, c := range list {
		if !c.Revoked.IsZero() {
			got[c.Name]++
		}
	}
	if len(list) != 4 || got["lamp"] != 2 || len(got) != 1 {
		t.Errorf("List() = %d certificates, revoked %v", len(list), got)
	}
	one := list[len(list)-1]
	if hit, err := ca.Revoke(one.ID, time.Now()); err != nil || len(hit) != 1 {
		t.Errorf("Revoke by id = %v, %v", hit, err)
	}
}

// check looks at the files of a certificate.
func check(t *testing.T, dir string, issued *pki.Issued, r pki.Request) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(issued.CertFile, issued.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(issued.CertFile) != dir {
		t.Errorf("%s is not in %s", issued.CertFile, dir)
	}
	data, err := os.ReadFile(filepath.Join(dir, pki.CACert))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	o := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if r.Hosts != nil {
		o.DNSName, o.KeyUsages = r.Hosts[0], []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if _, err := pair.Leaf.Verify(o); err != nil {
		t.Errorf("certificate of %s: %v", r.Name, err)
	}
	if pair.Leaf.Subject.CommonName != r.Name {
		t.Errorf("common name %q, want %q", pair.Leaf.Subject.CommonName, r.Name)
	}
	info, err := os.Stat(issued.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode of %s is %o, want 600", issued.KeyFile, mode)
	}
}

func TestNamesStayInTheDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := pki.Init(dir, pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../out", "a/b", ".hidden", "-rf", "ä"} {
		issued, err := ca.Issue(pki.Request{Name: name})
		if err != nil {
			t.Errorf("Issue(%q): %v", name, err)
		} else if filepath.Dir(issued.CertFile) != dir {
			t.Errorf("Issue(%q) wrote %s", name, issued.CertFile)
		}
	}
	for _, name := range []string{"", "ca", "CA", "server"} {
		if _, err := ca.Issue(pki.Request{Name: name}); err == nil {
			t.Errorf("Issue(%q) gives no error", name)
		}
	}
}

func TestNothingOutlivesTheAuthority(t *testing.T) {
	t.Parallel()
	ca, err := pki.Init(t.TempDir(), pki.Options{Valid: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.Issue(pki.Request{Name: "lamp"})
	if err != nil {
		t.Fatal(err)
	}
	if time.Until(issued.NotAfter) > 24*time.Hour {
		t.Errorf("the certificate ends %v, after its authority", issued.NotAfter)
	}
}

// listing returns the names and contents of the files of a directory.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// An authority whose key is kept elsewhere, or whose files are only in part there, is not touched by another Init, and
// a key that is not its own signs nothing.
func TestPartsOfAnAuthority(t *testing.T) {
	t.Parallel()
	for _, gone := range []string{pki.CAKey, pki.CACert, pki.CRL, "all"} {
		dir := t.TempDir()
		ca, err := pki.Init(dir, pki.Options{})
		if err == nil {
			_, err = ca.Issue(pki.Request{Name: "umbra", Hosts: []string{"localhost"}})
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{pki.CAKey, pki.CACert, pki.CRL} {
			if gone == name || gone == "all" {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := listing(t, dir)
		if _, err := pki.Init(dir, pki.Options{}); !errors.Is(err, pki.ErrExists) {
			t.Errorf("Init without %s = %v, want ErrExists", gone, err)
		}
		if d := cmp.Diff(before, listing(t, dir)); d != "" {
			t.Errorf("Init without %s changes something:\n%s", gone, d)
		}
	}
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if _, err := pki.Init(d, pki.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(other, pki.CAKey), filepath.Join(dir, pki.CAKey)); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(dir); err == nil {
		t.Error("an authority opens with the key of another one")
	}
	if _, err := pki.Open(other); !errors.Is(err, pki.ErrNoKey) {
		t.Errorf("Open without the key = %v, want ErrNoKey", err)
	}
}

// A certificate is recorded before anybody can have it: whatever fails, it can be revoked.
func TestIssueThatFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := pki.Init(dir, pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "lamp.pem"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(pki.Request{Name: "lamp"}); !errors.Is(err, pki.ErrExists) {
		t.Errorf("Issue = %v, want ErrExists", err)
	}
	if list, err := pki.List(dir); err != nil || len(list) != 0 {
		t.Errorf("a certificate that was not issued is recorded: %v, %v", list, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "lamp.key")); err == nil {
		t.Error("there is a key without a certificate")
	}
	if _, err := ca.Issue(pki.Request{Name: "lamp", Force: true}); err == nil {
		t.Error("a directory is replaced")
	}
	if revoked, err := ca.Revoke("lamp", time.Now()); err != nil || len(revoked) != 1 {
		t.Errorf("Revoke = %v, %v; want the certificate whose file could not be written", revoked, err)
	}
}

// Files that are replaced keep their modes, so that who could read them still can, and links stay links.
func TestReplacedFilesKeepTheirModes(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	ca, err := pki.Init(dir, pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := pki.Request{Name: "umbra", Hosts: []string{"localhost"}}
	if _, err := ca.Issue(server); err != nil {
		t.Fatal(err)
	}
	modes := map[string]os.FileMode{"server.key": 0o640, "server.pem": 0o604, pki.CRL: 0o640}
	before := map[string][]byte{}
	for name, mode := range modes {
		file, target := filepath.Join(dir, name), filepath.Join(elsewhere, name)
		err := errors.Join(os.Chmod(file, mode), os.Rename(file, target), os.Symlink(target, file))
		if err != nil {
			t.Fatal(err)
		}
		if before[name], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ca.Revoke("umbra", time.Now()); err != nil {
		t.Fatal(err)
	}
	server.Force = true
	if _, err := ca.Issue(server); err != nil {
		t.Fatal(err)
	}
	for name, mode := range modes {
		info, err := os.Lstat(filepath.Join(elsewhere, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
		if now, err := os.ReadFile(filepath.Join(elsewhere, name)); err != nil || bytes.Equal(now, before[name]) {
			t.Errorf("%s is what it was, %v", name, err)
		}
		if link, err := os.Lstat(filepath.Join(dir, name)); err != nil || link.Mode().Type() != os.ModeSymlink {
			t.Errorf("%s is no link any more: %v", name, err)
		}
	}
}

// Operators who revoke at the same time lose nothing.
func TestRevocationsAtTheSameTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := pki.Init(dir, pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 12
	for i := range n {
		if _, err := first.Issue(pki.Request{Name: fmt.Sprint("lamp", i)}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			ca, err := pki.Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			if revoked, err := ca.Revoke(fmt.Sprint("lamp", i), time.Now()); err != nil || len(revoked) != 1 {
				t.Errorf("Revoke = %v, %v", revoked, err)
			}
		})
	}
	wg.Wait()
	all, err := pki.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Revoked.IsZero() {
			t.Errorf("the revocation of %s is lost", c.Name)
		}
	}
}
