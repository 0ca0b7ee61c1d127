package rest

import (
	"net/http"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// listPage is the page size when a request names none, and the largest one that AWS takes.
const (
	listPage    = 25
	listPageMax = 100
)

// do has the service answer a request on a shadow. The outcome goes to the client alone when it is a
// refusal or a document that was asked for.
func (a *api) do(r *http.Request, req things.Request) (*things.Result, error) {
	req.Author, req.Quiet = author(r), true
	res := a.Things.Do(r.Context(), req)
	if res.Err != nil {
		return nil, res.Err
	}
	return res, nil
}

func (a *api) getThingShadow(w http.ResponseWriter, r *http.Request) error {
	return a.shadowRequest(w, r, shadow.OpGet, nil)
}

func (a *api) updateThingShadow(w http.ResponseWriter, r *http.Request) error {
	payload, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	return a.shadowRequest(w, r, shadow.OpUpdate, payload)
}

func (a *api) deleteThingShadow(w http.ResponseWriter, r *http.Request) error {
	return a.shadowRequest(w, r, shadow.OpDelete, nil)
}

func (a *api) shadowRequest(w http.ResponseWriter, r *http.Request, op shadow.Op, payload []byte) error {
	id, err := shadowID(r)
	if err != nil {
		return err
	}
	res, err := a.do(r, things.Request{ID: id, Op: op, Payload: payload})
	if err != nil {
		return err
	}
	writeBody(w, http.StatusOK, contentJSON, res.Body())
	return nil
}

// listNamedShadows is ListNamedShadowsForThing. It does not tell a thing without named shadows from
// one that does not exist.
func (a *api) listNamedShadows(w http.ResponseWriter, r *http.Request) error {
	id := shadow.ID{Thing: r.PathValue("thing")}
	if err := id.Validate(); err != nil {
		return err
	}
	size, err := intParam(r, "pageSize", 1, listPageMax, listPage)
	if err != nil {
		return err
	}
	after, err := pageParam(r, "nextToken", tokenShadows)
	if err != nil {
		return err
	}
	names, err := a.Things.Names(r.Context(), id.Thing, after, size+1)
	if err != nil {
		return err
	}
	answer := struct {
		Results   []string `json:"results"`
		NextToken string   `json:"nextToken,omitempty"`
		Timestamp int64    `json:"timestamp"`
	}{Timestamp: a.Now().Unix()}
	var last string
	var more bool
	if answer.Results, last, more = page(names, size); more {
		answer.NextToken = pageToken(tokenShadows, last)
	}
	if answer.Results == nil {
		answer.Results = []string{}
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}
