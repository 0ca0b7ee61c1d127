package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Policy describes a policy of the server.
type Policy struct {
	Name       string          `json:"name"`
	Origin     string          `json:"origin"` // "built-in", "file" or "store"
	Statements int             `json:"statements"`
	Targets    []string        `json:"targets"` // to whom it is attached
	Document   json.RawMessage `json:"document"`
	Warnings   []string        `json:"warnings"` // what is perhaps misspelt in the document
}

// Policies returns all policies without their documents.
func (c *Client) Policies(ctx context.Context) ([]Policy, error) {
	var list struct {
		Policies []Policy `json:"policies"`
	}
	return list.Policies, c.decode(ctx, call{method: http.MethodGet, path: "/v1/policies"}, &list)
}

// Policy returns a policy with its document.
func (c *Client) Policy(ctx context.Context, name string) (*Policy, error) {
	var p Policy
	return &p, c.decode(ctx, call{method: http.MethodGet, path: policyPath(name)}, &p)
}

// PutPolicy stores a policy document, and returns what the server makes of it. When a policy with this name is built in or
// comes from a file, and is not to be replaced, it is an *Error with status 409.
func (c *Client) PutPolicy(ctx context.Context, name string, doc []byte, replace bool) (*Policy, error) {
	var query url.Values
	if replace {
		query = url.Values{"replace": {"true"}}
	}
	var p Policy
	return &p, c.decode(ctx, call{method: http.MethodPut, path: policyPath(name), query: query, body: doc}, &p)
}

// DeletePolicy deletes a policy of the store.
func (c *Client) DeletePolicy(ctx context.Context, name string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: policyPath(name)})
	return err
}

// AttachPolicy attaches a policy to a target: the ID of a principal, "group:NAME", "kind:KIND".
func (c *Client) AttachPolicy(ctx context.Context, name, target string) error {
	_, err := c.do(ctx, call{method: http.MethodPut, path: policyPath(name) + "/targets/" + url.PathEscape(target)})
	return err
}

// DetachPolicy undoes AttachPolicy.
func (c *Client) DetachPolicy(ctx context.Context, name, target string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: policyPath(name) + "/targets/" + url.PathEscape(target)})
	return err
}

func policyPath(name string) string { return "/v1/policies/" + url.PathEscape(name) }

// PolicyQuestion asks whether somebody may do something.
type PolicyQuestion struct {
	Principal  string              `json:"principal"`
	Name       string              `json:"name,omitempty"`
	Groups     []string            `json:"groups,omitempty"`     // besides those of the credential
	Attributes map[string][]string `json:"attributes,omitempty"` // of the certificate, such as Subject.CommonName
	ClientID   string              `json:"clientId,omitempty"`   // over MQTT
	Persistent bool                `json:"persistent,omitempty"`
	WillTopic  string              `json:"willTopic,omitempty"`
	Remote     string              `json:"sourceIp,omitempty"`
	Secure     bool                `json:"secureTransport,omitempty"`
	Domain     string              `json:"domainName,omitempty"`
	Action     string              `json:"action"`
	Resource   string              `json:"resource"`
}

// PolicyAnswer is the answer to a PolicyQuestion.
type PolicyAnswer struct {
	Allowed  bool     `json:"allowed"`
	Reason   string   `json:"reason"`
	Policies []string `json:"policies"` // that count for the principal
	Unknown  bool     `json:"unknown"`  // the server has no such user, key or token
	Others   []struct {
		Policy    string `json:"policy"`
		Statement int    `json:"statement"`
		Effect    string `json:"effect"`
		Reason    string `json:"reason"`
	} `json:"others"` // statements that did not count
}

// TestPolicy asks whether somebody may do something. raw is the answer as it came.
func (c *Client) TestPolicy(ctx context.Context, q PolicyQuestion) (answer *PolicyAnswer, raw []byte, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, nil, fmt.Errorf("encode question: %w", err)
	}
	r := call{method: http.MethodPost, path: "/v1/policy-test", body: body}
	if raw, err = c.do(ctx, r); err != nil {
		return nil, nil, err
	}
	answer = new(PolicyAnswer)
	if err := json.Unmarshal(raw, answer); err != nil {
		return nil, nil, fmt.Errorf("%s answers %s with something that is not its API: %w", c.Server(), r.path, err)
	}
	return answer, raw, nil
}

// AuditRecord is one thing that somebody did or tried.
type AuditRecord struct {
	Time      time.Time `json:"time"`
	Principal string    `json:"principal"`
	Action    string    `json:"action"`
	Resource  string    `json:"resource"`
	Outcome   string    `json:"outcome"` // done, failed, denied or unauthenticated
	Detail    string    `json:"detail"`
	ClientID  string    `json:"clientId"`
	Remote    string    `json:"remote"`
	TraceID   string    `json:"traceId"`
}

// AuditQuery says which records are wanted. Empty strings are for all.
type AuditQuery struct {
	Limit     int    // at most so many, 1 to 1000
	Outcome   string // done, failed, denied or unauthenticated
	Principal string // ID, such as user:alice
	Action    string // such as umbra:PutPolicy
}

// Audit returns records, the latest first.
func (c *Client) Audit(ctx context.Context, q AuditQuery) ([]AuditRecord, error) {
	var list struct {
		Records []AuditRecord `json:"records"`
	}
	query := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	for name, value := range map[string]string{"outcome": q.Outcome, "principal": q.Principal, "action": q.Action} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return list.Records, c.decode(ctx, call{method: http.MethodGet, path: "/v1/audit", query: query}, &list)
}
