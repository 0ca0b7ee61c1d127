package tlsfiles

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
)

// mark is a hash that stands for a certificate, in one of two ways.
type mark [sha256.Size]byte

// issuedMark is that of a certificate in revocation lists: serial numbers are those of an issuer.
func issuedMark(issuer []byte, serial *big.Int) mark { return markOf(issuer, serial.Bytes()) }

// authorityMark is that of a certificate as an authority: its name and key. An authority with a new certificate stays
// the same one.
func authorityMark(c *x509.Certificate) mark { return markOf(c.RawSubject, c.RawSubjectPublicKeyInfo) }

func markOf(a, b []byte) mark {
	text := binary.AppendUvarint(nil, uint64(len(a)))
	return sha256.Sum256(append(append(text, a...), b...))
}

// Chains returns what [Config.Counts] has to know of the verified chains of a client certificate: for each of them the
// number of its certificates, and of each of those both marks.
func Chains(s tls.ConnectionState) []byte {
	var chains []byte
	for _, chain := range s.VerifiedChains {
		chains = append(chains, byte(len(chain))) // the standard library verifies no chain with hundreds of certificates
		for _, c := range chain {
			issued, authority := issuedMark(c.RawIssuer, c.SerialNumber), authorityMark(c)
			chains = append(append(chains, issued[:]...), authority[:]...)
		}
	}
	return chains
}

// Counts reports whether a client certificate that was verified earlier, perhaps in an earlier run, counts by the files
// as they are now, whatever its time. It is quick, and takes no lock.
func (c *Config) Counts(chains []byte) bool { return c.loaded.Load().count(chains) == nil }

// errAuthority is the error of a certificate whose authority is not in the bundle any more.
var errAuthority = errors.New("tlsfiles: the authority of the client certificate does not count")

// count looks for a chain of which no certificate is revoked, up to an authority of the bundle, and says why there is
// none. It is not only for what the client has sent: an authority of the bundle may be revoked by another one.
func (l *loaded) count(chains []byte) error {
	err := errAuthority
	for len(chains) > 0 {
		const size = 2 * sha256.Size
		end := min(1+int(chains[0])*size, len(chains))
		chain := chains[1:end]
		chains = chains[end:]
		for ; len(chain) >= size; chain = chain[size:] {
			if l.revoked[mark(chain[:sha256.Size])] {
				err = ErrRevoked
				break
			}
			if l.authorities[mark(chain[sha256.Size:size])] {
				return nil
			}
		}
	}
	return err
}
