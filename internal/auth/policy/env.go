package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Env is what is known of a connection or request.
type Env struct {
	MQTT              bool   // over MQTT or MQTT over WebSocket, not HTTP
	ClientID          string // over MQTT
	Thing             *Thing // over MQTT: the registered thing that the client id names
	Certificate       map[string][]string
	CertificateID     string
	SourceIP          netip.Addr
	Secure            bool // over TLS
	Domain            string
	ConnectAttributes []string // "PersistentConnect", "LastWill"
	LastWillTopic     string   // as ARN
	PrincipalID       string
	PrincipalType     string
	Name              string // of the principal: aws:username, umbra:Name
	Groups            []string
	Now               func() time.Time // default time.Now
}

// Thing is a registered thing.
type Thing struct {
	Name       string
	Type       string // "" for none
	Attributes map[string]string
	Attached   bool // the principal is attached to it
}

// MaxValues is how many values of an attribute of a certificate count.
const MaxValues = 5

// maxValueChars is the length up to which an attribute of a certificate, or a name, is put in place of a variable.
const maxValueChars = 1024

// ref is the name of a value.
type ref struct {
	key   string // in lower case, but for the name of a thing's attribute; without index
	index int    // of a certificate's attribute; all for .List
}

// all is the index of names with .List.
const all = -1

const (
	keyCertificate = "iot:certificate."
	keyAttribute   = "iot:connection.thing.attributes["
	keyThing       = "iot:connection.thing."
)

// parseRef parses the name of a variable or condition key, whose case does not matter.
func parseRef(name string) ref {
	r := ref{key: strings.ToLower(name)}
	if strings.HasPrefix(r.key, keyAttribute) {
		return ref{key: keyAttribute + name[len(keyAttribute):]}
	}
	if !strings.HasPrefix(r.key, keyCertificate) {
		return r
	}
	base, suffix := r.key, ""
	if i := strings.LastIndexByte(r.key, '.'); i >= 0 {
		base, suffix = r.key[:i], r.key[i+1:]
	}
	if suffix == "list" {
		return ref{key: base, index: all}
	}
	if n, err := strconv.Atoi(suffix); err == nil && n >= 0 {
		return ref{key: base, index: n}
	}
	return r
}

// value is what a name stands for.
type value struct {
	text   string   // in place of a variable
	single bool     // there is such a text
	path   bool     // it is no name of a thing, and would be a path in resources of things
	list   []string // for conditions; empty when the key is absent
	timed  bool     // it is another one at another time
}

// one is a value that stands for itself.
func one(s string) value {
	if s == "" {
		return value{}
	}
	return value{text: s, single: true, list: []string{s}}
}

// lookup returns the value of a name.
func (e *Env) lookup(r ref) value {
	switch {
	case strings.HasPrefix(r.key, keyCertificate):
		return e.certificate(strings.TrimPrefix(r.key, keyCertificate), r.index)
	case strings.HasPrefix(r.key, keyThing):
		if !e.MQTT || e.Thing == nil {
			return value{}
		}
		return e.Thing.lookup(r.key)
	}
	switch r.key {
	case "iot:clientid":
		if !e.MQTT {
			return value{}
		}
		return one(e.ClientID)
	case "iot:certificateid":
		return one(e.CertificateID)
	case "iot:domainname":
		return one(e.Domain)
	case "iot:connectattributes":
		return value{list: e.ConnectAttributes}
	case "iot:lastwilltopic":
		return one(e.LastWillTopic)
	case "aws:sourceip":
		if !e.SourceIP.IsValid() {
			return value{}
		}
		return one(e.SourceIP.Unmap().String())
	case "aws:securetransport":
		return one(strconv.FormatBool(e.Secure))
	case "aws:username", "umbra:name":
		v := literal(one(e.Name))
		v.path = !isNamed(e.Name)
		return v
	case "aws:userid", "umbra:principal":
		return one(e.PrincipalID)
	case "aws:principaltype":
		return one(e.PrincipalType)
	case "umbra:groups":
		return value{list: e.Groups}
	case "aws:currenttime":
		return value{timed: true, single: true, list: []string{e.now().Format(time.RFC3339)}, text: e.now().Format(time.RFC3339)}
	case "aws:epochtime":
		epoch := strconv.FormatInt(e.now().Unix(), 10)
		return value{timed: true, single: true, list: []string{epoch}, text: epoch}
	}
	return value{}
}

func (e *Env) now() time.Time {
	if e.Now == nil {
		return time.Now().UTC()
	}
	return e.Now().UTC()
}

func (t *Thing) lookup(key string) value {
	if name, ok := strings.CutPrefix(key, keyAttribute); ok {
		name, ok = strings.CutSuffix(name, "]")
		if !ok {
			return value{}
		}
		return one(t.attribute(name))
	}
	switch strings.TrimPrefix(key, keyThing) {
	case "thingname":
		return one(t.Name)
	case "thingtypename":
		return one(t.Type)
	case "isattached":
		return one(strconv.FormatBool(t.Attached))
	}
	return value{}
}

// attribute returns the value of an attribute, "" for none. Of several names that differ in case only, the one that is
// written as it is asked for counts, else the first.
func (t *Thing) attribute(name string) string {
	if v, ok := t.Attributes[name]; ok {
		return v
	}
	for _, k := range slices.Sorted(maps.Keys(t.Attributes)) {
		if strings.EqualFold(k, name) {
			return t.Attributes[k]
		}
	}
	return ""
}

// certificate returns an attribute of the client certificate.
func (e *Env) certificate(name string, index int) value {
	if name == "certificateid" {
		return one(e.CertificateID)
	}
	var list []string
	for k, v := range e.Certificate {
		if strings.EqualFold(k, name) {
			list = v[:min(len(v), MaxValues)]
		}
	}
	switch {
	case index == all:
		return value{list: list}
	case index >= len(list):
		return value{}
	}
	return literal(one(list[index]))
}

// literal is a value that others have chosen: it does not take the place of a variable when it could mean something else
// there, a filter or a reserved topic.
func literal(v value) value {
	v.single = v.single && !strings.ContainsAny(v.text, "*$+?#") && len([]rune(v.text)) <= maxValueChars
	return v
}
