package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// ThingURI begins the URI that a certificate of umbra cert has beside its common name. The name of the thing follows,
// escaped as a segment of a path.
const ThingURI = "urn:umbra:thing:"

// CertificateID returns the SHA-256 of a certificate in hex, which is what AWS IoT calls its id.
func CertificateID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// alternative begins the names of attributes that are subject alternative names.
const alternative = "Subject.AlternativeName."

// CertificateAttributes returns what policy variables tell of a certificate, as
// in the AWS document "X.509 certificate AWS IoT Core policy variables". Only
// attributes that the certificate has are in it.
func CertificateAttributes(c *x509.Certificate) map[string][]string {
	a := map[string][]string{}
	addName(a, "Subject.", &c.Subject)
	addName(a, "Issuer.", &c.Issuer)
	if c.SerialNumber != nil {
		add(a, "SerialNumber", c.SerialNumber.Text(16))
	}
	add(a, alternative+"RFC822Name", c.EmailAddresses...)
	add(a, alternative+"DNSName", c.DNSNames...)
	for _, u := range c.URIs {
		add(a, alternative+"UniformResourceIdentifier", u.String())
	}
	for _, ip := range c.IPAddresses {
		add(a, alternative+"IPAddress", ip.String())
	}
	add(a, "AvailableKeys", slices.Sorted(maps.Keys(a))...)
	return a
}

// CertificateAttributeNames returns the names of all attributes that a certificate may have, see [CertificateAttributes].
func CertificateAttributeNames() []string {
	names := []string{"SerialNumber", "AvailableKeys"}
	for _, kind := range []string{"RFC822Name", "DNSName", "UniformResourceIdentifier", "IPAddress"} {
		names = append(names, alternative+kind)
	}
	for _, name := range attributeNames {
		names = append(names, "Subject."+name, "Issuer."+name)
	}
	slices.Sort(names)
	return names
}

func add(a map[string][]string, name string, values ...string) {
	if len(values) > 0 {
		a[name] = append(a[name], values...)
	}
}

// attributeNames has the names by the last arc of the object identifiers under id-at (2.5.4).
var attributeNames = map[int]string{
	3: "CommonName", 4: "Surname", 5: "SerialNumber", 6: "Country", 8: "State", 10: "Organization",
	11: "OrganizationalUnit", 12: "Title", 42: "GivenName", 43: "Initials", 44: "GenerationQualifier",
	46: "DistinguishedNameQualifier", 65: "Pseudonym",
}

// addName adds the attributes of a distinguished name in the order of the certificate.
func addName(a map[string][]string, prefix string, n *pkix.Name) {
	for _, at := range n.Names {
		if name, ok := attributeNames[lastArc(at.Type)]; ok {
			add(a, prefix+name, fmt.Sprint(at.Value))
		}
	}
}

// lastArc returns the last arc of an identifier under id-at, -1 for others.
func lastArc(id asn1.ObjectIdentifier) int {
	if len(id) != 4 || !id[:3].Equal(asn1.ObjectIdentifier{2, 5, 4}) {
		return -1
	}
	return id[3]
}
