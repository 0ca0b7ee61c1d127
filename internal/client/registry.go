package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// RegisteredThing is a thing that policies know something of.
type RegisteredThing struct {
	Name       string            `json:"thing,omitempty"`
	Origin     string            `json:"origin,omitempty"` // "file" or "store"
	Type       string            `json:"type,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Principals []string          `json:"principals,omitempty"` // IDs and groups
}

// RegisteredThings returns all registered things whose names begin with a prefix, by name.
func (c *Client) RegisteredThings(ctx context.Context, prefix string) ([]RegisteredThing, error) {
	var all []RegisteredThing
	query := url.Values{"prefix": {prefix}, "limit": {"1000"}}
	for {
		var page struct {
			Things   []RegisteredThing `json:"things"`
			NextPage string            `json:"nextPage"`
		}
		if err := c.decode(ctx, call{method: http.MethodGet, path: "/v1/registry", query: query}, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Things...)
		if page.NextPage == "" {
			return all, nil
		}
		query.Set("page", page.NextPage)
	}
}

// PutRegisteredThing registers a thing, or says anew what it is, and returns it. Name says which; Origin is left out.
func (c *Client) PutRegisteredThing(ctx context.Context, t RegisteredThing) (*RegisteredThing, error) {
	name := t.Name
	t.Name, t.Origin = "", ""
	body, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode thing: %w", err)
	}
	var stored RegisteredThing
	return &stored, c.decode(ctx, call{method: http.MethodPut, path: registryPath(name), body: body}, &stored)
}

// DeleteRegisteredThing removes a registered thing of the store.
func (c *Client) DeleteRegisteredThing(ctx context.Context, name string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: registryPath(name)})
	return err
}

func registryPath(name string) string { return "/v1/registry/" + url.PathEscape(name) }
