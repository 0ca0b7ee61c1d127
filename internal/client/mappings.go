package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Mapping is a mapping that is in force.
type Mapping struct {
	Name   string `json:"name"`
	Source string `json:"source"`
	Things int    `json:"things"`
	Errors int64  `json:"errors"`
}

// Mappings lists the mappings that are in force.
func (c *Client) Mappings(ctx context.Context) ([]Mapping, error) {
	var answer struct {
		Mappings []Mapping `json:"mappings"`
	}
	err := c.decode(ctx, call{method: http.MethodGet, path: "/v1/mappings"}, &answer)
	return answer.Mappings, err
}

// MappingFailure is one failure of a mapping.
type MappingFailure struct {
	Time    int64  `json:"timestamp"` // ms since the epoch
	Code    string `json:"code"`
	Mapping string `json:"mapping"`
	Thing   string `json:"thing"`
	Topic   string `json:"topic"`
	Message string `json:"message"`
}

// MappingFailures returns the last failures of mappings, the oldest first.
func (c *Client) MappingFailures(ctx context.Context) ([]MappingFailure, error) {
	var answer struct {
		Last []MappingFailure `json:"last"`
	}
	err := c.decode(ctx, call{method: http.MethodGet, path: "/v1/mappings/errors"}, &answer)
	return answer.Last, err
}

// Device is a plain device that a mapping makes a thing of.
type Device struct {
	Mapping  string          `json:"mapping"`
	Thing    string          `json:"thing"`
	Link     string          `json:"link"`
	Seen     int64           `json:"seen"` // ms since the epoch
	Commands []DeviceCommand `json:"commands"`
}

// DeviceCommand is a command of a device.
type DeviceCommand struct {
	Path    []string `json:"path"`
	Topic   string   `json:"topic"`
	State   string   `json:"state"`
	Tries   int      `json:"tries"`
	Message string   `json:"message"`
}

// Devices returns the devices of a thing.
func (c *Client) Devices(ctx context.Context, thing string) ([]Device, error) {
	var answer struct {
		Devices []Device `json:"devices"`
	}
	err := c.decode(ctx, call{method: http.MethodGet, path: "/v1/things/" + url.PathEscape(thing) + "/devices"}, &answer)
	for i := range answer.Devices {
		if d := &answer.Devices[i]; d.Commands == nil {
			d.Commands = []DeviceCommand{} // not null in JSON
		}
	}
	return answer.Devices, err
}

// Orphan is a retained message that a mapping would take, of a thing that there is not.
type Orphan struct {
	Topic   string `json:"topic"`
	Mapping string `json:"mapping"`
	Thing   string `json:"thing"`
}

// Orphans lists orphans, at most 1000.
func (c *Client) Orphans(ctx context.Context) ([]Orphan, error) {
	var answer struct {
		Orphans []Orphan `json:"orphans"`
	}
	err := c.decode(ctx, call{method: http.MethodGet, path: "/v1/mappings/orphans"}, &answer)
	return answer.Orphans, err
}

// ClearOrphan clears the retained message of a topic if it is an orphan still; else it is an *Error with status 404.
func (c *Client) ClearOrphan(ctx context.Context, topic string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/v1/mappings/orphans/" + url.PathEscape(topic)})
	return err
}

// StoredMapping is a mapping in the store.
type StoredMapping struct {
	Name     string   `json:"name"`
	Version  uint64   `json:"version"`
	Text     string   `json:"text"` // YAML
	Warnings []string `json:"warnings"`
}

// StoredMapping returns a mapping of the store. Its absence is an *Error with status 404.
func (c *Client) StoredMapping(ctx context.Context, name string) (*StoredMapping, error) {
	var m StoredMapping
	return &m, c.decode(ctx, call{method: http.MethodGet, path: mappingPath(name)}, &m)
}

// PutMapping stores a mapping in place of a version, 0 for none. With dryRun it is only checked.
func (c *Client) PutMapping(ctx context.Context, name, text string, version uint64, dryRun bool) (*StoredMapping, error) {
	r := call{method: http.MethodPut, path: mappingPath(name), body: []byte(text), header: ifVersion(version)}
	if version == 0 {
		r.header = http.Header{"If-None-Match": {"*"}}
	}
	if dryRun {
		r.query = url.Values{"dryRun": {""}}
	}
	var m StoredMapping
	return &m, c.decode(ctx, r, &m)
}

// DeleteMapping removes a mapping from the store, if its version is version (0: any).
func (c *Client) DeleteMapping(ctx context.Context, name string, version uint64) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: mappingPath(name), header: ifVersion(version)})
	return err
}

// WatchMappings says which events of mappings to stream.
type WatchMappings struct {
	Text  []byte        // mappings to try, YAML; nil for those in force
	Match string        // topic filter of the messages, "" for all
	All   bool          // also messages that no rule is about
	For   time.Duration // whole seconds; 0 until ctx ends
}

// WatchMappings calls fn for every event until the time is over, ctx ends or fn fails, and returns that error. The last
// event, when the time is over, is of type "summary", the others are of type "mapping".
func (c *Client) WatchMappings(ctx context.Context, w WatchMappings, fn func(Event) error) error {
	r := call{method: http.MethodGet, path: "/v1/mapping-events", query: url.Values{}, header: http.Header{"Accept": {"text/event-stream"}}}
	if w.Text != nil {
		r.method, r.body = http.MethodPost, w.Text
	}
	if w.Match != "" {
		r.query.Set("match", w.Match)
	}
	if w.All {
		r.query.Set("all", "true")
	}
	if w.For > 0 {
		r.query.Set("seconds", strconv.Itoa(int(w.For/time.Second)))
	}
	over := false
	s := &stream{client: c, request: func() call { return r }, fn: func(e Event) error {
		over = e.Type == "summary"
		return fn(e)
	}}
	err := s.run(ctx)
	if over && s.fnErr == nil {
		return nil
	}
	return err
}

// ifVersion is the header of what is to be done to one version only; 0: to any.
func ifVersion(version uint64) http.Header {
	if version == 0 {
		return nil
	}
	return http.Header{"If-Match": {strconv.Quote(strconv.FormatUint(version, 10))}}
}

func mappingPath(name string) string { return "/v1/mappings/" + url.PathEscape(name) }
