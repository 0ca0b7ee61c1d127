package rest

import (
	"net/http"
	"strings"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/mappings"
	"github.com/umbra-iot/umbra/internal/objects"
)

// storedMapping is a mapping of the store as clients see it.
type storedMapping struct {
	Name     string   `json:"name"`
	Version  uint64   `json:"version"`            // 0 when nothing was stored
	Modified int64    `json:"modified,omitempty"` // ms since the epoch
	Author   string   `json:"author,omitempty"`
	Text     string   `json:"text"` // YAML
	Warnings []string `json:"warnings,omitempty"`
}

// mappingRoutes are the operations on mappings of the store.
func (a *api) mappingRoutes() []Route {
	routes := []Route{
		{http.MethodGet, "/v1/mappings/{mapping}", "", false, a.getMapping},
		{http.MethodPut, "/v1/mappings/{mapping}", "dryRun", false, a.putMapping},
		{http.MethodDelete, "/v1/mappings/{mapping}", "", false, a.deleteMapping},
	}
	for i, h := range routes {
		routes[i].handle = func(w http.ResponseWriter, r *http.Request) error {
			if a.Mappings == nil {
				return notFound(w, r)
			}
			return h.handle(w, r)
		}
	}
	return routes
}

func (a *api) getMapping(w http.ResponseWriter, r *http.Request) error {
	o, err := a.Objects.Get(r.Context(), mappings.Kind, r.PathValue("mapping"))
	if err != nil {
		return objectError(err)
	}
	text, err := mappings.Text(o)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", entityTag(o.Version))
	writeJSON(w, http.StatusOK, contentJSON, storedMapping{Name: o.Name, Version: o.Version, Modified: o.Modified, Author: o.Author, Text: text})
	return nil
}

// putMapping stores a mapping. It counts at once. With dryRun it is only checked.
func (a *api) putMapping(w http.ResponseWriter, r *http.Request) (err error) {
	name := r.PathValue("mapping")
	dry := r.URL.Query().Has("dryRun")
	defer func() {
		if !dry {
			a.record(r, auth.Administer, "mapping/"+name, err)
		}
	}()
	text, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	warnings, err := a.Mappings.Check(name, text)
	if err != nil {
		return refusal(http.StatusBadRequest, "%s", strings.TrimPrefix(err.Error(), "mappings: "))
	}
	expect, err := a.expected(r, mappings.Kind, name)
	if err != nil {
		return err
	}
	out := storedMapping{Name: name, Text: string(text)}
	for _, d := range warnings {
		out.Warnings = append(out.Warnings, d.Error())
	}
	if !dry {
		body, err := mappings.Body(text)
		if err != nil {
			return err
		}
		o, err := a.Objects.Put(r.Context(), objects.Object{Kind: mappings.Kind, Name: name, Body: body}, expect, author(r).Principal)
		if err != nil {
			return objectError(err)
		}
		out.Version, out.Modified, out.Author = o.Version, o.Modified, o.Author
		w.Header().Set("ETag", entityTag(o.Version))
	}
	writeJSON(w, http.StatusOK, contentJSON, out)
	return nil
}

func (a *api) deleteMapping(w http.ResponseWriter, r *http.Request) (err error) {
	name := r.PathValue("mapping")
	defer func() { a.record(r, auth.Administer, "mapping/"+name, err) }()
	expect, err := a.expected(r, mappings.Kind, name)
	if err != nil {
		return err
	}
	if err := a.Objects.Delete(r.Context(), mappings.Kind, name, expect, author(r).Principal); err != nil {
		return objectError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
