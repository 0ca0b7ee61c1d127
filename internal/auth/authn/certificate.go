package authn

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/internal/auth"
)

// Identity is the part of a client certificate that is the name of the thing.
type Identity string

// The parts that can be the name.
const (
	CommonName Identity = "cn"  // of the subject, which has to have exactly one
	URI        Identity = "uri" // the first of the subject alternative names, without auth.ThingURI
	ID         Identity = "id"  // SHA-256 of the certificate
)

// maxName bounds a name that comes from a certificate: the longest name of a thing.
const maxName = 128

// FromConnection is FromCertificate for a connection whose client has shown one. Its time is over when that of a
// certificate up to the authority is. Counts reports whether what proof stands for counts, whatever its time; see
// Options.
func FromConnection(s tls.ConnectionState, from Identity, proof []byte, counts func(proof []byte) bool) (*auth.Principal, error) {
	p, err := FromCertificate(s.PeerCertificates[0], from)
	if err != nil {
		return nil, err
	}
	p.Proof = proof
	followCertificate(p, counts)
	var last time.Time // that one of the chains counts
	for _, chain := range s.VerifiedChains {
		end := chain[0].NotAfter
		for _, cert := range chain {
			if cert.NotAfter.Before(end) {
				end = cert.NotAfter
			}
		}
		if end.After(last) {
			last = end
		}
	}
	if !last.IsZero() {
		p.Expires = last
	}
	return p, nil
}

// nameOf returns the name that a URI gives: what follows [auth.ThingURI], or all of it.
func nameOf(u *url.URL) string {
	if escaped, ok := strings.CutPrefix(u.String(), auth.ThingURI); ok {
		if name, err := url.PathUnescape(escaped); err == nil {
			return name
		}
	}
	return u.String()
}

// followCertificate has p know when his certificate is revoked, or its authority removed.
func followCertificate(p *auth.Principal, counts func(proof []byte) bool) {
	p.Standing = func() auth.Standing {
		if !counts(p.Proof) {
			return auth.Withdrawn
		}
		return auth.Unchanged
	}
}

// FromCertificate returns the principal of a client certificate, which the TLS
// handshake has verified. Its ID is the certificate's own, whatever it says of
// its owner; only the name comes from what is written in it. A certificate that
// has no such name has an empty one, which no policy variable matches.
func FromCertificate(cert *x509.Certificate, from Identity) (*auth.Principal, error) {
	id := auth.CertificateID(cert)
	p := &auth.Principal{
		ID: auth.NewID(auth.Certificate, id), Kind: auth.Certificate,
		Attributes: auth.CertificateAttributes(cert), Expires: cert.NotAfter,
	}
	switch from {
	case ID:
		p.Name = id
	case URI:
		if len(cert.URIs) > 0 {
			p.Name = nameOf(cert.URIs[0])
		}
	default:
		if names := p.Attributes["Subject.CommonName"]; len(names) == 1 {
			p.Name = names[0]
		}
	}
	if len(p.Name) > maxName || !utf8.ValidString(p.Name) {
		return nil, fmt.Errorf("%w: the certificate's %s is no name", auth.ErrDenied, from)
	}
	return p, nil
}
