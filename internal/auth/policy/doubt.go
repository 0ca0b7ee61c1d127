package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// Known is what documents can be about.
type Known struct {
	Actions    []string // such as "iot:Connect"
	Attributes []string // of certificates, such as "Subject.CommonName"
}

// Doubts returns what of a document that Parse takes is perhaps misspelt, with its place: actions that match none of
// known, and condition keys and variables that never have a value. A statement that is about such an action, or has
// such a condition, does not do what it says; one that denies perhaps denies nothing. It is no error, as documents of
// AWS may have what only AWS has.
func Doubts(src []byte, known Known) []string {
	p := &parser{src: src, policy: &Policy{}, known: &known}
	p.document()
	return p.doubts
}

// doubt notes what is perhaps misspelt.
func (p *parser) doubt(at int, format string, args ...any) {
	p.doubts = append(p.doubts, strings.TrimPrefix(failAt(p.src, at, format, args...).Error(), "policy: "))
}

// doubtAction notes an action that there is not.
func (p *parser) doubtAction(n *node, action *pattern) {
	if p.known == nil || slices.ContainsFunc(p.known.Actions, func(a string) bool { return action.match([]byte(strings.ToLower(a)), nil) }) {
		return
	}
	p.doubt(n.at, "action %q is none of those that are asked for here", n.text)
}

// doubtVariables notes the variables of a pattern that never have a value.
func (p *parser) doubtVariables(n *node, of *pattern) {
	for i := range of.parts {
		if v := &of.parts[i]; v.kind == partVariable && p.known != nil && !p.known.has(p.policy.refs[v.ref]) {
			p.doubt(n.at, "%q has a variable that never has a value: %s", n.text, p.policy.refs[v.ref].key)
		}
	}
}

// doubtKey notes a condition key that never has a value.
func (p *parser) doubtKey(k key) {
	if p.known != nil && !p.known.has(parseRef(k.name)) {
		p.doubt(k.at, "condition key %q never has a value", k.name)
	}
}

// has reports whether a name can have a value: it has one for a client of whom everything is known.
func (k *Known) has(r ref) bool {
	if strings.HasPrefix(r.key, keyAttribute) {
		return strings.HasSuffix(r.key, "]") // things have attributes of any name
	}
	client := Env{
		MQTT: true, ClientID: "x", Thing: &Thing{Name: "x", Type: "x"}, CertificateID: "x", SourceIP: netip.IPv6Loopback(), Domain: "x",
		ConnectAttributes: []string{"x"}, LastWillTopic: "x", PrincipalID: "x", PrincipalType: "x", Name: "x", Groups: []string{"x"},
		Certificate: map[string][]string{},
	}
	for _, name := range k.Attributes {
		client.Certificate[name] = slices.Repeat([]string{"x"}, MaxValues)
	}
	return len(client.lookup(r).list) > 0
}
