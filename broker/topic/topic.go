// Package topic knows MQTT topic names and filters (MQTT 5, 4.7): which are valid, which match, and, with
// [Index], which of many subscriptions match a name.
//
// [Match] is the definition; Index gives the same answer for all filters at once. Both follow one rule that
// is easily forgotten: a filter that begins with a wildcard does not match a name that begins with "$"
// [MQTT-4.7.2-1], also as a shared subscription.
package topic

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxLength is the largest number of bytes of a name or filter [MQTT-4.7.3-3].
const MaxLength = 65535

// sharePrefix begins the filters of shared subscriptions (MQTT 5, 4.8.2). Its case counts.
const sharePrefix = "$share/"

// What can be wrong with a name or filter.
var (
	ErrEmpty         = errors.New("topic: empty")                             // [MQTT-4.7.3-1]
	ErrTooLong       = errors.New("topic: longer than 65535 bytes")           // [MQTT-4.7.3-3]
	ErrEncoding      = errors.New("topic: not UTF-8, or with U+0000")         // [MQTT-1.5.4-1], [MQTT-4.7.3-2]
	ErrWildcard      = errors.New("topic: misplaced wildcard")                // [MQTT-4.7.1-1] to [MQTT-4.7.1-3]
	ErrShare         = errors.New("topic: malformed shared subscription")     // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
	ErrTooManyLevels = errors.New("topic: more levels than the limit allows") // a limit of ours
)

// ValidName reports why s is no topic name: nil, [ErrEmpty], [ErrTooLong], [ErrEncoding] or [ErrWildcard].
func ValidName(s string) error {
	if err := validString(s); err != nil {
		return err
	}
	if strings.ContainsAny(s, "+#") {
		return fmt.Errorf("%w in a name", ErrWildcard)
	}
	return nil
}

// ValidFilter reports why s is no topic filter: nil or one of the errors of this package. A filter of a shared
// subscription is checked as a whole.
func ValidFilter(s string) error {
	if err := validString(s); err != nil {
		return err
	}
	_, rest, _, err := ParseShare(s)
	if err != nil {
		return err
	}
	return validWildcards(rest)
}

// ParseShare splits "$share/group/rest". shared is false, and rest is filter, for every other filter; err is
// [ErrShare] for one that begins with "$share/" but lacks a group or a rest, or whose group has a wildcard.
// The rest is not checked: see [ValidFilter].
func ParseShare(filter string) (group, rest string, shared bool, err error) {
	tail, shared := strings.CutPrefix(filter, sharePrefix)
	if !shared {
		return "", filter, false, nil
	}
	group, rest, _ = strings.Cut(tail, "/")
	if group == "" || rest == "" || strings.ContainsAny(group, "+#") {
		return "", "", true, ErrShare
	}
	return group, rest, true, nil
}

// Levels returns the number of levels of a name or filter.
func Levels(s string) int {
	return strings.Count(s, "/") + 1
}

// Match reports whether filter, valid and without a share prefix, matches name.
func Match(filter, name string) bool {
	if strings.HasPrefix(name, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		want, filterRest, filterMore := strings.Cut(filter, "/")
		if want == "#" {
			return true
		}
		level, nameRest, nameMore := strings.Cut(name, "/")
		if want != "+" && want != level {
			return false
		}
		if !filterMore || !nameMore {
			return filterMore == nameMore || filterRest == "#"
		}
		filter, name = filterRest, nameRest
	}
}

func validString(s string) error {
	switch {
	case s == "":
		return ErrEmpty
	case len(s) > MaxLength:
		return ErrTooLong
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		return ErrEncoding
	}
	return nil
}

// validWildcards checks that wildcards stand for whole levels and that "#" is the last one.
func validWildcards(filter string) error {
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		switch {
		case level == "+" || level == "#" && !more:
		case strings.ContainsAny(level, "+#"):
			return fmt.Errorf("%w in a filter", ErrWildcard)
		}
	}
	return nil
}
