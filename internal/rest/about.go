package rest

import (
	_ "embed"
	"io/fs"
	"net/http"

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
