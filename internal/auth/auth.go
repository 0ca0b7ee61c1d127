// Package auth has the words that authentication and authorization share: who
// somebody is ([Principal]) and what somebody shows to prove it
// ([Credentials]). It does no I/O and decides nothing: authenticators turn
// credentials into principals, package auth/policy evaluates policy documents,
// and package auth/authz says which policies count for whom.
//
// # Names
//
// The ID of a principal is its kind, a colon and a name that is unique within
// the kind: "user:alice", "cert:" with the SHA-256 of the certificate in hex,
// "key:AKIA…", "token:…", "jwt:" with issuer and subject. Policies are attached
// to IDs and to groups; sessions, histories and the audit log remember IDs. Text
// that others choose, such as the distinguished name of a certificate, is never
// part of an ID.
package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Kind is how a principal has proved who it is.
type Kind string

// The kinds of principals.
const (
	Anonymous   Kind = "anonymous" // has proved nothing
	User        Kind = "user"      // name and password
	Certificate Kind = "cert"      // X.509 client certificate
	AccessKey   Kind = "key"       // AWS Signature Version 4
	Token       Kind = "token"     // bearer token
	JWT         Kind = "jwt"       // JSON Web Token of another issuer
	Webhook     Kind = "webhook"   // accepted by a custom authenticator
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Anonymous, User, Certificate, AccessKey, Token, JWT, Webhook} }

// GroupPrefix begins the name of a group where principals may stand too, for
// instance as the target of a policy: "group:operators".
const GroupPrefix = "group:"

// Errors of authenticators.
var (
	// ErrNoCredentials means that nothing was shown that the authenticator could
	// judge: the next one may be asked.
	ErrNoCredentials = errors.New("auth: no credentials of this kind")
	// ErrDenied means that what was shown is wrong, expired or revoked. Nobody
	// else is asked. The client is not told which of these it was.
	ErrDenied = errors.New("auth: credentials refused")
	// ErrUnavailable means that nobody can tell now: the client is refused and may try again.
	ErrUnavailable = errors.New("auth: cannot authenticate now")
)

// Principal is who somebody is. It is not changed after it was made.
type Principal struct {
	ID   string // see the package documentation
	Kind Kind

	// Name is the identity: the thing that a device is, the user's name. The
	// built-in policy "device" allows the shadows of the thing with this name.
	// It may be empty.
	Name string

	Groups   []string // without GroupPrefix
	Policies []string // names of policies that the credential itself brings, besides those that are attached

	// Scopes confine what policies allow to actions that match one of these
	// patterns ("iot:*", "umbra:Get*"). Nil does not confine.
	Scopes []string

	// Attributes are those of the client certificate, as policy variables name
	// them after "iot:Certificate.": "Subject.CommonName", "SerialNumber". An
	// attribute may have several values. See CertificateAttributes.
	Attributes map[string][]string

	// Expires is when the credential ends, and with it every connection that
	// was made by it. Zero is never.
	Expires time.Time

	// Proof is what the authenticator goes by to tell, later and after a restart too,
	// whether the credential is still the one that was shown. It is no secret. Nil for none.
	Proof []byte

	// Standing tells what has become of the credential since it was shown. Nil when
	// nobody can tell. It returns at once, and takes no lock that is held while it is
	// told of changes.
	Standing func() Standing `json:"-"`
}

// Standing is what has become of a credential.
type Standing uint8

// What may have become of a credential.
const (
	Unchanged Standing = iota // it is as it was when it was shown
	Changed                   // it brings other groups, policies, scopes or times: who has shown it has to show it again
	Withdrawn                 // it was removed or revoked, or has another secret: nobody trusts what was done with it
)

// Nobody returns the principal of those who have proved nothing.
func Nobody() *Principal { return &Principal{ID: string(Anonymous), Kind: Anonymous} }

// NewID returns the ID of a principal.
func NewID(k Kind, name string) string { return string(k) + ":" + name }

// Owner identifies whose session something is: two certificates with the same
// identity have the same owner, and nobody else has.
func (p *Principal) Owner() string {
	switch {
	case p.IsAnonymous():
		return ""
	case p.Name != "":
		return NewID(p.Kind, p.Name)
	default:
		return p.ID
	}
}

// IsAnonymous reports whether p has proved nothing; a nil p has not.
func (p *Principal) IsAnonymous() bool { return p == nil || p.Kind == Anonymous }

// In reports whether p belongs to a group.
func (p *Principal) In(group string) bool { return p != nil && slices.Contains(p.Groups, group) }

// CountsAt reports whether the credential of p still counts at now, as it was shown. That of nobody does.
func (p *Principal) CountsAt(now time.Time) bool {
	return p == nil || (p.Expires.IsZero() || now.Before(p.Expires)) && p.standing() == Unchanged
}

// Withdrawn reports whether somebody has taken the credential of p back, other than by the time that it was given.
func (p *Principal) Withdrawn() bool { return p.standing() == Withdrawn }

func (p *Principal) standing() Standing {
	if p == nil || p.Standing == nil {
		return Unchanged
	}
	return p.Standing()
}

// String returns the ID, for logs.
func (p *Principal) String() string {
	if p == nil {
		return string(Anonymous)
	}
	return p.ID
}

// Source returns what stands for whoever comes from an address, where what comes from one source is bounded: the address
// itself, or of IPv6 that of its network of 64 bits, in which anybody has as many as he likes.
func Source(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.Is6() {
		return a
	}
	network, err := a.Prefix(64)
	if err != nil {
		return a // never: it has 128 bits
	}
	return network.Addr()
}

type principalKey struct{}

// NewContext returns a context that carries p, for the handlers of a request.
func NewContext(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the principal of a request, nil when nobody has authenticated it.
func FromContext(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}

// Credentials are what an MQTT client shows. Text in them is the client's:
// whoever passes it on has to escape it.
type Credentials struct {
	ClientID    string // as in CONNECT, or the one that the server has assigned
	Username    string
	Password    []byte // not kept after the call
	HasPassword bool

	Listener string     // name of the listener that accepted the connection, "" when it has none
	Remote   netip.Addr // of the client; invalid when it is not known
	Secure   bool       // over TLS
	Domain   string     // that the client has asked for by TLS, "" for none
	Peer     *Principal // by the connection itself: certificate or signed request; nil for none
}

// Peer is a network connection that knows something of who is at its other end:
// the MQTT server has it complete the credentials of a CONNECT packet.
type Peer interface {
	// Complete sets Listener, Remote, Secure, Domain and Peer, as far as they are known.
	Complete(c *Credentials)
}

// Authenticator finds out who an MQTT client is. Its error is, or wraps,
// ErrNoCredentials, ErrDenied or ErrUnavailable. It is called at the same time
// from many goroutines and returns soon after ctx ends.
type Authenticator interface {
	Authenticate(ctx context.Context, c *Credentials) (*Principal, error)

	// Recall sets the Standing of a principal that was authenticated in an earlier run,
	// as far as somebody can tell.
	Recall(p *Principal)
}
