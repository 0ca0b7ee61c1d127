package authn_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authn"
	"github.com/umbra-iot/umbra/internal/auth/sigv4"
)

// Guesses are all counted; the log gets some of each address, some in all, and how many it did not get.
func TestFailedLoginsDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var log bytes.Buffer
	a := authn.New(authn.Options{
		Methods: methods(), Directory: directory(t, write(t).file), Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	guess := func(from netip.Addr) {
		t.Helper()
		shown := &auth.Credentials{Listener: "keys", ClientID: "c", Username: "alice", Password: []byte("guess"), HasPassword: true, Remote: from}
		if _, err := a.Authenticate(t.Context(), shown); err == nil {
			t.Fatal("a guess gets in")
		}
	}
	lines := func() int { return strings.Count(log.String(), "login failed") }

	one := netip.MustParseAddr("192.0.2.1")
	for range 1000 {
		guess(one)
	}
	if n := lines(); n != 5 {
		t.Errorf("a thousand guesses of one address are %d lines, want 5", n)
	}
	for _, tt := range []struct {
		first string
		want  int
	}{{"2001:db8::1", 10}, {"10.0.0.1", 100}} {
		addr := netip.MustParseAddr(tt.first)
		for range 1000 {
			addr = addr.Next()
			guess(addr)
		}
		if n := lines(); n != tt.want {
			t.Errorf("with those of a thousand addresses after %s there are %d lines, want %d", tt.first, n, tt.want)
		}
	}
	now = now.Add(10 * time.Second)
	guess(one)
	if !strings.Contains(log.String(), "not_logged_before=995\n") || !strings.Contains(log.String(), "not_logged_before=910\n") {
		t.Errorf("the log does not tell of what it left out:\n%s", log.String())
	}
	if strings.Contains(log.String(), "guess") {
		t.Error("a password is in the log")
	}
	if _, err := a.Request(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x?secret=1", http.NoBody), "keys", nil); err == nil || strings.Contains(log.String(), "secret") {
		t.Errorf("a request: %v", err)
	}
	if got, want := a.Failures(), (authn.Failures{None: 1, Denied: 3001}); got != want {
		t.Errorf("Failures() = %+v, want %+v", got, want)
	}
}

// Of each failed login it is told who somebody claims to be, how and why not, and nothing of what was to prove it.
func TestFailedLoginsAreTold(t *testing.T) {
	t.Parallel()
	c, i := write(t), newIssuer(t)
	jwts, err := authn.NewJWTs(authn.JWTOptions{Keys: i.URL, Issuer: "https://issuer", Audience: "umbra"})
	if err != nil {
		t.Fatal(err)
	}
	i.Close()
	var (
		log   bytes.Buffer
		tried []authn.Attempt
	)
	a := authn.New(authn.Options{
		Methods: methods(), Directory: directory(t, c.file), Log: slog.New(slog.NewTextHandler(&log, nil)), JWT: jwts,
		Webhook: authn.NewWebhooks(authn.WebhookOptions{URL: i.URL + "/?key=hidden"}),
		Failed:  func(_ context.Context, a authn.Attempt) { tried = append(tried, a) },
	})
	secret := func(name, text string) *auth.Credentials {
		return &auth.Credentials{Listener: everything, ClientID: "c", Username: name, Password: []byte(text), HasPassword: true, Remote: netip.MustParseAddr("192.0.2.1")}
	}
	lamp := &auth.Principal{ID: "cert:1", Kind: auth.Certificate, Name: "lamp"}
	gone := &auth.Principal{ID: "key:1", Kind: auth.AccessKey, Standing: func() auth.Standing { return auth.Withdrawn }}
	foreign := i.sign(t, i.key, jose.ES256, "k1", map[string]any{"iss": "https://issuer", "sub": "lamp"})
	local := secret("bob", "hidden")
	local.Listener = "local"
	for _, tt := range []struct {
		in                     *auth.Credentials
		principal, method, why string
	}{
		{&auth.Credentials{Listener: everything}, "anonymous", "", "nothing was shown that counts here"},
		{&auth.Credentials{Listener: "local", Username: "bob"}, "user:bob", "", "nothing was shown that counts here"},
		{&auth.Credentials{Listener: "local", Peer: lamp}, "cert:1", "certificate", "nothing was shown that counts here"},
		{&auth.Credentials{Listener: everything, Peer: gone}, "key:1", "key", "key: what the connection began with does not count any more"},
		{secret("alice", "hidden"), "user:alice", "password", "password: wrong password"},
		{local, "user:bob", "password", "password: user is not known or expired"},
		{secret("", c.token+"hidden"), "token:" + c.tokenID, "token", "token: token is not known, expired or wrong"},
		{secret("", "umbra_0123456789abcdef_hidden"), "token:0123456789abcdef", "token", "token: token is not known, expired or wrong"},
		{secret("x", "umbra_hidden_word"), "anonymous", "token", "token: token is not known, expired or wrong"},
		{&auth.Credentials{Listener: "local", Username: "umbra_0123456789abcdef_hidden"}, "user:umbra_0123456789abcdef_…", "", "nothing was"},
		{secret("umbra_0123456789abcdef_hidden", "x"), "webhook:umbra_0123456789abcdef_…", "webhook", "webhook: cannot"},
		{secret(foreign, "x"), "webhook:ey…", "webhook", "webhook: cannot"},
		{secret("x", foreign), "jwt:https://issuer#lamp", "jwt", "jwt: cannot authenticate now: keys of the issuer: "},
		{secret("bob", "hidden"), "webhook:bob", "webhook", "webhook: cannot authenticate now: webhook: dial tcp"},
	} {
		tried = nil
		if _, err := a.Authenticate(t.Context(), tt.in); err == nil || len(tried) != 1 {
			t.Fatalf("%+v: %v, told of %d", tt.in, err, len(tried))
		}
		got := tried[0]
		if got.Principal != tt.principal || string(got.Method) != tt.method || !strings.HasPrefix(got.Reason(), tt.why) {
			t.Errorf("%+v is told as %+v: %s", tt.in, got, got.Reason())
		}
		if got.Listener != tt.in.Listener || got.ClientID != tt.in.ClientID || got.Remote != tt.in.Remote {
			t.Errorf("%+v is told with %+v", tt.in, got)
		}
		if strings.Contains(got.Reason(), "hidden") {
			t.Errorf("a secret is told: %s", got.Reason())
		}
	}
	for _, tt := range []struct {
		id, secret     string
		principal, why string
	}{
		{c.keyID, "hidden", "key:" + c.keyID, "key: sigv4: signature is wrong"},
		{"AKIA0123456789ABCDEF", "hidden", "key:AKIA0123456789ABCDEF", "key: sigv4: access key is not known"},
		{c.secret[:3] + "hidden", c.keyID, "anonymous", "key: sigv4: access key is not known"},
	} {
		tried = nil
		r := request(t, "", func(r *http.Request) {
			sigv4.Credentials{ID: tt.id, Secret: tt.secret, Region: "us-east-1", Service: "iotdata"}.Sign(r, nil, time.Now())
		})
		if _, err := a.Request(r, "keys", nil); err == nil || len(tried) != 1 {
			t.Fatalf("a request signed with %s: %v, told of %d", tt.id, err, len(tried))
		}
		if got := tried[0]; got.Principal != tt.principal || got.Method != authn.Key || got.Reason() != tt.why || !got.Remote.IsValid() {
			t.Errorf("a request signed with %s is told as %+v: %s", tt.id, got, got.Reason())
		}
	}
	r := request(t, "", func(r *http.Request) { r.SetBasicAuth(c.token, "") })
	if _, err := a.Request(r, everything, nil); err == nil {
		t.Error("a token as the name of a user is let in")
	}
	for _, word := range []string{"hidden", c.token, foreign} {
		if strings.Contains(log.String(), word) {
			t.Errorf("the log has %q: %s", word, log.String())
		}
	}
	tried = nil
	cert := certificate(t, "", "lamp")
	a.RefuseCertificate(t.Context(), everything, netip.MustParseAddr("192.0.2.1"), cert, errors.New("revoked"))
	if got := tried[0]; got.Principal != "cert:"+auth.CertificateID(cert) || got.Reason() != `certificate: "lamp": revoked` {
		t.Errorf("a certificate is told as %+v: %s", got, got.Reason())
	}
}
