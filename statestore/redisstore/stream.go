package redisstore

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/umbra-iot/umbra/statestore"
)

// errNoBody is the cause of errors about records that there is only history of.
var errNoBody = fmt.Errorf("%w: no body", errDamaged)

// damaged is an error about what Redis holds for a shadow.
func damaged(what string, key statestore.Key, err error) error {
	return fmt.Errorf("redisstore: %s of %q %q: %w", what, key.Thing, key.Shadow, err)
}

// headerOf returns the header of the newest of some entries of a shadow's stream, newest first. It is "" when there is
// none.
func headerOf(newest []redis.XMessage) string {
	if len(newest) == 0 {
		return ""
	}
	header, _ := newest[0].Values[headerField].(string)
	return header
}

// bodyOf returns which of the entries, newest first, is the first with a body; -1 for none.
func bodyOf(newest []redis.XMessage) int {
	return slices.IndexFunc(newest, func(m redis.XMessage) bool {
		_, ok := m.Values[bodyField]
		return ok
	})
}

// parseRecord returns the record that the last entries of a stream, newest first, make, or the zero Record when there is
// none or it has expired.
func (s *Store) parseRecord(newest []redis.XMessage, now time.Time) (statestore.Record, error) {
	r, err := parseHeader(headerOf(newest), now)
	if err != nil || r.Version == 0 {
		return r, err
	}
	i := bodyOf(newest)
	if i < 0 {
		return statestore.Record{}, errNoBody
	}
	base, err := parseHeader(headerOf(newest[i:]), now)
	if err != nil {
		return statestore.Record{}, err
	}
	body, _ := newest[i].Values[bodyField].(string)
	r.Body = []byte(body)
	if i == 0 {
		return r, nil
	}
	entries, err := parseEntries(newest[:i])
	if err != nil {
		return statestore.Record{}, err
	}
	if s.options.Redo == nil {
		return statestore.Record{}, errNoBody
	}
	base.Body = r.Body
	if r.Body, err = s.options.Redo(base, entries); err != nil {
		return statestore.Record{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return r, nil
}

// parseEntries returns the history in some entries of a stream, rising.
func parseEntries(messages []redis.XMessage) ([]statestore.Entry, error) {
	var list []statestore.Entry
	for _, m := range messages {
		for field, value := range m.Values {
			if field == headerField || field == bodyField {
				continue
			}
			version, err := strconv.ParseUint(field, 10, 64)
			text, ok := value.(string)
			if err != nil || !ok {
				return nil, errDamaged
			}
			e, err := parseEntry(version, text)
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b statestore.Entry) int { return cmp.Compare(a.Version, b.Version) })
	return list, nil
}
