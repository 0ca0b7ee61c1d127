// Package tlsfiles keeps the TLS settings of a listener equal to the files that
// they come from: certificate, key, bundle of client authorities, revocation
// list. The files are looked at again and again, so that a renewed certificate
// or a new revocation counts within a second and without a restart. Files that
// cannot be used leave what was read before in force.
package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/umbra-iot/umbra/internal/reload"
)

// ClientCert says what a listener wants of client certificates.
type ClientCert string

// What a listener may want of client certificates.
const (
	None     ClientCert = "none"     // they are not asked for
	Optional ClientCert = "optional" // one that is shown has to be valid
	Required ClientCert = "required" // no connection without a valid one
)

// Files name what TLS settings are made from.
type Files struct {
	Cert, Key string // PEM: certificate with its chain, and private key
	// ClientCA is a PEM bundle of the authorities whose client certificates
	// count. It is needed unless ClientCert is None.
	ClientCA string
	// CRL is a file of revocation lists, PEM or one DER, each signed by an
	// authority of ClientCA. "" for none.
	CRL        string
	ClientCert ClientCert
	MinVersion uint16   // default TLS 1.2
	Protocols  []string // of ALPN, most wanted first; nil for no negotiation
}

// ErrRevoked is the error of a certificate that a revocation list names.
var ErrRevoked = errors.New("tlsfiles: certificate is revoked")

// Config is the TLS settings of a listener. Its methods may be called at the same time.
type Config struct {
	files  Files
	served *tls.Config // the same for all connections: it has the keys of session tickets
	loaded atomic.Pointer[loaded]

	mu    sync.Mutex // guards state, and is held while the files are read
	state reload.State
}

// loaded is what was made from one state of the files.
type loaded struct {
	tls     *tls.Config
	clients *x509.CertPool // nil for none
	lists   []*x509.RevocationList

	authorities map[mark]bool // of clients
	revoked     map[mark]bool // what they have issued
}

// Load reads the files.
func Load(f Files) (*Config, error) {
	if f.ClientCert == "" {
		f.ClientCert = None
	}
	if f.MinVersion == 0 {
		f.MinVersion = tls.VersionTLS12
	}
	c := &Config{files: f}
	c.served = &tls.Config{
		MinVersion:         f.MinVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.loaded.Load().tls, nil },
	}
	if _, err := c.Reload(true); err != nil {
		return nil, err
	}
	return c, nil
}

// TLS returns settings for [tls.Server] that follow the files. They are always the same ones, so that clients can resume
// their sessions.
func (c *Config) TLS() *tls.Config { return c.served }

// Reload reads the files if they have changed, or could not be used last time, or in any case when forced. It reports
// whether they were read, and new settings are in force. The error says why they cannot be used: at first, and then as
// often as [reload.State.Done] says, or when forced; see Problem.
func (c *Config) Reload(force bool) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp := reload.StampOf(os.Stat, c.files.Cert, c.files.Key, c.files.ClientCA, c.files.CRL)
	if !force && !c.state.Due(stamp) {
		return false, nil
	}
	l, err := c.load()
	tell := c.state.Done(stamp, err)
	switch {
	case err == nil:
		c.loaded.Store(l)
		return true, nil
	case tell, force:
		return false, err
	default:
		return false, nil
	}
}

// Problem returns why the files cannot be used as they are now, so that older ones are in force; nil when they are.
func (c *Config) Problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Problem()
}

// cipherSuites are those of TLS 1.2 that have forward secrecy and authenticated encryption. All of TLS 1.3 have both.
func cipherSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// load makes the settings.
func (c *Config) load() (*loaded, error) {
	cert, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return nil, fmt.Errorf("tlsfiles: certificate %s with key %s: %w", c.files.Cert, c.files.Key, err)
	}
	l := &loaded{authorities: map[mark]bool{}, revoked: map[mark]bool{}}
	l.tls = &tls.Config{
		MinVersion:       c.files.MinVersion,
		CipherSuites:     cipherSuites(),
		Certificates:     []tls.Certificate{cert},
		NextProtos:       c.files.Protocols,
		VerifyConnection: func(s tls.ConnectionState) error { return l.check(s, time.Now()) },
		WrapSession: func(s tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
			session.Extra = append(session.Extra, Chains(s))
			return c.served.EncryptTicket(s, session)
		},
		UnwrapSession: func(ticket []byte, s tls.ConnectionState) (*tls.SessionState, error) {
			session, err := c.served.DecryptTicket(ticket, s)
			if err != nil || session == nil || slices.ContainsFunc(session.Extra, l.refuses) {
				return nil, err
			}
			return session, nil
		},
	}
	if c.files.ClientCert == None {
		return l, nil
	}
	l.tls.ClientAuth = tls.VerifyClientCertIfGiven
	if c.files.ClientCert == Required {
		l.tls.ClientAuth = tls.RequireAndVerifyClientCert
	}
	authorities, err := readCertificates(c.files.ClientCA)
	if err != nil {
		return nil, err
	}
	l.clients = x509.NewCertPool()
	for _, a := range authorities {
		l.clients.AddCert(a)
		l.authorities[authorityMark(a)] = true
	}
	l.tls.ClientCAs = l.clients
	if c.files.CRL == "" {
		return l, nil
	}
	return l, l.readLists(c.files.CRL, authorities)
}

// refuses reports whether the certificate of a session, of which chains are those of [Chains], does not count. Who would
// resume that one shakes hands as at first, with a certificate that may be a new one.
func (l *loaded) refuses(chains []byte) bool { return len(chains) > 0 && l.count(chains) != nil }

// Check verifies the certificate of a connection that was accepted earlier
// against the files as they are now. A connection without one is valid if it
// would be accepted today.
func (c *Config) Check(s tls.ConnectionState, now time.Time) error {
	l := c.loaded.Load()
	if len(s.PeerCertificates) == 0 && c.files.ClientCert == Required {
		return errors.New("tlsfiles: no client certificate")
	}
	return l.check(s, now)
}

// check looks whether one of the chains of the client's certificate, if it has one, counts. It is called for resumed
// connections too.
func (l *loaded) check(s tls.ConnectionState, now time.Time) error {
	if len(s.PeerCertificates) == 0 || l.clients == nil {
		return nil
	}
	s.VerifiedChains = slices.DeleteFunc(slices.Clone(s.VerifiedChains), func(chain []*x509.Certificate) bool {
		return slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return now.Before(c.NotBefore) || now.After(c.NotAfter) })
	})
	if len(s.VerifiedChains) == 0 {
		return errors.New("tlsfiles: the time of the client certificate is over")
	}
	return l.count(Chains(s))
}

// Stale returns the time at which the first revocation list should have been
// replaced, if that is past: the list counts all the same.
func (c *Config) Stale(now time.Time) (time.Time, bool) {
	for _, list := range c.loaded.Load().lists {
		if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
			return list.NextUpdate, true
		}
	}
	return time.Time{}, false
}

// NotAfter returns when the server's certificate ends.
func (c *Config) NotAfter() time.Time {
	if leaf := c.loaded.Load().tls.Certificates[0].Leaf; leaf != nil {
		return leaf.NotAfter
	}
	return time.Time{}
}

// readLists takes in the revocation lists of a file.
func (l *loaded) readLists(file string, authorities []*x509.Certificate) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("tlsfiles: revocation list: %w", err)
	}
	ders := [][]byte{data}
	if bytes.Contains(data, []byte("-----BEGIN")) {
		if ders, err = blocks(data, "X509 CRL"); err != nil {
			return fmt.Errorf("tlsfiles: revocation lists %s: %w", file, err)
		}
	}
	if len(ders) == 0 {
		return fmt.Errorf("tlsfiles: %s has no revocation list", file)
	}
	for _, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return fmt.Errorf("tlsfiles: revocation list %s: %w", file, err)
		}
		if !signedByOne(list, authorities) {
			return fmt.Errorf("tlsfiles: revocation list %s is not signed by an authority of the bundle", file)
		}
		l.lists = append(l.lists, list)
		for _, entry := range list.RevokedCertificateEntries {
			if has(entry.Extensions, certificateIssuer) {
				return fmt.Errorf("tlsfiles: revocation list %s has certificates of other issuers than its own", file)
			}
			l.revoked[issuedMark(list.RawIssuer, entry.SerialNumber)] = true
		}
	}
	if !l.complete() {
		return fmt.Errorf("tlsfiles: revocation list %s has changes only, and not the list that they are of", file)
	}
	return nil
}

// Extensions that say that a revocation list is not what it looks like (RFC 5280, 5.2.4 and 5.3.3).
var (
	deltaIndicator    = asn1.ObjectIdentifier{2, 5, 29, 27}
	certificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
)

func has(list []pkix.Extension, id asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(list, func(e pkix.Extension) bool { return e.Id.Equal(id) })
}

// complete reports whether there is a whole list of every issuer that has lists.
func (l *loaded) complete() bool {
	whole := map[string]bool{}
	for _, list := range l.lists {
		whole[string(list.RawIssuer)] = whole[string(list.RawIssuer)] || !has(list.Extensions, deltaIndicator)
	}
	return !slices.Contains(slices.Collect(maps.Values(whole)), false)
}

func signedByOne(list *x509.RevocationList, authorities []*x509.Certificate) bool {
	for _, a := range authorities {
		if bytes.Equal(a.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(a) == nil {
			return true
		}
	}
	return false
}

func readCertificates(file string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("tlsfiles: client authorities: %w", err)
	}
	ders, err := blocks(data, "CERTIFICATE")
	if err != nil {
		return nil, fmt.Errorf("tlsfiles: client authorities %s: %w", file, err)
	}
	var list []*x509.Certificate
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("tlsfiles: client authorities %s: %w", file, err)
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("tlsfiles: %s has no certificate", file)
	}
	return list, nil
}

// blocks returns the content of the PEM blocks of a kind. The decoder passes over those that it cannot read; here they are
// an error, since a list that is left out revokes nothing.
func blocks(data []byte, kind string) ([][]byte, error) {
	begun := bytes.Count(data, []byte("-----BEGIN "+kind+"-----"))
	var list [][]byte
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type == kind {
			list = append(list, b.Bytes)
		}
	}
	if len(list) != begun {
		return nil, fmt.Errorf("of %d PEM blocks %d can be read", begun, len(list))
	}
	return list, nil
}
