package rest

import (
	"net/http"
	"strings"

	"github.com/tidwall/gjson"
)

// project returns the one value of a document that a path names. A path is a
// list of keys between dots; a dot in a key is written \. and a backslash \\.
// No path leads into an array. Paths that begin with desired, reported or delta
// begin in the state, all others in the document.
func project(doc []byte, path string) ([]byte, error) {
	keys, ok := splitPath(path)
	if !ok {
		return nil, refusal(http.StatusBadRequest, "Invalid path: an empty key or a lone backslash")
	}
	switch keys[0] {
	case "desired", "reported", "delta":
		keys = append([]string{"state"}, keys...)
	}
	value := gjson.ParseBytes(doc)
	for _, key := range keys {
		// One key at a time, escaped: nothing else of gjson's path language is wanted.
		next := value.Get(gjson.Escape(key))
		if !value.IsObject() || !next.Exists() {
			return nil, refusal(http.StatusNotFound, "No value exists with path: '%s'", path)
		}
		value = next
	}
	return []byte(value.Raw), nil
}

// splitPath splits a path at its dots. ok is false for an empty key and for a backslash before anything but a dot or a backslash.
func splitPath(path string) (keys []string, ok bool) {
	var key strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '.':
			if key.Len() == 0 {
				return nil, false
			}
			keys = append(keys, key.String())
			key.Reset()
		case c != '\\':
			key.WriteByte(c)
		case i+1 < len(path) && (path[i+1] == '.' || path[i+1] == '\\'):
			i++
			key.WriteByte(path[i])
		default:
			return nil, false
		}
	}
	if key.Len() == 0 {
		return nil, false
	}
	return append(keys, key.String()), true
}
