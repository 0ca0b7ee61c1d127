// Package pki is a certificate authority in a directory, for those who have
// none. Its files are PEM and are used as they are by umbrad, mosquitto, OpenSSL
// and the SDKs of AWS:
//
//	ca.pem       the authority's certificate: what everybody trusts
//	ca.key       its private key, mode 0600: nobody but the operator needs it
//	ca.crl       the revocation list; ca.crl.lock is held while it changes
//	server.pem   certificate of umbrad, with server.key
//	NAME.pem     certificate of the thing NAME, with NAME.key
//	issued/      a copy of every certificate, by its serial number
//
// The authority signs leaves only. Private keys never leave the directory that
// they were written to.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/internal/atomicfile"
	"github.com/umbra-iot/umbra/internal/auth"
)

// Names of the files of an authority.
const (
	CACert     = "ca.pem"
	CAKey      = "ca.key"
	CRL        = "ca.crl"
	ServerName = "server" // of server.pem and server.key
	issuedDir  = "issued"
)

const (
	backdate     = time.Hour // for clocks that are behind
	crlLifetime  = 10 * 365 * 24 * time.Hour
	serialBits   = 127
	modePublic   = 0o644
	modePrivate  = 0o600
	rsaBits      = 2048
	authorityRSA = 3072
)

// Key is a kind of key.
type Key string

// The kinds of keys.
const (
	ECDSA Key = "ecdsa" // P-256
	RSA   Key = "rsa"   // 2048 bits, the authority's own 3072
)

// Errors of an authority.
var (
	// ErrExists is in the error of a file that would have been overwritten.
	ErrExists = errors.New("pki: exists already")
	// ErrNoKey is in the error of an authority whose private key is not there.
	ErrNoKey = errors.New("pki: the authority's private key is not here")
	// ErrInvalid is in the error of what no certificate can be for.
	ErrInvalid = errors.New("pki: invalid request")
)

// Options of an authority.
type Options struct {
	Name  string        // common name; default "Umbra CA"
	Key   Key           // default ECDSA
	Valid time.Duration // default 20 years
	Now   time.Time     // default time.Now()
}

// Authority is a certificate authority.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// Init makes a new authority with an empty revocation list in dir. It changes nothing where there is a file of one, or of
// a server.
func Init(dir string, o Options) (*Authority, error) {
	if o.Name == "" {
		o.Name = "Umbra CA"
	}
	if o.Valid == 0 {
		o.Valid = 20 * 365 * 24 * time.Hour
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if err := absent(dir, CAKey, CACert, CRL, ServerName+".key", ServerName+".pem"); err != nil {
		return nil, err
	}
	key, err := newKey(o.Key, authorityRSA)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, issuedDir), 0o700); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: o.Name},
		NotBefore:             o.Now.Add(-backdate),
		NotAfter:              o.Now.Add(o.Valid),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	a := &Authority{dir: dir, key: key}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	if err := writePair(dir, "ca", der, key, writeNew); err != nil {
		return nil, err
	}
	return a, a.writeList(nil, o.Now)
}

// Open reads the authority of dir. The error is ErrNoKey when its private key is kept elsewhere.
func Open(dir string) (*Authority, error) {
	cert, err := readCertificate(filepath.Join(dir, CACert))
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, CAKey))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: bring %s", ErrNoKey, filepath.Join(dir, CAKey))
	}
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("pki: %s is no PEM file", CAKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w", CAKey, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("pki: %s cannot sign", CAKey)
	}
	if own, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("pki: %s is the key of another authority than %s", CAKey, CACert)
	}
	return &Authority{dir: dir, cert: cert, key: signer}, nil
}

// Request is what a certificate is to be.
type Request struct {
	Name  string        // thing of a device; common name of a server
	Hosts []string      // names and addresses of a server; nil for a device
	Key   Key           // default ECDSA
	Valid time.Duration // default 10 years for a device, 825 days for a server; never longer than the authority
	Now   time.Time     // default time.Now()
	Force bool          // replace the files of an earlier certificate, which keep their owners and modes
}

// Issued is a certificate of the authority.
type Issued struct {
	Name              string
	Hosts             []string // nil for a device
	Serial            string   // in hex
	ID                string   // SHA-256 in hex, the certificate id of AWS IoT
	NotBefore         time.Time
	NotAfter          time.Time
	Revoked           time.Time // zero unless it is
	CertFile, KeyFile string    // of a new one
}

// Issue makes a key and a certificate. Those of a device are in NAME.pem and
// NAME.key, those of a server in server.pem and server.key. When writing them fails, the
// certificate may be recorded all the same: so it can be revoked.
func (a *Authority) Issue(r Request) (*Issued, error) {
	if r.Now.IsZero() {
		r.Now = time.Now()
	}
	template, err := r.template(a.cert)
	if err != nil {
		return nil, err
	}
	key, err := newKey(r.Key, rsaBits)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	file := fileName(r.Name)
	if r.Hosts != nil {
		file = ServerName
	}
	write := atomicfile.Write
	if !r.Force {
		write = writeNew
		if err := absent(a.dir, file+".key", file+".pem"); err != nil {
			return nil, err
		}
	}
	if err := writeNew(a.record(cert), pemOf("CERTIFICATE", der), modePublic); err != nil {
		return nil, err
	}
	if err := writePair(a.dir, file, der, key, write); err != nil {
		return nil, err
	}
	issued := describe(cert)
	issued.CertFile, issued.KeyFile = filepath.Join(a.dir, file+".pem"), filepath.Join(a.dir, file+".key")
	return issued, nil
}

// record is the file in which the authority remembers a certificate.
func (a *Authority) record(c *x509.Certificate) string {
	return filepath.Join(a.dir, issuedDir, c.SerialNumber.Text(16)+".pem")
}

func (r *Request) template(ca *x509.Certificate) (*x509.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: r.Name},
		NotBefore:             r.Now.Add(-backdate),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
	}
	if r.Key == RSA {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment // for what is left of TLS 1.2 with RSA
	}
	valid := 825 * 24 * time.Hour
	if r.Hosts != nil {
		if err := r.serve(t); err != nil {
			return nil, err
		}
	} else if err := r.identify(t); err != nil {
		return nil, err
	} else {
		valid = 10 * 365 * 24 * time.Hour
	}
	if r.Valid != 0 {
		valid = r.Valid
	}
	t.NotAfter = r.Now.Add(valid)
	if t.NotAfter.After(ca.NotAfter) {
		t.NotAfter = ca.NotAfter
	}
	return t, nil
}

// identify makes t the certificate of a device.
func (r *Request) identify(t *x509.Certificate) error {
	if r.Name == "" || strings.EqualFold(fileName(r.Name), "ca") || fileName(r.Name) == ServerName {
		return fmt.Errorf("%w: %q is no name for a device", ErrInvalid, r.Name)
	}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	t.URIs = []*url.URL{{Scheme: "urn", Opaque: strings.TrimPrefix(auth.ThingURI, "urn:") + url.PathEscape(r.Name)}}
	return nil
}

// serve makes t the certificate of a server.
func (r *Request) serve(t *x509.Certificate) error {
	if err := CheckHosts(r.Hosts); err != nil {
		return err
	}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range r.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return nil
}

// hostName is a name in DNS, with an asterisk for its first part if need be. The last part of an address that is not one
// has digits only.
var hostName = regexp.MustCompile(`^(\*\.)?([0-9A-Za-z_][0-9A-Za-z_-]*\.)*[0-9A-Za-z_-]*[A-Za-z_][0-9A-Za-z_-]*$`)

// CheckHosts refuses, with ErrInvalid, what clients cannot ask for: URLs, and what has a port.
func CheckHosts(hosts []string) error {
	for _, h := range hosts {
		if net.ParseIP(h) == nil && !hostName.MatchString(h) {
			return fmt.Errorf("%w: %q is neither a name nor an address of a server", ErrInvalid, h)
		}
	}
	return nil
}

// fileName is name as the name of a file: whatever could leave the directory is escaped.
func fileName(name string) string {
	var b strings.Builder
	for i, r := range []byte(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-' && i > 0, r == '.' && i > 0:
			b.WriteByte(r)
		default:
			fmt.Fprintf(&b, "%%%02X", r)
		}
	}
	return b.String()
}

func newKey(k Key, bits int) (crypto.Signer, error) {
	switch k {
	case "", ECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		return rsa.GenerateKey(rand.Reader, bits)
	}
	return nil, fmt.Errorf("%w: %q is no kind of key (ecdsa, rsa)", ErrInvalid, k)
}

func newSerial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits)) // never fails
	return n.Add(n, big.NewInt(1))
}

// writePair writes a key and its certificate.
func writePair(dir, name string, cert []byte, key crypto.Signer, write func(string, []byte, os.FileMode) error) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	if err := write(filepath.Join(dir, name+".key"), pemOf("PRIVATE KEY", der), modePrivate); err != nil {
		return err
	}
	return write(filepath.Join(dir, name+".pem"), pemOf("CERTIFICATE", cert), modePublic)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// absent refuses what would overwrite a file.
func absent(dir string, names ...string) error {
	for _, name := range names {
		file := filepath.Join(dir, name)
		if _, err := os.Lstat(file); err == nil {
			return fmt.Errorf("%w: %s", ErrExists, file)
		} else if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("pki: %w", err)
		}
	}
	return nil
}

// writeNew writes a file that must not exist yet.
func writeNew(file string, data []byte, mode os.FileMode) error {
	err := atomicfile.Create(file, data, mode)
	switch {
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("%w: %s", ErrExists, file)
	case err != nil:
		return fmt.Errorf("pki: %w", err)
	}
	return nil
}
