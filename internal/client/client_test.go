package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/shadow"
)

func newClient(t *testing.T, o client.Options, h http.HandlerFunc) *client.Client {
	t.Helper()
	if h != nil {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		o.Server = s.URL + o.Server
	}
	c, err := client.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return c
}

func TestRequests(t *testing.T) {
	t.Parallel()
	named := shadow.ID{Thing: "a:b", Name: "$x"}
	ctx := t.Context()
	tests := map[string]struct {
		call func(*client.Client) error
		want string
	}{
		"GET /base/v1/things/lamp/shadow": {call: func(c *client.Client) error {
			_, err := c.Shadow(ctx, shadow.ID{Thing: "lamp"})
			return err
		}},
		"PATCH /base/v1/things/a:b/shadow?name=%24x {}": {call: func(c *client.Client) error {
			_, err := c.Update(ctx, named, []byte("{}"))
			return err
		}},
		`DELETE /base/v1/things/a:b/shadow?name=%24x If-Match "7"`: {call: func(c *client.Client) error {
			_, err := c.Delete(ctx, named, 7)
			return err
		}},
		"GET /base/v1/things/a:b/delta?name=%24x": {call: func(c *client.Client) error {
			_, err := c.Delta(ctx, named)
			return err
		}},
		"GET /base/v1/things?limit=3&page=p%3D&prefix=la": {call: func(c *client.Client) error {
			_, err := c.Things(ctx, "la", "p=", 3)
			return err
		}},
		"GET /base/v1/things/lamp": {call: func(c *client.Client) error {
			_, err := c.Thing(ctx, "lamp")
			return err
		}},
	}
	for want, tt := range tests {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var got string
			c := newClient(t, client.Options{Server: "/base/"}, func(w http.ResponseWriter, r *http.Request) {
				got = r.Method + " " + r.URL.RequestURI()
				if m := r.Header.Get("If-Match"); m != "" {
					got += " If-Match " + m
				}
				body := make([]byte, 10)
				if n, _ := r.Body.Read(body); n > 0 {
					got += " " + string(body[:n])
				}
				_, _ = w.Write([]byte("{}"))
			})
			if err := tt.call(c); err != nil || got != want {
				t.Errorf("request = %q (%v), want %q", got, err, want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		body   string
		want   string
	}{
		{404, `{"title":"Not Found","detail":"no such shadow","traceId":"t"}`, "no such shadow"},
		{409, `{"message":"Version conflict","traceId":"t"}`, "Version conflict"},
		{502, `<html>`, "bad gateway"},
		{599, ``, "HTTP status 599"},
	}
	for _, tt := range tests {
		c := newClient(t, client.Options{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte(tt.body))
		})
		_, err := c.Version(t.Context())
		refusal, ok := errors.AsType[*client.Error](err)
		if !ok || refusal.Status != tt.status || refusal.Error() != tt.want {
			t.Errorf("answer %d %s: error %v, want status %d, %q", tt.status, tt.body, err, tt.status, tt.want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := newClient(t, client.Options{Server: "http://user:hidden@" + l.Addr().String()}, nil)
	_, err = c.Version(t.Context())
	if e, ok := errors.AsType[*client.UnreachableError](err); !ok || e.Timeout() || strings.Contains(e.Error(), "hidden") {
		t.Errorf("nobody listens: error %v, want an UnreachableError without password", err)
	}

	c = newClient(t, client.Options{Timeout: 20 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	_, err = c.Version(t.Context())
	if e, ok := errors.AsType[*client.UnreachableError](err); !ok || !e.Timeout() {
		t.Errorf("silent server: error %v, want a timeout", err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := c.Version(ctx); !errors.Is(err, cause) {
		t.Errorf("context ended: error %v, want its cause", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"127.0.0.1:8080", "ftp://host", "http://", "host", "http://a b"} {
		if _, err := client.New(client.Options{Server: server}); err == nil {
			t.Errorf("New(%q) = nil error, want one", server)
		}
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	var trace strings.Builder
	c := newClient(t, client.Options{Trace: &trace, UserAgent: "test"}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		w.Header().Set("Set-Cookie", "secret")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("{\n}"))
	})
	if _, err := c.Update(t.Context(), shadow.ID{Thing: "lamp"}, []byte(`{"state":null}`)); err != nil {
		t.Fatal(err)
	}
	want := "> PATCH " + c.Server() + `/v1/things/lamp/shadow
> Content-Type: application/json
> User-Agent: test
> {"state":null}
< HTTP/1.1 200 OK
< Content-Length: 3
< Content-Type: text/plain; charset=utf-8
< Set-Cookie: [hidden]
< {
< }
`
	if got := trace.String(); got != want {
		t.Errorf("trace = %s\nwant %s", got, want)
	}
}

// Nothing that proves who somebody is is in a trace, whichever way it is shown and wherever a server sends the client.
func TestTraceHasNoSecrets(t *testing.T) {
	t.Parallel()
	const secret = "hidden0"
	for name, who := range map[string]client.Credentials{
		"basic": {User: "root", Password: secret}, "bearer": {Token: secret},
		"signature": {AccessKey: "AKIA", SecretKey: "x", SessionToken: secret},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var trace strings.Builder
			c := newClient(t, client.Options{Trace: &trace, Credentials: who}, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.RawQuery != "":
					_, _ = w.Write([]byte("{}"))
				case r.Method == http.MethodGet:
					target := "http://user:" + secret + "@" + r.Host + "/else?a=1&X-Amz-Signature=" + secret + "&x-amz-security-token=" + secret + "&b=2"
					http.Redirect(w, r, target, http.StatusTemporaryRedirect)
				default:
					_, _ = w.Write([]byte(`{"id":"k","secret":"` + secret + `"}`))
				}
			})
			_, err := c.Version(t.Context())
			_, made, err2 := c.MakeCredential(t.Context(), "keys", client.CredentialRequest{Name: "k"})
			err3 := c.PutUser(t.Context(), "bob", client.CredentialRequest{Password: secret})
			if err := errors.Join(err, err2, err3); err != nil || made != secret {
				t.Fatal(made, err)
			}
			got := trace.String()
			if strings.Contains(got, secret) || strings.Contains(got, "Credential=") {
				t.Errorf("a secret is in the trace:\n%s", got)
			}
			for _, part := range []string{"> Authorization: [hidden]", "/else?a=1&X-Amz-Signature=[hidden]&x-amz-security-token=[hidden]&b=2", "/v1/credentials/users/bob", "> [hidden]", "< [hidden]"} {
				if !strings.Contains(got, part) {
					t.Errorf("the trace lacks %q:\n%s", part, got)
				}
			}
		})
	}
}
