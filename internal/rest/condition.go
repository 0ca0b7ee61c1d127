package rest

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// entityTag is the version in quotes.
func entityTag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

// entityTags is what If-Match or If-None-Match lists: entity tags as they were
// written, or * alone [RFC 9110, 13.1].
type entityTags []string

// match compares strongly: no weak tag is that of a version. Version 0 is a shadow that does not exist.
func (e entityTags) match(version uint64) bool {
	return version > 0 && (slices.Contains(e, "*") || slices.Contains(e, entityTag(version)))
}

// matchWeakly is match to which weak tags count [RFC 9110, 8.8.3.2].
func (e entityTags) matchWeakly(version uint64) bool {
	return e.match(version) || version > 0 && slices.Contains(e, "W/"+entityTag(version))
}

var entityTagForm = regexp.MustCompile(`^(?:W/)?"[^"\x00-\x20\x7f]*"`)

// tagsOf reads a header that lists entity tags; nil when it is absent.
func tagsOf(r *http.Request, header string) (entityTags, error) {
	fields := r.Header.Values(header)
	if len(fields) == 0 {
		return nil, nil
	}
	const between = ", \t" // empty elements of a list do not count [RFC 9110, 5.6.1]
	rest := strings.Trim(strings.Join(fields, ","), between)
	if rest == "*" {
		return entityTags{rest}, nil
	}
	var tags entityTags
	for rest != "" {
		tag := entityTagForm.FindString(rest)
		after := strings.TrimLeft(rest[len(tag):], between)
		if tag == "" || after != "" && !strings.Contains(rest[len(tag):len(rest)-len(after)], ",") {
			tags = nil
			break
		}
		tags, rest = append(tags, tag), after
	}
	if tags == nil {
		return nil, refusal(http.StatusBadRequest, `%s must list entity tags, such as "3", or be *`, header)
	}
	return tags, nil
}

// condition returns what If-Match and If-None-Match ask of the current version, nil when there is neither.
func condition(r *http.Request) (func(version uint64) bool, error) {
	match, err := tagsOf(r, "If-Match")
	if err != nil {
		return nil, err
	}
	noneMatch, err := tagsOf(r, "If-None-Match")
	if err != nil || match == nil && noneMatch == nil {
		return nil, err
	}
	return func(version uint64) bool {
		return (match == nil || match.match(version)) && !noneMatch.matchWeakly(version)
	}, nil
}
