package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Credential describes a user, key or token of the server, without what proves it.
type Credential struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Groups   []string  `json:"groups"`
	Policies []string  `json:"policies"`
	Scopes   []string  `json:"scopes"`
	Expires  time.Time `json:"expires"`
	Modified int64     `json:"modified"` // ms since the epoch
}

// CredentialRequest is what a credential is to be. What is nil or empty a user keeps.
type CredentialRequest struct {
	Name     string    `json:"name,omitempty"`
	Password string    `json:"password,omitempty"`
	Groups   []string  `json:"groups,omitempty"`
	Policies []string  `json:"policies,omitempty"`
	Scopes   []string  `json:"scopes,omitzero"` // nil does not confine a token; an empty list is refused
	Expires  time.Time `json:"expires,omitzero"`
}

// Credentials returns those of a kind: "users", "keys" or "tokens".
func (c *Client) Credentials(ctx context.Context, kind string) ([]Credential, error) {
	var list struct {
		Credentials []Credential `json:"credentials"`
	}
	return list.Credentials, c.decode(ctx, call{method: http.MethodGet, path: credentialPath(kind, "")}, &list)
}

// AddUser makes a user. When there is one with the name it changes nothing, and its error is an *Error with status 412.
func (c *Client) AddUser(ctx context.Context, name string, r CredentialRequest) error {
	return c.putUser(ctx, name, r, http.Header{"If-None-Match": {"*"}})
}

// PutUser makes or changes a user.
func (c *Client) PutUser(ctx context.Context, name string, r CredentialRequest) error {
	return c.putUser(ctx, name, r, nil)
}

func (c *Client) putUser(ctx context.Context, name string, r CredentialRequest, header http.Header) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode user: %w", err)
	}
	_, err = c.do(ctx, call{method: http.MethodPut, path: credentialPath("users", name), header: header, body: body, secret: true})
	return err
}

// MakeCredential makes up a key or a token and returns its id and its secret.
func (c *Client) MakeCredential(ctx context.Context, kind string, r CredentialRequest) (id, secret string, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return "", "", fmt.Errorf("encode request: %w", err)
	}
	var made struct{ ID, Secret string }
	err = c.decode(ctx, call{method: http.MethodPost, path: credentialPath(kind, ""), body: body, secret: true}, &made)
	return made.ID, made.Secret, err
}

// DeleteCredential removes a credential.
func (c *Client) DeleteCredential(ctx context.Context, kind, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: credentialPath(kind, id)})
	return err
}

func credentialPath(kind, id string) string {
	path := "/v1/credentials/" + kind
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	return path
}
