// Package client speaks Umbra's native HTTP API under /v1/. It carries no
// storage and no broker, so that a program which uses it starts at once.
//
// Documents are passed as the bytes that the server sent: a client that decoded
// and encoded them would change numbers and the order of members.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/shadow"
)

// DefaultServer is where umbrad listens unless it is told otherwise.
const DefaultServer = "http://127.0.0.1:8080"

// maxBody bounds what is read of one answer.
const maxBody = 64 << 20

// Options configure a Client. The zero value talks to DefaultServer.
type Options struct {
	Server    string        // base URL, default DefaultServer
	Timeout   time.Duration // of one request, and of the wait for a stream to begin; default 10 s
	Trace     io.Writer     // gets every exchange, text of others included as it is, but no secrets; nil for none
	UserAgent string

	Credentials Credentials // none by default
}

// Client sends requests to one server. It is safe for use by several goroutines.
type Client struct {
	base      *url.URL
	http      *http.Client
	timeout   time.Duration
	userAgent string
	who       Credentials
}

// New returns a client. The server URL must be http or https and have a host.
func New(o Options) (*Client, error) {
	if o.Server == "" {
		o.Server = DefaultServer
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	base, err := ParseServer(o.Server)
	if err != nil {
		return nil, err
	}
	if err := o.Credentials.check(); err != nil {
		return nil, err
	}
	tlsConfig, err := o.Credentials.tls()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		TLSClientConfig:       tlsConfig,
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: o.Timeout}).DialContext,
		TLSHandshakeTimeout:   o.Timeout,
		ResponseHeaderTimeout: o.Timeout,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
	}
	c := &Client{base: base, http: &http.Client{Transport: transport}, timeout: o.Timeout, userAgent: o.UserAgent, who: o.Credentials}
	if o.Trace != nil {
		c.http.Transport = &tracer{next: transport, out: o.Trace}
	}
	return c, nil
}

// ParseServer checks the URL of a server: http or https, with a host.
func ParseServer(server string) (*url.URL, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("server %q is not a URL: want http://HOST:PORT", server)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("server %q: want http://HOST:PORT or https://HOST:PORT", u.Redacted())
	}
	return u, nil
}

// Server returns the address of the server without its password.
func (c *Client) Server() string { return c.base.Redacted() }

// Shadow returns the document of one shadow. The shadow's absence is an *Error with status 404.
func (c *Client) Shadow(ctx context.Context, id shadow.ID) ([]byte, error) {
	return c.do(ctx, call{method: http.MethodGet, path: shadowPath(id, "shadow"), query: nameQuery(id)})
}

// Update sends an update document and returns the accepted one.
func (c *Client) Update(ctx context.Context, id shadow.ID, doc []byte) ([]byte, error) {
	return c.do(ctx, call{method: http.MethodPatch, path: shadowPath(id, "shadow"), query: nameQuery(id), body: doc})
}

// Delete deletes one shadow, if its version is version (0: any), and returns the accepted document.
func (c *Client) Delete(ctx context.Context, id shadow.ID, version uint64) ([]byte, error) {
	return c.do(ctx, call{method: http.MethodDelete, path: shadowPath(id, "shadow"), query: nameQuery(id), header: ifVersion(version)})
}

// Delta returns the delta message of one shadow, nil when it is in sync.
func (c *Client) Delta(ctx context.Context, id shadow.ID) ([]byte, error) {
	return c.do(ctx, call{method: http.MethodGet, path: shadowPath(id, "delta"), query: nameQuery(id)})
}

// ShadowInfo describes a shadow in a list.
type ShadowInfo struct {
	Name     string `json:"name"` // "" is the classic one
	Version  uint64 `json:"version"`
	Modified int64  `json:"modified"` // ms since the epoch
	InSync   bool   `json:"inSync"`
}

// ThingInfo is a thing with its shadows.
type ThingInfo struct {
	Thing        string        `json:"thing"`
	Connectivity *Connectivity `json:"connectivity"` // nil when the server keeps no presence
	Shadows      []ShadowInfo  `json:"shadows"`
}

// Connectivity is what is known of the connection of a thing.
type Connectivity struct {
	Connected bool   `json:"connected"`
	Since     int64  `json:"since,omitempty"`  // ms since the epoch, 0 when the thing has never been seen
	Reason    string `json:"reason,omitempty"` // why the last connection ended, "" while connected
}

// Page is a part of the list of things.
type Page struct {
	Things []ThingInfo `json:"things"`
	Next   string      `json:"nextPage"` // token of the page after this one, "" at the end
}

// Things returns a page of the things whose names begin with prefix. page is "" for the first one.
func (c *Client) Things(ctx context.Context, prefix, page string, limit int) (*Page, error) {
	query := url.Values{}
	for key, value := range map[string]string{"prefix": prefix, "page": page} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	var p Page
	return &p, c.decode(ctx, call{method: http.MethodGet, path: "/v1/things", query: query}, &p)
}

// Thing returns one thing with all its shadows. A thing without any is an *Error with status 404.
func (c *Client) Thing(ctx context.Context, thing string) (*ThingInfo, error) {
	var t ThingInfo
	return &t, c.decode(ctx, call{method: http.MethodGet, path: "/v1/things/" + url.PathEscape(thing)}, &t)
}

// Whoami returns what the server says of who asks.
func (c *Client) Whoami(ctx context.Context) ([]byte, error) {
	return c.do(ctx, call{method: http.MethodGet, path: "/v1/whoami"})
}

// Version returns what the server says of its build.
func (c *Client) Version(ctx context.Context) ([]byte, error) {
	return c.do(ctx, call{method: http.MethodGet, path: "/v1/version"})
}

// call is one request.
type call struct {
	method, path string // path is escaped
	query        url.Values
	header       http.Header
	body         []byte
	secret       bool // the bodies of request and answer are not shown
}

func shadowPath(id shadow.ID, resource string) string {
	return "/v1/things/" + url.PathEscape(id.Thing) + "/" + resource
}

func nameQuery(id shadow.ID) url.Values {
	if id.Name == "" {
		return nil
	}
	return url.Values{"name": {id.Name}}
}

func (c *Client) decode(ctx context.Context, r call, into any) error {
	body, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s answers %s %s with something that is not its API: %w", c.Server(), r.method, r.path, err)
	}
	return nil
}

// do sends a request and returns the body of a 2xx answer.
func (c *Client) do(ctx context.Context, r call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return body, nil
}

// send returns the answer when its status is 2xx. The caller closes its body.
func (c *Client) send(ctx context.Context, r call) (*http.Response, error) {
	if r.secret {
		ctx = withSecretBody(ctx)
	}
	u := *c.base
	u.Path, u.RawPath = "", ""
	target := u.String() + strings.TrimSuffix(c.base.EscapedPath(), "/") + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if r.header != nil {
		req.Header = r.header
	}
	req.Header.Set("User-Agent", c.userAgent)
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c.who.apply(req, r.body, time.Now())
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("request to %s given up: %w", c.Server(), cause)
	}
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err // its text repeats the whole URL
	}
	return &UnreachableError{Server: c.Server(), Err: err}
}
