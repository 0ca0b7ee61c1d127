package rest

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// thingsPage is the page size of the list of things when a request names none, and the largest one.
const (
	thingsPage    = 100
	thingsPageMax = 1000
)

// parallelLists is how many things one request looks at at the same time.
const parallelLists = 8

// shadowInfo is a shadow in a list.
type shadowInfo struct {
	Name     string          `json:"name"`
	Version  uint64          `json:"version"`
	Modified int64           `json:"modified"` // ms since the epoch
	InSync   bool            `json:"inSync"`
	Document json.RawMessage `json:"document,omitempty"`
}

// thing is a thing with all its shadows.
type thing struct {
	Thing        string        `json:"thing"`
	Connectivity *connectivity `json:"connectivity,omitempty"` // nil when no presence is kept
	Shadows      []shadowInfo  `json:"shadows"`
}

func (a *api) listThings(w http.ResponseWriter, r *http.Request) error {
	size, err := intParam(r, "limit", 1, thingsPageMax, thingsPage)
	if err != nil {
		return err
	}
	after, err := pageParam(r, "page", tokenThings)
	if err != nil {
		return err
	}
	names, err := a.Things.Things(r.Context(), r.URL.Query().Get("prefix"), after, size+1)
	if err != nil {
		return err
	}
	names, last, more := page(names, size)
	answer := struct {
		Things   []thing `json:"things"`
		NextPage string  `json:"nextPage,omitempty"`
	}{}
	if answer.Things, err = a.describe(r.Context(), names); err != nil {
		return err
	}
	if more {
		answer.NextPage = pageToken(tokenThings, last)
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}

// describe lists the shadows of things, several at once since each takes some round trips to the store.
func (a *api) describe(ctx context.Context, names []string) ([]thing, error) {
	list := make([]thing, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelLists)
	for i, name := range names {
		g.Go(func() (err error) {
			list[i].Thing, list[i].Connectivity = name, a.connectivity(name)
			list[i].Shadows, err = a.shadows(ctx, name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	gone := func(t thing) bool { return len(t.Shadows) == 0 } // deleted since it was listed
	return slices.DeleteFunc(list, gone), nil
}

// shadows lists all shadows of a thing.
func (a *api) shadows(ctx context.Context, name string) ([]shadowInfo, error) {
	const size = 500
	var all []shadowInfo
	after, first := "", true
	for {
		list, err := a.Things.Shadows(ctx, name, after, first, size)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return all, nil
		}
		for _, s := range list {
			all = append(all, shadowInfo{Name: s.Name, Version: s.Version, Modified: s.Modified, InSync: s.InSync})
		}
		after, first = list[len(list)-1].Name, false
	}
}

// connectivity is what is known of the connection of a thing.
type connectivity struct {
	Connected bool   `json:"connected"`
	Since     int64  `json:"since,omitempty"`  // ms since the epoch; not there when the thing has never been seen
	Reason    string `json:"reason,omitempty"` // why the last connection ended, as in the event; not there while connected
}

// connectivity returns nil when no presence is kept.
func (a *api) connectivity(name string) *connectivity {
	if a.Presence == nil {
		return nil
	}
	c := connectivity(a.Presence(name))
	return &c
}

// appendConnectivity makes the connectivity of a thing a member of the document of one of its shadows.
func (a *api) appendConnectivity(doc []byte, name string) []byte {
	c := a.connectivity(name)
	if c == nil {
		return doc
	}
	member, err := json.Marshal(c)
	if err != nil {
		panic(err) // a bool, a number and a string
	}
	return slices.Concat(doc[:len(doc)-1], []byte(`,"connectivity":`), member, []byte("}"))
}

func (a *api) getThing(w http.ResponseWriter, r *http.Request) error {
	id := shadow.ID{Thing: r.PathValue("thing")}
	if err := id.Validate(); err != nil {
		return err
	}
	shadows, err := a.shadows(r.Context(), id.Thing)
	if err != nil {
		return err
	}
	answer := thing{Thing: id.Thing, Connectivity: a.connectivity(id.Thing)}
	for _, s := range shadows {
		id.Name = s.Name
		if !auth.Shown(rightsOf(r.Context()), auth.GetThingShadow, resourceOf(id)) {
			continue
		}
		doc, err := a.Things.Document(r.Context(), id)
		if err != nil {
			return err
		}
		if doc == nil {
			continue // deleted since it was listed
		}
		s.Version, s.InSync = doc.Version(), !doc.HasDelta()
		s.Document = doc.AppendGet(nil, a.Now().UnixMilli(), "")
		answer.Shadows = append(answer.Shadows, s)
	}
	if len(answer.Shadows) == 0 {
		return refusal(http.StatusNotFound, "No thing with a shadow exists with name: '%s'", id.Thing)
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}

func (a *api) getShadow(w http.ResponseWriter, r *http.Request) error {
	id, err := shadowID(r)
	if err != nil {
		return err
	}
	res, err := a.do(r, things.Request{ID: id, Op: shadow.OpGet})
	if err != nil {
		return err
	}
	w.Header().Set("ETag", entityTag(res.Version))
	// A header that makes no sense costs a full answer, no more.
	if tags, _ := tagsOf(r, "If-None-Match"); tags.matchWeakly(res.Version) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body := a.appendConnectivity(res.Body(), id.Thing)
	if p := r.URL.Query().Get("path"); p != "" {
		if body, err = project(body, p); err != nil {
			return err
		}
	}
	writeBody(w, http.StatusOK, contentJSON, body)
	return nil
}

// patchShadow takes an update document, or a merge patch of its state alone (RFC 7396).
func (a *api) patchShadow(w http.ResponseWriter, r *http.Request) error {
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "application/merge-patch+json" && json.Valid(body) {
		body = append(append([]byte(`{"state":`), body...), '}')
	}
	return a.change(w, r, things.Request{Op: shadow.OpUpdate, Payload: body})
}

func (a *api) deleteShadow(w http.ResponseWriter, r *http.Request) error {
	return a.change(w, r, things.Request{Op: shadow.OpDelete})
}

// change does an update or delete under the condition of If-Match and If-None-Match.
func (a *api) change(w http.ResponseWriter, r *http.Request, req things.Request) error {
	var err error
	if req.ID, err = shadowID(r); err != nil {
		return err
	}
	if req.If, err = condition(r); err != nil {
		return err
	}
	res, err := a.do(r, req)
	if err != nil {
		return err
	}
	if req.Op == shadow.OpUpdate {
		w.Header().Set("ETag", entityTag(res.Version))
	}
	writeBody(w, http.StatusOK, contentJSON, res.Body())
	return nil
}

// getDelta answers with the delta message as it would be sent now, or with nothing when in sync.
func (a *api) getDelta(w http.ResponseWriter, r *http.Request) error {
	id, err := shadowID(r)
	if err != nil {
		return err
	}
	doc, err := a.Things.Document(r.Context(), id)
	if err != nil {
		return err
	}
	if doc == nil {
		return shadow.NotFound(id, "")
	}
	w.Header().Set("ETag", entityTag(doc.Version()))
	if !doc.HasDelta() {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	writeBody(w, http.StatusOK, contentJSON, doc.AppendDeltaMessage(nil, a.Now().UnixMilli(), ""))
	return nil
}
