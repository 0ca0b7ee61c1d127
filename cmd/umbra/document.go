package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/shadow"
)

// Names of the sections of a state.
const (
	sectionDesired  = "desired"
	sectionReported = "reported"
	sectionDelta    = "delta"
)

// document is one shadow as the server sent it.
type document struct {
	raw     []byte
	members object
}

func parseDocument(raw []byte) (*document, error) {
	v, err := decodeJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("the server sent no JSON: %w", err)
	}
	members, ok := v.(object)
	if !ok {
		return nil, errors.New("the server sent no shadow document")
	}
	return &document{raw: raw, members: members}, nil
}

// fetch returns a shadow; its absence is an error that names the shadows which the thing does have.
func fetch(ctx context.Context, c *client.Client, id shadow.ID) (*document, error) {
	raw, err := c.Shadow(ctx, id)
	if isNotFound(err) {
		return nil, absent(ctx, c, id, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", display(id), err)
	}
	return parseDocument(raw)
}

// fetchIfAny returns nil for a shadow that does not exist.
func fetchIfAny(ctx context.Context, c *client.Client, id shadow.ID) (*document, error) {
	raw, err := c.Shadow(ctx, id)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", display(id), err)
	}
	return parseDocument(raw)
}

func isNotFound(err error) bool {
	refusal, ok := errors.AsType[*client.Error](err)
	return ok && refusal.Status == http.StatusNotFound
}

func absent(ctx context.Context, c *client.Client, id shadow.ID, err error) error {
	t, listErr := c.Thing(ctx, id.Thing)
	if listErr != nil || len(t.Shadows) == 0 {
		return fmt.Errorf("%s: %w", display(id), err)
	}
	others := make([]string, 0, len(t.Shadows))
	for _, s := range t.Shadows[:min(len(t.Shadows), 5)] {
		others = append(others, display(shadow.ID{Thing: id.Thing, Name: s.Name}))
	}
	return fmt.Errorf("%s: %w (there is %s)", display(id), err, strings.Join(others, ", "))
}

// section returns a section of the state, nil when there is none. It also works on a nil document.
func (d *document) section(name string) object {
	if d == nil {
		return nil
	}
	v, _ := lookup(d.members, path{"state", name})
	o, _ := v.(object)
	return o
}

func (d *document) version() uint64 {
	if d == nil {
		return 0
	}
	return uint64(integer(d.members["version"]))
}

// inSync reports whether nothing is desired that is not reported.
func (d *document) inSync() bool { return len(d.section(sectionDelta)) == 0 }

// written returns when the value at p of a section was last written, in seconds; 0 when that is not known.
func (d *document) written(section string, p path) int64 {
	meta, _ := lookup(d.members, append(path{"metadata", section}, p...))
	return newest(meta)
}

// newest returns the latest timestamp in metadata.
func newest(meta any) int64 {
	var latest int64
	switch meta := meta.(type) {
	case object:
		if t, ok := meta["timestamp"].(json.Number); ok {
			latest = integer(t)
		}
		for _, v := range meta {
			latest = max(latest, newest(v))
		}
	case []any:
		for _, v := range meta {
			latest = max(latest, newest(v))
		}
	}
	return latest
}

func integer(v any) int64 {
	n, _ := v.(json.Number)
	i, _ := n.Int64()
	return i
}

// documentPath reads a path into a document: it begins with a section of the state or another member.
func documentPath(s string) (path, error) {
	p, err := parsePath(s)
	if err != nil {
		return nil, err
	}
	switch p[0] {
	case sectionDesired, sectionReported, sectionDelta:
		return append(path{"state"}, p...), nil
	case "state", "metadata", "version", "timestamp", "connectivity":
		return p, nil
	}
	return nil, usagef("path %q: begin with desired, reported, delta, metadata, version, timestamp or connectivity", s)
}

// allPaths returns the paths of all leaves of the sections, in order, each once.
func allPaths(sections ...object) []path {
	var all []path
	for _, section := range sections {
		for _, l := range leavesWithin(section) {
			all = append(all, l.path)
		}
	}
	slices.SortFunc(all, func(a, b path) int { return slices.Compare(a, b) })
	return slices.CompactFunc(all, func(a, b path) bool { return slices.Equal(a, b) })
}
