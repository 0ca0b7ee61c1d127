package rest

import (
	_ "embed"
	"io/fs"
	"net/http"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/version"
	"github.com/umbra-iot/umbra/schemas"
)

//go:embed openapi.json
var openAPI []byte

func (a *api) getOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	writeBody(w, http.StatusOK, contentJSON, openAPI)
	return nil
}

func (a *api) getVersion(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, contentJSON, version.Get())
	return nil
}

// getWhoami says who makes the request, as the server sees it.
func (a *api) getWhoami(w http.ResponseWriter, r *http.Request) error {
	p := auth.FromContext(r.Context())
	if p == nil {
		p = auth.Nobody()
	}
	answer := struct {
		Principal string     `json:"principal"` // ID, "anonymous" for nobody
		Name      string     `json:"name,omitempty"`
		Groups    []string   `json:"groups,omitempty"`
		Policies  []string   `json:"policies,omitempty"` // that count for the principal
		Scopes    []string   `json:"scopes,omitempty"`
		Expires   *time.Time `json:"expires,omitempty"`
		Open      bool       `json:"open"` // whoever comes may do everything
	}{Principal: p.String(), Name: p.Name, Groups: p.Groups, Scopes: p.Scopes, Open: a.Rights == nil}
	if !answer.Open && a.Engine != nil {
		answer.Policies = a.Engine.Names(p)
	}
	if !p.Expires.IsZero() {
		answer.Expires = &p.Expires
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}

func (a *api) listSchemas(w http.ResponseWriter, _ *http.Request) error {
	answer := struct {
		Schemas []string `json:"schemas"`
	}{}
	for _, name := range schemas.Names() {
		answer.Schemas = append(answer.Schemas, schemas.Root+name+".json")
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}

func (a *api) getSchema(w http.ResponseWriter, r *http.Request) error {
	file := r.PathValue("file")
	body, err := fs.ReadFile(schemas.FS(), file)
	if err != nil {
		return refusal(http.StatusNotFound, "No schema exists with name: '%s'", file)
	}
	writeBody(w, http.StatusOK, "application/schema+json", body)
	return nil
}
