package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/objects"
)

func (a *api) listRegistry(w http.ResponseWriter, r *http.Request) error {
	size, err := intParam(r, "limit", 1, thingsPageMax, thingsPage)
	if err != nil {
		return err
	}
	after, err := pageParam(r, "page", tokenRegistry)
	if err != nil {
		return err
	}
	list, last, more := page(a.Engine.Things(r.URL.Query().Get("prefix"), after, size+1), size)
	answer := struct {
		Things   []authz.ThingInfo `json:"things"`
		NextPage string            `json:"nextPage,omitempty"`
	}{Things: list}
	if more {
		answer.NextPage = pageToken(tokenRegistry, last.Name)
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}

func (a *api) getRegistered(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("thing")
	t, ok := a.Engine.Thing(name)
	if !ok {
		return refusal(http.StatusNotFound, "No thing is registered with name: '%s'", name)
	}
	if o, err := a.Objects.Get(r.Context(), authz.KindThing, name); err == nil {
		w.Header().Set("ETag", entityTag(o.Version))
	}
	writeJSON(w, http.StatusOK, contentJSON, t)
	return nil
}

// putRegistered registers a thing, or says anew what it is. What is so already is not stored again.
func (a *api) putRegistered(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("thing")
	text, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	if err := authz.CheckThingName(name); err != nil {
		return registryError(err)
	}
	t, err := authz.DecodeThing(text)
	if err != nil {
		return registryError(err)
	}
	expect, err := a.expected(r, authz.KindThing, name)
	if err != nil {
		return err
	}
	body, err := json.Marshal(t)
	if err != nil {
		return err
	}
	old, err := a.Objects.Get(r.Context(), authz.KindThing, name)
	if err != nil && !errors.Is(err, objects.ErrNotFound) {
		return objectError(err)
	}
	if string(old.Body) != string(body) {
		o := objects.Object{Kind: authz.KindThing, Name: name, Body: body}
		if old, err = a.Objects.Put(r.Context(), o, expect, author(r).Principal); err != nil {
			return objectError(err)
		}
	}
	w.Header().Set("ETag", entityTag(old.Version))
	writeJSON(w, http.StatusOK, contentJSON, authz.ThingInfo{Name: name, Origin: "store", Thing: t})
	return nil
}

func (a *api) deleteRegistered(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("thing")
	expect, err := a.expected(r, authz.KindThing, name)
	if err != nil {
		return err
	}
	if t, ok := a.Engine.Thing(name); ok && t.Origin != "store" {
		return refusal(http.StatusConflict, "The thing is not in the store: its origin is %s", t.Origin)
	}
	if err := a.Objects.Delete(r.Context(), authz.KindThing, name, expect, author(r).Principal); err != nil {
		return objectError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// registryError is what a client is told of a thing that cannot be registered.
func registryError(err error) error {
	return refusal(http.StatusBadRequest, "%s", strings.ReplaceAll(err.Error(), "authz: ", ""))
}
