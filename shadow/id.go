package shadow

import "fmt"

// Longest names, in characters ([AWS API reference, iot-data ThingName, ShadowName]).
const (
	maxThingName  = 128
	maxShadowName = 64
)

// ID names one shadow of one thing.
type ID struct {
	Thing string // 1-128 characters of [a-zA-Z0-9:_-]
	Name  string // 1-64 characters of [$a-zA-Z0-9:_-]; "" is the classic (unnamed) shadow
}

// Validate reports names outside the rules as an *[Error] with code 400.
func (id ID) Validate() error {
	if !validThing(id.Thing) {
		return &Error{Code: 400, Message: fmt.Sprintf(
			"Invalid thing name: 1 to %d characters of a-z, A-Z, 0-9, ':', '_' and '-'", maxThingName)}
	}
	if id.Name != "" && !validName(id.Name) {
		return &Error{Code: 400, Message: fmt.Sprintf(
			"Invalid shadow name: 1 to %d characters of a-z, A-Z, 0-9, ':', '_', '-' and '$'", maxShadowName)}
	}
	return nil
}

// String returns "thing", or "thing~name" for a named shadow, as AWS writes it in messages.
func (id ID) String() string {
	if id.Name == "" {
		return id.Thing
	}
	return id.Thing + "~" + id.Name
}

func validThing(s string) bool {
	if s == "" || len(s) > maxThingName {
		return false
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

func validName(s string) bool {
	if s == "" || len(s) > maxShadowName {
		return false
	}
	for i := range len(s) {
		if s[i] != '$' && !nameByte(s[i]) {
			return false
		}
	}
	return true
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == ':' || c == '_' || c == '-'
}
