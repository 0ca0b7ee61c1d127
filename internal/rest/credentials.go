package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/objects"
)

// Kinds of credentials in paths, and their kinds of objects.
const (
	pathUsers  = "users"
	pathKeys   = "keys"
	pathTokens = "tokens"
)

// maxCredentials bounds a list.
const maxCredentials = 10_000

// credentialInfo describes a credential, without what proves it.
type credentialInfo struct {
	ID       string     `json:"id"`             // of a user his name
	Name     string     `json:"name,omitempty"` // of the principal, of keys and tokens
	Groups   []string   `json:"groups,omitempty"`
	Policies []string   `json:"policies,omitempty"`
	Scopes   []string   `json:"scopes,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	Modified int64      `json:"modified"` // ms since the epoch
	Author   string     `json:"author,omitempty"`
}

// credentialRequest is what a credential is to be.
type credentialRequest struct {
	Name     string     `json:"name"`     // of the principal, of keys and tokens
	Password *string    `json:"password"` // of a user; without it he keeps the one that he has
	Groups   *[]string  `json:"groups"`   // without them a user keeps those that he has
	Policies *[]string  `json:"policies"`
	Scopes   scopes     `json:"scopes"` // of a token
	Expires  *time.Time `json:"expires"`
}

// scopes are what a token is confined to, nil for everything.
type scopes []string

// UnmarshalJSON refuses an empty list, and null: who has filtered too much is not to get a token for everything.
func (s *scopes) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, (*[]string)(s)); err != nil {
		return errors.New("scopes is a list of strings")
	}
	if len(*s) == 0 {
		return errors.New("scopes has to list something; a token without it is not confined")
	}
	return nil
}

// fits refuses what a kind of objects does not have.
func (c *credentialRequest) fits(kind string) error {
	switch {
	case kind == "user" && c.Name != "":
		return refusal(http.StatusBadRequest, "A user has no name but that of the path")
	case kind != "user" && c.Password != nil:
		return refusal(http.StatusBadRequest, "Only a user has a password")
	case kind != "token" && c.Scopes != nil:
		return refusal(http.StatusBadRequest, "Only a token has scopes")
	}
	return nil
}

// made is a new key or token: the only time that its secret is shown.
type made struct {
	ID     string `json:"id"`
	Secret string `json:"secret"` // of a key; a token as it is sent
}

// objectKind returns the kind of objects of the request's path.
func (a *api) objectKind(r *http.Request) (string, error) {
	if a.Objects == nil || a.Sealer == nil {
		return "", refusal(http.StatusNotFound, "Authentication is not configured")
	}
	kind, ok := map[string]string{pathUsers: "user", pathKeys: "key", pathTokens: "token"}[r.PathValue("kind")]
	if !ok {
		return "", refusal(http.StatusNotFound, "No such kind of credentials: users, keys, tokens")
	}
	return kind, nil
}

func (a *api) listCredentials(w http.ResponseWriter, r *http.Request) error {
	kind, err := a.objectKind(r)
	if err != nil {
		return err
	}
	list, err := a.Objects.List(r.Context(), kind, "", maxCredentials)
	if err != nil {
		return err
	}
	answer := struct {
		Credentials []credentialInfo `json:"credentials"`
	}{make([]credentialInfo, 0, len(list))}
	for _, o := range list {
		info := credentialInfo{}
		if err := json.Unmarshal(o.Body, &info); err != nil {
			return err
		}
		info.ID, info.Modified, info.Author = o.Name, o.Modified, o.Author
		answer.Credentials = append(answer.Credentials, info)
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}

// readCredential reads the body of a request for a kind of objects.
func (a *api) readCredential(w http.ResponseWriter, r *http.Request, kind string) (c credentialRequest, err error) {
	body, err := a.readBody(w, r)
	if err != nil {
		return c, err
	}
	if len(body) > 0 {
		if err := decodeStrict(body, &c); err != nil {
			return c, refusal(http.StatusBadRequest, "The body is not what a credential is made from: %v", err)
		}
	}
	if c.Name != "" {
		if err := credential.CheckName(c.Name); err != nil {
			return c, refusal(http.StatusBadRequest, "name: %v", err)
		}
	}
	return c, c.fits(kind)
}

// grant changes what a credential brings.
func (c *credentialRequest) grant(g credential.Grant) credential.Grant {
	if c.Groups != nil {
		g.Groups = *c.Groups
	}
	if c.Policies != nil {
		g.Policies = *c.Policies
	}
	if c.Expires != nil {
		g.Expires = *c.Expires
	}
	return g
}

// putUser makes a user, or changes what the request has of him, if his version is one that If-Match and If-None-Match allow.
func (a *api) putUser(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.objectKind(r); err != nil {
		return err
	}
	name := r.PathValue("id")
	if r.PathValue("kind") != pathUsers {
		return refusal(http.StatusMethodNotAllowed, "Keys and tokens do not change: make new ones")
	}
	if err := credential.CheckName(name); err != nil {
		return refusal(http.StatusBadRequest, "%v", err)
	}
	c, err := a.readCredential(w, r, "user")
	if err != nil {
		return err
	}
	cond, err := condition(r)
	if err != nil {
		return err
	}
	var u credential.User
	old, err := a.Objects.Get(r.Context(), "user", name)
	switch {
	case err == nil:
		err = json.Unmarshal(old.Body, &u)
	case errors.Is(err, objects.ErrNotFound):
		err = nil
	}
	if err != nil {
		return err
	}
	if cond != nil && !cond(old.Version) {
		return refusal(http.StatusPreconditionFailed, "The version is %d", old.Version)
	}
	u.Grant = c.grant(u.Grant)
	if c.Password != nil {
		if err := u.SetPassword([]byte(*c.Password)); err != nil {
			return refusal(http.StatusBadRequest, "%v", err)
		}
	}
	if u.Hash == "" {
		return refusal(http.StatusBadRequest, "A new user needs a password")
	}
	if err := a.store(r, "user", name, u, old.Version); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// makeCredential makes a key or a token up.
func (a *api) makeCredential(w http.ResponseWriter, r *http.Request) error {
	kind, err := a.objectKind(r)
	if err != nil {
		return err
	}
	c, err := a.readCredential(w, r, kind)
	if err != nil {
		return err
	}
	var (
		answer made
		body   any
	)
	switch kind {
	case "key":
		id, key := credential.NewAccessKey(c.Name, c.grant(credential.Grant{}))
		answer = made{id, key.Secret}
		key.Sealed, key.Secret = a.Sealer.Seal(id, key.Secret), ""
		body = key
	case "token":
		id, text, token := credential.NewToken(c.Name, c.Scopes, c.grant(credential.Grant{}))
		answer, body = made{id, text}, token
	default:
		return refusal(http.StatusMethodNotAllowed, "Users have names: PUT /v1/credentials/users/NAME")
	}
	if err := a.store(r, kind, answer.ID, body, 0); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusCreated, contentJSON, answer)
	return nil
}

// store stores a credential in the place of a version, 0 for none.
func (a *api) store(r *http.Request, kind, name string, v any, version uint64) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = a.Objects.Put(r.Context(), objects.Object{Kind: kind, Name: name, Body: body}, version, auth.FromContext(r.Context()).String())
	if errors.Is(err, objects.ErrConflict) {
		return refusal(http.StatusConflict, "Somebody else has changed it at the same time")
	}
	return err
}

func (a *api) deleteCredential(w http.ResponseWriter, r *http.Request) error {
	kind, err := a.objectKind(r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	err = a.Objects.Delete(r.Context(), kind, id, objects.Any, auth.FromContext(r.Context()).String())
	if errors.Is(err, objects.ErrNotFound) || errors.Is(err, objects.ErrInvalid) {
		return refusal(http.StatusNotFound, "No such credential: '%s'", id)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
