package authn_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authn"
)

// certificate makes a certificate whose subject has these common names.
func certificate(t *testing.T, uri string, names ...string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	for _, n := range names {
		template.Subject.ExtraNames = append(template.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: n})
	}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{u}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestIdentityOfCertificates has subjects that say more than one thing, or something odd.
func TestIdentityOfCertificates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cert *x509.Certificate
		from authn.Identity
		want string
	}{
		{certificate(t, "", "lamp"), authn.CommonName, "lamp"},
		{certificate(t, "", "lamp", "plug"), authn.CommonName, ""},
		{certificate(t, ""), authn.CommonName, ""},
		{certificate(t, "", "lamp,CN=plug"), authn.CommonName, "lamp,CN=plug"},
		{certificate(t, "", "*"), authn.CommonName, "*"}, // policies take it literally
		{certificate(t, "urn:umbra:thing:lamp", "plug"), authn.URI, "lamp"},
		{certificate(t, "urn:umbra:thing:plant%2Flamp%202", "plug"), authn.URI, "plant/lamp 2"},
		{certificate(t, "urn:umbra:thing:", "plug"), authn.URI, ""},
		{certificate(t, "urn:umbra:thing", "plug"), authn.URI, "urn:umbra:thing"},
		{certificate(t, "urn:umbra:things:lamp", "plug"), authn.URI, "urn:umbra:things:lamp"},
		{certificate(t, "spiffe://plant/urn:umbra:thing:lamp", "plug"), authn.URI, "spiffe://plant/urn:umbra:thing:lamp"},
		{certificate(t, "", "plug"), authn.URI, ""},
	} {
		p, err := authn.FromCertificate(tt.cert, tt.from)
		if err != nil || p.Name != tt.want || p.ID != "cert:"+auth.CertificateID(tt.cert) || p.Kind != auth.Certificate {
			t.Errorf("FromCertificate(%v, %s) = %+v, %v; want the name %q", tt.cert.Subject, tt.from, p, err, tt.want)
		}
	}
	c := certificate(t, "", "lamp")
	if p, err := authn.FromCertificate(c, authn.ID); err != nil || p.Name != auth.CertificateID(c) {
		t.Errorf("by id: %+v, %v", p, err)
	}
	if p, err := authn.FromCertificate(certificate(t, "", strings.Repeat("x", 129)), authn.CommonName); err == nil {
		t.Errorf("a name that is too long gives %v", p)
	}
	c.Subject.Names[0].Value = "lamp\xFF"
	if p, err := authn.FromCertificate(c, authn.CommonName); err == nil {
		t.Errorf("a name that is no UTF-8 gives %v", p)
	}
}

// A connection counts as long as one of the chains up to an authority does, and a chain as long as all of it.
func TestConnectionEndsWithItsAuthority(t *testing.T) {
	t.Parallel()
	until := func(hours int) *x509.Certificate {
		c := certificate(t, "", "lamp")
		c.NotAfter = time.Unix(int64(hours)*3600, 0)
		return c
	}
	leaf := until(9)
	for _, test := range []struct {
		chains [][]*x509.Certificate
		want   int
	}{
		{nil, 9},
		{[][]*x509.Certificate{{leaf, until(20)}}, 9},
		{[][]*x509.Certificate{{leaf, until(8), until(20)}}, 8},
		{[][]*x509.Certificate{{leaf, until(8), until(5)}}, 5},
		{[][]*x509.Certificate{{leaf, until(5)}, {leaf, until(7)}, {leaf, until(6)}}, 7},
	} {
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: test.chains}
		p, err := authn.FromConnection(state, authn.CommonName, nil, func([]byte) bool { return true })
		if err != nil || !p.Expires.Equal(time.Unix(int64(test.want)*3600, 0)) {
			t.Errorf("of %d chains: until %v, %v; want hour %d", len(test.chains), p.Expires, err, test.want)
		}
	}
}

// A certificate whose time is over does not count any more, but what was done with it is trusted, other than when it is revoked;
// in an earlier run, too.
func TestStandingOfCertificates(t *testing.T) {
	t.Parallel()
	cert := certificate(t, "", "lamp")
	cert.NotAfter = time.Now().Add(time.Hour)
	revoked := false
	counts := func(proof []byte) bool { return !revoked && string(proof) == "proof" }
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	p, err := authn.FromConnection(state, authn.CommonName, []byte("proof"), counts)
	if err != nil {
		t.Fatal(err)
	}
	recalled := *p
	recalled.Standing = nil
	authn.New(authn.Options{Certificates: counts}).Recall(&recalled)
	for _, step := range []struct {
		at                time.Time
		revoked           bool
		counts, withdrawn bool
	}{
		{time.Now(), false, true, false},
		{time.Now().Add(2 * time.Hour), false, false, false},
		{time.Now(), true, false, true},
	} {
		revoked = step.revoked
		for _, p := range []*auth.Principal{p, &recalled} {
			if p.CountsAt(step.at) != step.counts || p.Withdrawn() != step.withdrawn {
				t.Errorf("%+v: counts: %t, is withdrawn: %t", step, p.CountsAt(step.at), p.Withdrawn())
			}
		}
	}
}
