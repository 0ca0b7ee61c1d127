package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/internal/audit"
	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/auth/policy"
	"github.com/umbra-iot/umbra/internal/objects"
)

// auditPage is how many audit records an answer has when a request names no number, and auditPageMax the most.
const (
	auditPage    = 100
	auditPageMax = 1000
)

// policyRoutes are the operations that there are with an Engine.
func (a *api) policyRoutes() []Route {
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	routes := []Route{
		{get, "/v1/registry", "prefix limit page", false, a.listRegistry},
		{get, "/v1/registry/{thing}", "", false, a.getRegistered},
		{put, "/v1/registry/{thing}", "", false, a.putRegistered},
		{del, "/v1/registry/{thing}", "", false, a.deleteRegistered},
		{get, "/v1/policies", "", false, a.listPolicies},
		{get, "/v1/policies/{policy}", "", false, a.getPolicy},
		{put, "/v1/policies/{policy}", "replace", false, a.putPolicy},
		{del, "/v1/policies/{policy}", "", false, a.deletePolicy},
		{put, "/v1/policies/{policy}/targets/{target}", "", false, a.attachPolicy},
		{del, "/v1/policies/{policy}/targets/{target}", "", false, a.detachPolicy},
		{post, "/v1/policy-test", "", false, a.testPolicy},
		{get, "/v1/audit", "limit outcome principal action", false, a.listAudit},
	}
	for i, h := range routes {
		routes[i].handle = func(w http.ResponseWriter, r *http.Request) error {
			if a.Engine == nil {
				return notFound(w, r)
			}
			return h.handle(w, r)
		}
	}
	return routes
}

// record notes what an operator has done, or has tried to.
func (a *api) record(r *http.Request, action auth.Action, name string, err error) {
	rec := audit.Record{
		Principal: auth.FromContext(r.Context()).String(), Action: action.String(), Resource: action.Resource() + name,
		Outcome: audit.Done, Remote: r.RemoteAddr, TraceID: traceID(r),
	}
	if err != nil {
		rec.Outcome, rec.Detail = audit.Failed, explain(err).Message
	}
	a.Audit.Add(rec)
}

func (a *api) listPolicies(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, contentJSON, struct {
		Policies []authz.Info `json:"policies"`
	}{a.Engine.Policies()})
	return nil
}

func (a *api) getPolicy(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("policy")
	in, ok := a.Engine.Policy(name)
	if !ok {
		return refusal(http.StatusNotFound, "No policy exists with name: '%s'", name)
	}
	if o, err := a.Objects.Get(r.Context(), authz.KindPolicy, name); err == nil {
		w.Header().Set("ETag", entityTag(o.Version))
	}
	writeJSON(w, http.StatusOK, contentJSON, in)
	return nil
}

// putPolicy stores a policy document. It counts at once. It takes the place of one that is built in or comes from a file
// only if that is asked for: others may have it, or be without any but the default one.
func (a *api) putPolicy(w http.ResponseWriter, r *http.Request) (err error) {
	name := r.PathValue("policy")
	defer func() { a.record(r, auth.PutPolicy, name, err) }()
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	if !validPolicyName(name) {
		return refusal(http.StatusBadRequest, "Invalid policy name: 1 to 128 characters of a-z, A-Z, 0-9 and _+=,.@-")
	}
	if _, err := policy.Parse(name, body); err != nil {
		return refusal(http.StatusBadRequest, "%v", err)
	}
	replace, err := boolParam(r, "replace")
	if err != nil {
		return err
	}
	if in, ok := a.Engine.Policy(name); ok && in.Origin != "store" && !replace {
		return refusal(http.StatusConflict, "There is a policy with this name, whose origin is %s; set replace to put yours in its place", in.Origin)
	}
	expect, err := a.expected(r, authz.KindPolicy, name)
	if err != nil {
		return err
	}
	o, err := a.Objects.Put(r.Context(), objects.Object{Kind: authz.KindPolicy, Name: name, Body: body}, expect, author(r).Principal)
	if err != nil {
		return objectError(err)
	}
	in, _ := a.Engine.Policy(name)
	in.Warnings = authz.Doubts(body) // by the lines that the client knows
	w.Header().Set("ETag", entityTag(o.Version))
	writeJSON(w, http.StatusOK, contentJSON, in)
	return nil
}

// validPolicyName follows AWS, whose names have at most 128 characters of [\w+=,.@-].
func validPolicyName(name string) bool {
	const longest = 128
	other := func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune("_+=,.@-", c)
	}
	return name != "" && len(name) <= longest && !strings.ContainsFunc(name, other)
}

func (a *api) deletePolicy(w http.ResponseWriter, r *http.Request) (err error) {
	name := r.PathValue("policy")
	defer func() { a.record(r, auth.DeletePolicy, name, err) }()
	expect, err := a.expected(r, authz.KindPolicy, name)
	if err != nil {
		return err
	}
	if in, ok := a.Engine.Policy(name); ok && in.Origin != "store" {
		return refusal(http.StatusConflict, "The policy is not in the store: its origin is %s", in.Origin)
	} else if len(in.Targets) > 0 {
		return refusal(http.StatusConflict, "The policy is attached to %s", strings.Join(in.Targets, ", "))
	}
	if err := a.Objects.Delete(r.Context(), authz.KindPolicy, name, expect, author(r).Principal); err != nil {
		return objectError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// expected returns the version that a change is for, by If-Match and If-None-Match.
func (a *api) expected(r *http.Request, kind, name string) (uint64, error) {
	cond, err := condition(r)
	if err != nil || cond == nil {
		return objects.Any, err
	}
	o, err := a.Objects.Get(r.Context(), kind, name)
	if err != nil && !errors.Is(err, objects.ErrNotFound) {
		return 0, objectError(err)
	}
	if !cond(o.Version) {
		return 0, refusal(http.StatusPreconditionFailed, "The version is %d", o.Version)
	}
	return o.Version, nil
}

// objectError makes an error of package objects one for the client.
func objectError(err error) error {
	switch {
	case errors.Is(err, objects.ErrNotFound):
		return refusal(http.StatusNotFound, "%s", strings.TrimPrefix(err.Error(), "objects: "))
	case errors.Is(err, objects.ErrConflict):
		return refusal(http.StatusPreconditionFailed, "%s", strings.TrimPrefix(err.Error(), "objects: "))
	case errors.Is(err, objects.ErrInvalid):
		return refusal(http.StatusBadRequest, "%s", strings.TrimPrefix(err.Error(), "objects: "))
	}
	return err
}

func (a *api) attachPolicy(w http.ResponseWriter, r *http.Request) error {
	return a.attachment(w, r, func(names []string, name string) ([]string, error) {
		if err := authz.CheckTarget(r.PathValue("target")); err != nil {
			return nil, refusal(http.StatusBadRequest, "%s", strings.TrimPrefix(err.Error(), "authz: "))
		}
		if _, ok := a.Engine.Policy(name); !ok {
			return nil, refusal(http.StatusNotFound, "No policy exists with name: '%s'", name)
		}
		if slices.Contains(names, name) {
			return names, nil
		}
		return append(names, name), nil
	})
}

func (a *api) detachPolicy(w http.ResponseWriter, r *http.Request) error {
	return a.attachment(w, r, func(names []string, name string) ([]string, error) {
		if !slices.Contains(names, name) {
			return nil, refusal(http.StatusNotFound, "The policy is not attached to this target in the store")
		}
		return slices.DeleteFunc(names, func(n string) bool { return n == name }), nil
	})
}

// attachAttempts bounds how often an attachment is tried again after another one was faster.
const attachAttempts = 8

// attachment changes the names of the policies that are attached to a target.
func (a *api) attachment(w http.ResponseWriter, r *http.Request, change func(names []string, name string) ([]string, error)) (err error) {
	name, target := r.PathValue("policy"), r.PathValue("target")
	defer func() { a.recordAttachment(r, name, target, err) }()
	for range attachAttempts {
		err = a.changeAttachment(r, target, func(names []string) ([]string, error) { return change(names, name) })
		if !errors.Is(err, objects.ErrConflict) {
			break
		}
	}
	if err != nil {
		return objectError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) recordAttachment(r *http.Request, name, target string, err error) {
	verb := "attach to "
	if r.Method == http.MethodDelete {
		verb = "detach from "
	}
	rec := audit.Record{
		Principal: auth.FromContext(r.Context()).String(), Action: auth.AttachPolicy.String(), Resource: auth.AttachPolicy.Resource() + name,
		Outcome: audit.Done, Detail: verb + target, Remote: r.RemoteAddr, TraceID: traceID(r),
	}
	if err != nil {
		rec.Outcome, rec.Detail = audit.Failed, rec.Detail+": "+explain(err).Message
	}
	a.Audit.Add(rec)
}

func (a *api) changeAttachment(r *http.Request, target string, change func([]string) ([]string, error)) error {
	o, err := a.Objects.Get(r.Context(), authz.KindAttachment, target)
	if err != nil && !errors.Is(err, objects.ErrNotFound) {
		return err
	}
	var names []string
	if o.Version > 0 {
		if err := json.Unmarshal(o.Body, &names); err != nil {
			return err
		}
	}
	if names, err = change(names); err != nil {
		return err
	}
	by := author(r).Principal
	if len(names) == 0 {
		return a.Objects.Delete(r.Context(), authz.KindAttachment, target, o.Version, by)
	}
	body, err := json.Marshal(names)
	if err != nil {
		return err
	}
	_, err = a.Objects.Put(r.Context(), objects.Object{Kind: authz.KindAttachment, Name: target, Body: body}, o.Version, by)
	return err
}

func (a *api) listAudit(w http.ResponseWriter, r *http.Request) error {
	size, err := intParam(r, "limit", 1, auditPageMax, auditPage)
	if err != nil {
		return err
	}
	params := r.URL.Query()
	q := audit.Query{Limit: size, Outcome: params.Get("outcome"), Principal: params.Get("principal"), Action: params.Get("action")}
	if all := audit.Outcomes(); q.Outcome != "" && !slices.Contains(all, q.Outcome) {
		return refusal(http.StatusBadRequest, "outcome must be one of %s", strings.Join(all, ", "))
	}
	writeJSON(w, http.StatusOK, contentJSON, struct {
		Records []audit.Record `json:"records"` // the latest first
	}{append([]audit.Record{}, a.Audit.Recent(q)...)})
	return nil
}
