package rest

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/auth/policy"
)

// question is what testPolicy is asked.
type question struct {
	Principal  string              `json:"principal"`  // ID
	Name       string              `json:"name"`       // default: that of the credential, or what comes after the kind in the ID
	Groups     []string            `json:"groups"`     // besides those of the credential
	Attributes map[string][]string `json:"attributes"` // of the certificate, as in auth.Principal
	ClientID   string              `json:"clientId"`   // over MQTT
	Persistent bool                `json:"persistent"`
	WillTopic  string              `json:"willTopic"`
	Remote     string              `json:"sourceIp"`
	Secure     bool                `json:"secureTransport"`
	Domain     string              `json:"domainName"`
	Action     string              `json:"action"`
	Resource   string              `json:"resource"` // ARN, "*", or what comes in an ARN after the account
}

// testPolicy says whether somebody may do something, and which statement of which policy decides.
func (a *api) testPolicy(w http.ResponseWriter, r *http.Request) error {
	q, err := a.readQuestion(w, r)
	if err != nil {
		return err
	}
	link, err := q.link()
	if err != nil {
		return err
	}
	p, known := q.principal(a.Engine.Principal)
	writeJSON(w, http.StatusOK, contentJSON, struct {
		Policies []string `json:"policies"`          // that count for the principal
		Unknown  bool     `json:"unknown,omitempty"` // there is no such user, key or token: the answer is what one would be told that brings nothing
		policy.Explanation
	}{append([]string{}, a.Engine.Names(p)...), !known && isKept(p.Kind), a.Engine.Explain(p, link, q.Action, q.Resource)})
	return nil
}

func (a *api) readQuestion(w http.ResponseWriter, r *http.Request) (q question, err error) {
	body, err := a.readBody(w, r)
	if err != nil {
		return q, err
	}
	if err := decodeStrict(body, &q); err != nil {
		return q, refusal(http.StatusBadRequest, "Invalid question: %v", err)
	}
	if q.Principal == "" || q.Action == "" || q.Resource == "" {
		return q, refusal(http.StatusBadRequest, "A question has principal, action and resource")
	}
	if q.Principal != string(auth.Anonymous) && !authz.IsPrincipal(q.Principal) {
		return q, refusal(http.StatusBadRequest, "%q is neither a principal such as user:alice nor anonymous", q.Principal)
	}
	if q.ClientID == "" && (q.Persistent || q.WillTopic != "") {
		return q, refusal(http.StatusBadRequest, "persistent and willTopic are of an MQTT connection, which has a clientId")
	}
	return q, nil
}

// link is the connection or request that is asked about.
func (q *question) link() (auth.Link, error) {
	l := auth.Link{
		MQTT: q.ClientID != "", ClientID: q.ClientID, Secure: q.Secure, Domain: q.Domain, Persistent: q.Persistent, WillTopic: q.WillTopic,
	}
	if q.Remote != "" {
		var err error
		if l.Remote, err = netip.ParseAddr(q.Remote); err != nil {
			return l, refusal(http.StatusBadRequest, "sourceIp is no address")
		}
	}
	return l, nil
}

// isKept reports whether the server has the credentials of a kind of principals, so that it knows them all.
func isKept(k auth.Kind) bool { return k == auth.User || k == auth.AccessKey || k == auth.Token }

// principal is who is asked about: whoever shows the credential that known has of the ID, or somebody made up.
func (q *question) principal(known func(id string) (*auth.Principal, bool)) (p *auth.Principal, ok bool) {
	p, ok = known(q.Principal)
	if !ok {
		kind, name, _ := strings.Cut(q.Principal, ":")
		p = &auth.Principal{ID: q.Principal, Kind: auth.Kind(kind)}
		if p.Kind != auth.Certificate {
			p.Name = name
		}
	}
	if q.Name != "" {
		p.Name = q.Name
	}
	p.Groups = slices.Concat(p.Groups, q.Groups)
	p.Attributes = q.Attributes
	return p, ok
}
