package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/policy"
)

// Limits of registered things, those of AWS IoT.
const (
	MaxThingNameBytes      = 128
	MaxAttributes          = 50
	MaxAttributeNameBytes  = 128
	MaxAttributeValueBytes = 800
	MaxThingPrincipals     = 100 // of Umbra: AWS has no such limit
)

// Thing is a registered thing: what thing variables of policies stand for when a client id names it.
type Thing struct {
	Type       string            `json:"type,omitempty"` // 1 to 128 characters of [a-zA-Z0-9:_-]; "" for none
	Attributes map[string]string `json:"attributes,omitempty"`
	Principals []string          `json:"principals,omitempty"` // IDs and groups that are attached to it

	origin  string // "file" or "store"
	version uint64 // in the store
}

// ThingInfo describes a registered thing.
type ThingInfo struct {
	Name   string `json:"thing"`
	Origin string `json:"origin"` // "file" or "store"
	Thing
}

// DecodeThing parses a registered thing strictly, and checks it.
func DecodeThing(text []byte) (Thing, error) {
	var t Thing
	if err := decode(text, &t); err != nil {
		return Thing{}, fmt.Errorf("authz: %w", err)
	}
	return t, t.check()
}

// decodeThings parses things by their names, as in a file.
func decodeThings(text []byte, origin string) (map[string]Thing, error) {
	things := map[string]Thing{}
	if err := decode(text, &things); err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(things)) {
		t := things[name]
		if err := errors.Join(CheckThingName(name), t.check()); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		t.origin = origin
		things[name] = t
	}
	return things, errors.Join(errs...)
}

// check joins all that is wrong with a thing.
func (t *Thing) check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("authz: "+format, args...)) }
	if t.Type != "" {
		if err := CheckThingName(t.Type); err != nil {
			fail("type %q: 1 to %d characters of a-z, A-Z, 0-9, ':', '_' and '-'", t.Type, MaxThingNameBytes)
		}
	}
	if len(t.Attributes) > MaxAttributes {
		fail("%d attributes: a thing has at most %d", len(t.Attributes), MaxAttributes)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Attributes)) {
		if name == "" || len(name) > MaxAttributeNameBytes || strings.ContainsFunc(name, notIn("_.,@/:#-")) {
			fail("attribute %q: its name has 1 to %d characters of a-z, A-Z, 0-9 and _.,@/:#-", name, MaxAttributeNameBytes)
		}
		v := t.Attributes[name]
		control := func(c rune) bool { return c < ' ' || c == 0x7F }
		if v == "" || len(v) > MaxAttributeValueBytes || !utf8.ValidString(v) || strings.ContainsFunc(v, control) {
			fail("attribute %q: its value has 1 to %d bytes of text without control characters", name, MaxAttributeValueBytes)
		}
	}
	if len(t.Principals) > MaxThingPrincipals {
		fail("%d principals: a thing has at most %d; attach a group", len(t.Principals), MaxThingPrincipals)
	}
	for _, p := range t.Principals {
		if err := CheckTarget(p); err != nil || strings.HasPrefix(p, KindPrefix) || p == string(auth.Anonymous) {
			fail("%q is neither a principal such as cert:ID nor group:NAME", p)
		}
	}
	return errors.Join(errs...)
}

// CheckThingName refuses what no thing can be called.
func CheckThingName(name string) error {
	if name == "" || len(name) > MaxThingNameBytes || strings.ContainsFunc(name, notIn(":_-")) {
		return fmt.Errorf("authz: invalid thing name: 1 to %d characters of a-z, A-Z, 0-9, ':', '_' and '-'", MaxThingNameBytes)
	}
	return nil
}

// notIn tells characters that are neither ASCII letters nor digits nor one of others.
func notIn(others string) func(rune) bool {
	return func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune(others, c)
	}
}

// Things describes the registered things whose names have a prefix and come after a name, by name, at most limit.
func (e *Engine) Things(prefix, after string, limit int) []ThingInfo {
	s := e.state.Load()
	var names []string
	for name := range s.things {
		if strings.HasPrefix(name, prefix) && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	list := make([]ThingInfo, min(limit, len(names)))
	for i := range list {
		list[i] = s.describe(names[i])
	}
	return list
}

// Thing describes a registered thing; false when there is none of the name.
func (e *Engine) Thing(name string) (ThingInfo, bool) {
	s := e.state.Load()
	if _, ok := s.things[name]; !ok {
		return ThingInfo{}, false
	}
	return s.describe(name), true
}

func (s *state) describe(name string) ThingInfo {
	t := s.things[name]
	return ThingInfo{Name: name, Origin: t.origin, Thing: t}
}

// thing returns the registered thing that a client id names, nil for none. The identity of a
// principal is a thing that it is attached to.
func (s *state) thing(p *auth.Principal, clientID string) *policy.Thing {
	t, registered := s.things[clientID]
	own := p != nil && p.Name == clientID && CheckThingName(clientID) == nil
	if !registered && !own {
		return nil
	}
	attached := own || slices.Contains(t.Principals, p.String())
	if p != nil {
		attached = attached || slices.ContainsFunc(p.Groups, func(g string) bool {
			return slices.Contains(t.Principals, auth.GroupPrefix+g)
		})
	}
	return &policy.Thing{Name: clientID, Type: t.Type, Attributes: t.Attributes, Attached: attached}
}
