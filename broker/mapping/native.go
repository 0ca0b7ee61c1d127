package mapping

import (
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// NativePrefix begins the native topics, which need no mapping.
const NativePrefix = "things/"

// NativeDelta is the topic that mirrors the delta of a thing.
func NativeDelta(thing string) string { return NativePrefix + thing + "/delta" }

// Native is what a message on a native topic says: things/{thing}/reported or things/{thing}/desired,
// with the keys of a path after it, or without for the whole section.
type Native struct {
	ID      shadow.ID
	Desired bool

	path  []string
	value shadow.Value
}

// ParseNative reads a message on a native topic. ok is false for every other topic, and for an empty
// payload that is not retained, which says nothing. A refusal is a *[shadow.Error].
func ParseNative(m *Message) (n *Native, ok bool, err error) {
	rest, ok := strings.CutPrefix(m.Topic, NativePrefix)
	if !ok {
		return nil, false, nil
	}
	keys := strings.Split(rest, "/")
	if len(keys) < 2 || keys[1] != "reported" && keys[1] != "desired" || len(m.Payload) == 0 && !m.Retain {
		return nil, false, nil
	}
	n = &Native{ID: shadow.ID{Thing: keys[0]}, Desired: keys[1] == "desired", path: keys[2:]}
	if err := n.ID.Validate(); err != nil {
		return nil, true, err //nolint:wrapcheck // a shadow.Error, as documented
	}
	for _, key := range n.path {
		if text := checkKey(key); text != "" {
			return nil, true, &shadow.Error{Code: 400, Message: text}
		}
	}
	if len(m.Payload) > 0 {
		v, bad := decode(asAuto, m.Payload)
		if bad != nil {
			return nil, true, &shadow.Error{Code: 400, Message: bad.text}
		}
		n.value = v
	}
	if len(n.path) == 0 && n.value.Exists() && !n.value.IsObject() {
		return nil, true, &shadow.Error{Code: 400, Message: "a whole section must be a JSON object"}
	}
	return n, true, nil
}

// Patch returns the payload of the update that a document needs; changed is false when it needs none.
// What is desired is always an update, also when it is desired already.
func (n *Native) Patch(doc *shadow.Document) (payload []byte, changed bool) {
	section, current := "reported", doc.Reported()
	if n.Desired {
		section, current = "desired", doc.Desired()
	}
	o := op{path: n.path, value: n.value}
	if n.Desired && n.value.Exists() {
		current = shadow.Value{}
	}
	if len(n.path) == 0 && !n.value.Exists() {
		o = op{keep: [][]string{}}
	}
	return updateOf(section, []op{o}, current)
}
