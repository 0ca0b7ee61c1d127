package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/internal/auth"
)

func TestPrincipal(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	alice := &auth.Principal{
		ID: auth.NewID(auth.User, "alice"), Kind: auth.User, Name: "alice", Groups: []string{"operators"}, Expires: now,
	}
	if alice.String() != "user:alice" || alice.IsAnonymous() || !alice.In("operators") || alice.In("alice") {
		t.Errorf("a user is %v, anonymous %v", alice, alice.IsAnonymous())
	}
	if alice.CountsAt(now) || !alice.CountsAt(now.Add(-1)) || !auth.Nobody().CountsAt(now) {
		t.Error("a principal expires at its time, and one without a time never")
	}
	var none *auth.Principal
	if !none.IsAnonymous() || none.String() != "anonymous" || none.In("") || !auth.Nobody().IsAnonymous() {
		t.Error("no principal is an anonymous one")
	}
	if got := auth.FromContext(auth.NewContext(context.Background(), alice)); got != alice {
		t.Errorf("the context gives %v", got)
	}
	if got := auth.FromContext(context.Background()); got != nil {
		t.Errorf("a context without a principal gives %v", got)
	}
}

func TestCertificateAttributes(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	site, err := url.Parse("urn:thing:lamp")
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0xAB12),
		Subject: pkix.Name{
			CommonName: "lamp", Country: []string{"DE"},
			ExtraNames: []pkix.AttributeTypeAndValue{
				{Type: asn1.ObjectIdentifier{2, 5, 4, 42}, Value: "Ada"},
				{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Example Corp"},
				{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "AnyCompany"},
			},
		},
		DNSNames: []string{"lamp.example"}, URIs: []*url.URL{site}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	got := auth.CertificateAttributes(cert)
	if len(got["AvailableKeys"]) != len(got)-1 {
		t.Errorf("available keys are %q", got["AvailableKeys"])
	}
	for name, want := range map[string][]string{
		"Subject.CommonName":              {"lamp"},
		"Subject.Organization":            {"Example Corp", "AnyCompany"},
		"Subject.GivenName":               {"Ada"},
		"Issuer.Country":                  {"DE"},
		"SerialNumber":                    {"ab12"},
		"Subject.AlternativeName.DNSName": {"lamp.example"},
		"Subject.AlternativeName.UniformResourceIdentifier": {"urn:thing:lamp"},
		"Subject.AlternativeName.IPAddress":                 {"192.0.2.1"},
		"Subject.Title":                                     nil,
	} {
		if d := cmp.Diff(want, got[name]); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if id := auth.CertificateID(cert); len(id) != 64 {
		t.Errorf("the id is %q", id)
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := auth.Source(netip.MustParseAddr(address)); got.String() != want {
			t.Errorf("the source of %s is %s, want %s", address, got, want)
		}
	}
	if auth.Source(netip.Addr{}).IsValid() {
		t.Error("an address that is not known has a source")
	}
}
