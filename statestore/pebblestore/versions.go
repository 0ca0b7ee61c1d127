package pebblestore

import (
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// versionsKept bounds each half of versions.
const versionsKept = 1 << 15

// versions remembers which version shadows are at, so that a commit seldom has
// to ask the database. When the recent half is full it becomes the older half,
// and what was not used since is forgotten. Whoever uses it has the turn.
type versions struct {
	recent, older map[statestore.Key]version
}

// version is what compare-and-set needs to know of a record.
type version struct {
	number  uint64 // 0: there is no record
	expires int64  // as in statestore.Record
}

// expired reports whether the record counts as absent at now.
func (v version) expired(now time.Time) bool { return v.expires != 0 && v.expires <= now.UnixMilli() }

func (v *versions) get(k statestore.Key) (version, bool) {
	if found, ok := v.recent[k]; ok {
		return found, true
	}
	found, ok := v.older[k]
	return found, ok
}

func (v *versions) put(k statestore.Key, n version) {
	if len(v.recent) >= versionsKept || v.recent == nil {
		v.older, v.recent = v.recent, make(map[statestore.Key]version)
	}
	v.recent[k] = n
}

func (v *versions) remove(k statestore.Key) {
	delete(v.recent, k)
	delete(v.older, k)
}
