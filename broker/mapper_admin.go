package broker

import (
	"maps"
	"slices"

	"github.com/umbra-iot/umbra/broker/mapping"
)

// MappingErrors is what has gone wrong in mappings since the start.
type MappingErrors struct {
	Counts map[string]map[mapping.Code]int64 `json:"counts"` // by mapping and kind
	Last   []MappingFailure                  `json:"last"`   // the oldest first
}

// MappingErrors returns what has gone wrong in mappings.
func (b *Broker) MappingErrors() MappingErrors {
	out := MappingErrors{Counts: map[string]map[mapping.Code]int64{}, Last: []MappingFailure{}}
	if b.mapper == nil {
		return out
	}
	r := &b.mapper.report
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, counts := range r.counts {
		out.Counts[name] = maps.Clone(counts)
	}
	out.Last = append(out.Last, slices.Clone(r.last)...)
	return out
}
