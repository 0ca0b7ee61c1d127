package authn_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authn"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/auth/password"
	"github.com/umbra-iot/umbra/internal/auth/sigv4"
)

// everything is a listener where all methods count but anonymous.
const everything = "everything"

func methods() map[string][]authn.Method {
	return map[string][]authn.Method{
		everything: {authn.Certificate, authn.Password, authn.Key, authn.Token, authn.JWT, authn.Webhook},
		"cert":     {authn.Certificate},
		"keys":     {authn.Key},
		"both":     {authn.Anonymous, authn.Password},
		"local":    {authn.Password, authn.Key, authn.Token},
	}
}

// credentials is a file of credentials with one of each, and what proves them.
type credentials struct {
	file, keyID, secret, token, tokenID string
	lateKeyID, lateSecret, lateToken    string // of those whose time is over
}

func write(t *testing.T) credentials {
	t.Helper()
	var c credentials
	c.file = filepath.Join(t.TempDir(), "users.yaml")
	alice := credential.User{Grant: credential.Grant{Groups: []string{"operators"}}}
	if err := alice.SetPassword([]byte("wonderland")); err != nil {
		t.Fatal(err)
	}
	late := alice
	late.Expires = time.Now().Add(-time.Second)
	id, key := credential.NewAccessKey("backend", credential.Grant{})
	tokenID, text, token := credential.NewToken("ci", []string{"iot:*"}, credential.Grant{})
	c.keyID, c.secret, c.token, c.tokenID = id, key.Secret, text, tokenID
	lateID, lateKey := credential.NewAccessKey("backend", late.Grant)
	lateTokenID, lateText, lateToken := credential.NewToken("ci", nil, late.Grant)
	c.lateKeyID, c.lateSecret, c.lateToken = lateID, lateKey.Secret, lateText
	f := &credential.File{
		Users: map[string]credential.User{"alice": alice, "late": late}, Keys: map[string]credential.AccessKey{id: key, lateID: lateKey},
		Tokens: map[string]credential.Token{tokenID: token, lateTokenID: lateToken},
	}
	if err := f.Write(c.file); err != nil {
		t.Fatal(err)
	}
	return c
}

func directory(t *testing.T, file string) *authn.Directory {
	t.Helper()
	d, err := authn.NewDirectory(authn.DirectoryOptions{File: file})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMQTT(t *testing.T) {
	t.Parallel()
	c := write(t)
	a := authn.New(authn.Options{Methods: methods(), Directory: directory(t, c.file)})
	lamp := &auth.Principal{ID: "cert:1", Kind: auth.Certificate, Name: "lamp"}
	gone := &auth.Principal{ID: "cert:2", Kind: auth.Certificate, Expires: time.Now().Add(-time.Second)}
	signed := &auth.Principal{ID: "key:1", Kind: auth.AccessKey}
	for _, tt := range []struct {
		name string
		in   auth.Credentials
		want string // ID of the principal, "" for a refusal
		err  error
	}{
		{"no methods", auth.Credentials{Listener: "open", Username: "x", HasPassword: true}, "anonymous", nil},
		{"nothing", auth.Credentials{Listener: everything}, "", auth.ErrNoCredentials},
		{"nothing where that is enough", auth.Credentials{Listener: "both"}, "anonymous", nil},
		{"certificate", auth.Credentials{Listener: everything, Peer: lamp}, "cert:1", nil},
		{"certificate where it does not count", auth.Credentials{Listener: "local", Peer: lamp}, "", auth.ErrNoCredentials},
		{"certificate and a name, as the SDKs of AWS", auth.Credentials{Listener: everything, Peer: lamp, Username: "?SDK=NodeJSv2"}, "cert:1", nil},
		{"certificate and a wrong password", auth.Credentials{Listener: everything, Peer: lamp, Username: "alice", Password: []byte("x"), HasPassword: true}, "", auth.ErrDenied},
		{"signed WebSocket", auth.Credentials{Listener: "keys", Peer: signed}, "key:1", nil},
		{"password", auth.Credentials{Listener: everything, Username: "alice", Password: []byte("wonderland"), HasPassword: true}, "user:alice", nil},
		{"wrong password", auth.Credentials{Listener: everything, Username: "alice", Password: []byte("wonderlan"), HasPassword: true}, "", auth.ErrDenied},
		{"empty password", auth.Credentials{Listener: everything, Username: "alice", HasPassword: true}, "", auth.ErrDenied},
		{"wrong password where nothing is enough", auth.Credentials{Listener: "both", Username: "alice", Password: []byte("x"), HasPassword: true}, "", auth.ErrDenied},
		{"unknown user", auth.Credentials{Listener: everything, Username: "bob", Password: []byte("wonderland"), HasPassword: true}, "", auth.ErrDenied},
		{"expired user", auth.Credentials{Listener: everything, Username: "late", Password: []byte("wonderland"), HasPassword: true}, "", auth.ErrDenied},
		{"password where it does not count", auth.Credentials{Listener: "cert", Username: "alice", Password: []byte("wonderland"), HasPassword: true}, "", auth.ErrDenied},
		{"user that is a pattern", auth.Credentials{Listener: everything, Username: "*", Password: []byte("wonderland"), HasPassword: true}, "", auth.ErrDenied},
		{"token as password", auth.Credentials{Listener: everything, Password: []byte(c.token), HasPassword: true}, "token:" + c.tokenID, nil},
		{"expired token", auth.Credentials{Listener: everything, Password: []byte(c.lateToken), HasPassword: true}, "", auth.ErrDenied},
		{"certificate that has expired since", auth.Credentials{Listener: everything, Peer: gone}, "", auth.ErrDenied},
		{"changed token", auth.Credentials{Listener: everything, Password: []byte(c.token + "x"), HasPassword: true}, "", auth.ErrDenied},
	} {
		p, err := a.Authenticate(t.Context(), &tt.in)
		if tt.want == "" {
			if p != nil || !errors.Is(err, tt.err) {
				t.Errorf("%s: %v, %v; want %v", tt.name, p, err, tt.err)
			}
		} else if err != nil || p.ID != tt.want {
			t.Errorf("%s: %v, %v; want %s", tt.name, p, err, tt.want)
		}
	}
	p, err := a.Authenticate(t.Context(), &auth.Credentials{Listener: "local", Username: "alice", Password: []byte("wonderland"), HasPassword: true})
	if err != nil || !p.In("operators") || p.Name != "alice" || p.Kind != auth.User {
		t.Errorf("alice is %+v, %v", p, err)
	}
}

// For users who do not exist, or whose time is over, a password is checked as for others.
func TestTimeTellsNoNames(t *testing.T) {
	t.Parallel()
	a := authn.New(authn.Options{Methods: methods(), Directory: directory(t, write(t).file)})
	for _, user := range []string{"alice", "late", "nobody"} {
		began := time.Now()
		in := auth.Credentials{Listener: "local", Username: user, Password: []byte("guess"), HasPassword: true}
		if _, err := a.Authenticate(t.Context(), &in); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v, want a denial", user, err)
		}
		if took := time.Since(began); took < time.Millisecond { // much less than the check of a password
			t.Errorf("%s is denied after %v", user, took)
		}
	}
}

// Of an address, and of a network of IPv6, few passwords are checked at a time; others are not concerned.
func TestGuessesOfANetworkAreCountedTogether(t *testing.T) {
	t.Parallel()
	for pattern, wants := range map[string]bool{"192.0.2.1": false, "2001:db8::%d": false, "192.0.2.%d": true, "2001:db8:0:%d::1": true} {
		a := authn.New(authn.Options{
			Methods: methods(), Directory: directory(t, write(t).file), Passwords: password.NewChecker(password.Options{Parallel: 1, Each: 1}),
		})
		var all sync.WaitGroup
		var busy atomic.Int64
		for i := range 8 {
			from := netip.MustParseAddr(strings.ReplaceAll(pattern, "%d", fmt.Sprint(i)))
			all.Go(func() {
				in := auth.Credentials{Listener: "local", Username: "alice", Password: []byte("guess"), HasPassword: true, Remote: from}
				if _, err := a.Authenticate(t.Context(), &in); errors.Is(err, auth.ErrUnavailable) {
					busy.Add(1)
				}
			})
		}
		all.Wait()
		if n := busy.Load(); (n == 0) != wants {
			t.Errorf("of 8 guesses of %s %d are too many", pattern, n)
		}
	}
}

func request(t *testing.T, body string, edit func(*http.Request)) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/things/lamp/shadow?name=a", strings.NewReader(body))
	edit(r)
	return r
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	c := write(t)
	a := authn.New(authn.Options{Methods: methods(), Directory: directory(t, c.file), BodyBytes: 100})
	body := `{"state":{}}`
	sign := func(id, secret, body string, at time.Time) func(*http.Request) {
		return func(r *http.Request) {
			sigv4.Credentials{ID: id, Secret: secret, Region: "us-east-1", Service: "iotdata"}.Sign(r, []byte(body), at)
		}
	}
	header := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", value) }
	}
	for _, tt := range []struct {
		name, listener, body string
		edit                 func(*http.Request)
		want                 string
		err                  error
	}{
		{"nothing", everything, body, func(*http.Request) {}, "", auth.ErrNoCredentials},
		{"signature", everything, body, sign(c.keyID, c.secret, body, time.Now()), "key:" + c.keyID, nil},
		{"signature over nothing", everything, "", sign(c.keyID, c.secret, "", time.Now()), "key:" + c.keyID, nil},
		{"signature over another body", everything, body, sign(c.keyID, c.secret, "x", time.Now()), "", sigv4.ErrSignature},
		{"signature with another secret", everything, body, sign(c.keyID, "x", body, time.Now()), "", sigv4.ErrSignature},
		{"signature of nobody", everything, body, sign("AKIAX", c.secret, body, time.Now()), "", sigv4.ErrKey},
		{"signature with an expired key", everything, body, sign(c.lateKeyID, c.lateSecret, body, time.Now()), "", sigv4.ErrKey},
		{"bearer that has expired", everything, body, header("Bearer " + c.lateToken), "", auth.ErrDenied},
		{"old signature", everything, body, sign(c.keyID, c.secret, body, time.Now().Add(-10*time.Minute)), "", sigv4.ErrTime},
		{"signature where it does not count", "cert", body, sign(c.keyID, c.secret, body, time.Now()), "", auth.ErrDenied},
		{"body that is too large", everything, strings.Repeat("x", 101), sign(c.keyID, c.secret, strings.Repeat("x", 101), time.Now()), "", authn.ErrTooLarge},
		{"bearer", everything, body, header("Bearer " + c.token), "token:" + c.tokenID, nil},
		{"bearer in lower case", everything, body, header("bearer " + c.token), "token:" + c.tokenID, nil},
		{"bearer of nobody", everything, body, header("Bearer umbra_00_00"), "", auth.ErrDenied},
		{"basic", everything, body, func(r *http.Request) { r.SetBasicAuth("alice", "wonderland") }, "user:alice", nil},
		{"basic, wrong", everything, body, func(r *http.Request) { r.SetBasicAuth("alice", "x") }, "", auth.ErrDenied},
		{"digest", everything, body, header("Digest x"), "", auth.ErrDenied},
	} {
		r := request(t, tt.body, tt.edit)
		p, err := a.Request(r, tt.listener, nil)
		if tt.want == "" {
			if p != nil || !errors.Is(err, tt.err) {
				t.Errorf("%s: %v, %v; want %v", tt.name, p, err, tt.err)
			}
			continue
		}
		if err != nil || p.ID != tt.want {
			t.Errorf("%s: %v, %v; want %s", tt.name, p, err, tt.want)
		}
		if rest, err := io.ReadAll(r.Body); err != nil || string(rest) != tt.body {
			t.Errorf("%s: the handler reads %q, %v", tt.name, rest, err)
		}
	}
}

// What has become of a credential is known to those who have shown it, in this run and in an earlier one.
func TestStanding(t *testing.T) {
	t.Parallel()
	c := write(t)
	d := directory(t, c.file)
	a := authn.New(authn.Options{Methods: methods(), Directory: d})
	var live, recalled []*auth.Principal
	for _, in := range []auth.Credentials{{Username: "alice", Password: []byte("wonderland")}, {Password: []byte(c.token)}} {
		in.Listener, in.HasPassword = everything, true
		p, err := a.Authenticate(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		live = append(live, p)
	}
	signed, err := a.Request(request(t, "", func(r *http.Request) {
		sigv4.Credentials{ID: c.keyID, Secret: c.secret, Region: "us-east-1", Service: "iotdata"}.Sign(r, nil, time.Now())
	}), everything, nil)
	if err != nil {
		t.Fatal(err)
	}
	live = append(live, signed)
	for _, p := range live {
		text, err := json.Marshal(p)
		var stored *auth.Principal
		if err := errors.Join(err, json.Unmarshal(text, &stored)); err != nil {
			t.Fatal(err)
		}
		a.Recall(stored)
		recalled = append(recalled, stored)
	}
	whole, err := credential.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	var (
		granted = credential.Grant{Groups: []string{"new"}, Policies: []string{"p"}}
		other   = func(hash string) string { return strings.ToUpper(hash) }
	)
	for _, step := range []struct {
		name            string
		user            func(*credential.User)
		token           func(*credential.Token)
		key             func(*credential.AccessKey)
		counts, trusted bool
	}{
		{"as they were", nil, nil, nil, true, true},
		{
			"with other grants", func(u *credential.User) { u.Grant = granted }, func(t *credential.Token) { t.Grant = granted },
			func(k *credential.AccessKey) { k.Grant = granted }, false, true,
		},
		{
			"with other secrets", func(u *credential.User) { u.Hash = password.Hash([]byte("wonderland")) }, func(t *credential.Token) { t.Hash = other(t.Hash) },
			func(k *credential.AccessKey) { k.Secret = other(k.Secret) }, false, false,
		},
		{"as they were, again", nil, nil, nil, true, true},
	} {
		f := *whole
		user, token, key := f.Users["alice"], f.Tokens[c.tokenID], f.Keys[c.keyID]
		if step.user != nil {
			step.user(&user)
			step.token(&token)
			step.key(&key)
		}
		f.Users, f.Tokens, f.Keys = map[string]credential.User{"alice": user}, map[string]credential.Token{c.tokenID: token}, map[string]credential.AccessKey{c.keyID: key}
		if err := errors.Join(f.Write(c.file), d.Reload(true)); err != nil {
			t.Fatal(err)
		}
		for i, p := range live {
			if p.CountsAt(time.Now()) != step.counts || p.Withdrawn() == step.trusted || recalled[i].Withdrawn() == step.trusted {
				t.Errorf("%s: %s counts: %t, is withdrawn: %t, after a restart %t", step.name, p, p.CountsAt(time.Now()), p.Withdrawn(), recalled[i].Withdrawn())
			}
			if now, ok := d.Current(recalled[i]); !ok || now.ID != p.ID || now.In("new") != slices.Contains(now.Policies, "p") || now.In("new") == (step.counts || !step.trusted) {
				t.Errorf("%s: %s is %+v, %t now", step.name, p, now, ok)
			}
		}
	}
	if err := errors.Join((&credential.File{}).Write(c.file), d.Reload(true)); err != nil {
		t.Fatal(err)
	}
	for i, p := range live {
		if _, ok := d.Current(p); ok || !p.Withdrawn() || !recalled[i].Withdrawn() {
			t.Errorf("%s is there, although it was removed", p)
		}
	}
}

// A file that is away for a moment, while somebody replaces it, takes nobody's credential away.
func TestFileThatIsAwayForAMoment(t *testing.T) {
	t.Parallel()
	c := write(t)
	d := directory(t, c.file)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := errors.Join(os.Rename(c.file, c.file+".away"), os.Rename(c.file+".away", c.file)); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for range 3000 {
		err := d.Reload(true)
		if _, ok := d.Principal("user:alice"); !ok || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("alice is there: %t, %v", ok, err)
			break
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Another key or token of the same owner may take over what one has left that is gone.
func TestHeirs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users.yaml")
	id1, _, t1 := credential.NewToken("ci", nil, credential.Grant{Groups: []string{"g"}})
	id2, k := credential.NewAccessKey("ci", credential.Grant{})
	id3, _, nameless := credential.NewToken("", nil, credential.Grant{})
	err := (&credential.File{Tokens: map[string]credential.Token{id1: t1, id3: nameless}, Keys: map[string]credential.AccessKey{id2: k}}).Write(file)
	if err != nil {
		t.Fatal(err)
	}
	d := directory(t, file)
	for _, test := range []struct {
		gone auth.Principal
		want string
	}{
		{auth.Principal{ID: "token:1", Kind: auth.Token, Name: "ci"}, "token:" + id1},
		{auth.Principal{ID: "key:1", Kind: auth.AccessKey, Name: "ci"}, "key:" + id2},
		{auth.Principal{ID: "token:1", Kind: auth.Token, Name: "other"}, ""},
		{auth.Principal{ID: "token:1", Kind: auth.Token}, ""},
		{auth.Principal{ID: "token:" + id1, Kind: auth.Token, Name: "had another name"}, ""},
		{auth.Principal{ID: "user:ci", Kind: auth.User, Name: "ci"}, ""},
		{auth.Principal{ID: "cert:1", Kind: auth.Certificate, Name: "ci"}, "cert:1"},
		{auth.Principal{ID: "anonymous", Kind: auth.Anonymous}, "anonymous"},
	} {
		now, ok := d.Current(&test.gone)
		if ok != (test.want != "") || ok && now.ID != test.want {
			t.Errorf("%+v is %+v, %t now, want %q", test.gone, now, ok, test.want)
		}
	}
}

// A signed body counts as what it is when its length is known, else as the longest there may be.
func TestReserveForBodies(t *testing.T) {
	t.Parallel()
	c := write(t)
	left := 50
	reserve := func(_ *http.Request, n int) (release func(), ok bool) {
		if n > left {
			return nil, false
		}
		left -= n
		return func() { left += n }, true
	}
	a := authn.New(authn.Options{Methods: methods(), Directory: directory(t, c.file), BodyBytes: 100, Reserve: reserve})
	for _, tt := range []struct {
		length int64 // as announced
		want   error
	}{{40, nil}, {-1, auth.ErrUnavailable}, {60, auth.ErrUnavailable}} {
		body := strings.Repeat("x", int(max(tt.length, 40)))
		r := request(t, body, func(r *http.Request) {
			sigv4.Credentials{ID: c.keyID, Secret: c.secret, Region: "us-east-1", Service: "iotdata"}.Sign(r, []byte(body), time.Now())
			r.ContentLength = tt.length
		})
		if _, err := a.Request(r, everything, nil); !errors.Is(err, tt.want) {
			t.Errorf("a signed body of length %d: %v, want %v", tt.length, err, tt.want)
		}
		if left != 50 {
			t.Fatalf("after a body of length %d %d bytes are left of 50", tt.length, left)
		}
	}
}

func TestCredentialsThatChange(t *testing.T) {
	t.Parallel()
	c := write(t)
	d := directory(t, c.file)
	var gone []map[string]bool
	d.OnChange(func(ids map[string]bool) { gone = append(gone, ids) })
	if err := d.Reload(false); err != nil || len(gone) > 0 {
		t.Errorf("Reload of the same file: %v, %v", gone, err)
	}
	f, err := credential.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	delete(f.Tokens, c.tokenID)
	if err := f.Write(c.file); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(false); err != nil || len(gone) != 1 || len(gone[0]) != 1 || !gone[0]["token:"+c.tokenID] {
		t.Errorf("after a token was removed: %v, %v", gone, err)
	}
	if err := os.WriteFile(c.file, []byte("users: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(false); err == nil {
		t.Error("Reload takes a bad file")
	}
	if err := d.Reload(false); err != nil || len(d.Problems()) != 1 {
		t.Errorf("Reload tells again of a bad file that has not changed: %v; or forgets it: %q", err, d.Problems())
	}
	a := authn.New(authn.Options{Methods: methods(), Directory: d})
	in := auth.Credentials{Listener: everything, Username: "alice", Password: []byte("wonderland"), HasPassword: true}
	if _, err := a.Authenticate(t.Context(), &in); err != nil {
		t.Errorf("after a bad file alice is refused: %v", err)
	}
	if err := os.Remove(c.file); err != nil {
		t.Fatal(err)
	}
	for _, force := range []bool{false, true} {
		if err := d.Reload(force); err == nil || len(d.Problems()) != 1 || len(gone) != 1 {
			t.Errorf("Reload(%t) of a file that is gone: %v, %q, %v", force, err, d.Problems(), gone)
		}
	}
	if err := f.Write(c.file); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(false); err != nil || len(d.Problems()) != 0 {
		t.Errorf("Reload of a file that is there again: %v, %q", err, d.Problems())
	}
}

// issuer signs tokens and serves its keys.
type issuer struct {
	*httptest.Server
	key       *ecdsa.PrivateKey
	broken    atomic.Bool
	withdrawn atomic.Bool
	asked     atomic.Int64
	hang      atomic.Pointer[chan struct{}]
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		if hang := i.hang.Load(); hang != nil {
			<-*hang
		}
		if i.broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		keys := []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}
		if i.withdrawn.Load() {
			keys = keys[:0]
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: keys})
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) sign(t *testing.T, key any, alg jose.SignatureAlgorithm, id string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestJWT(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	stranger := newIssuer(t)
	jwts, err := authn.NewJWTs(authn.JWTOptions{Keys: i.URL, Issuer: "https://issuer", Audience: "umbra"})
	if err != nil {
		t.Fatal(err)
	}
	a := authn.New(authn.Options{Methods: methods(), JWT: jwts})
	claims := func(changes map[string]any) map[string]any {
		c := map[string]any{"iss": "https://issuer", "aud": []string{"other", "umbra"}, "sub": "lamp", "groups": []string{"g"}, "exp": time.Now().Add(time.Hour).Unix()}
		for k, v := range changes {
			c[k] = v
			if v == nil {
				delete(c, k)
			}
		}
		return c
	}
	for name, tt := range map[string]struct {
		token string
		ok    bool
	}{
		"good":            {i.sign(t, i.key, jose.ES256, "k1", claims(nil)), true},
		"other issuer":    {i.sign(t, i.key, jose.ES256, "k1", claims(map[string]any{"iss": "x"})), false},
		"other audience":  {i.sign(t, i.key, jose.ES256, "k1", claims(map[string]any{"aud": "x"})), false},
		"no audience":     {i.sign(t, i.key, jose.ES256, "k1", claims(map[string]any{"aud": nil})), false},
		"expired":         {i.sign(t, i.key, jose.ES256, "k1", claims(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})), false},
		"never expires":   {i.sign(t, i.key, jose.ES256, "k1", claims(map[string]any{"exp": nil})), false},
		"not yet":         {i.sign(t, i.key, jose.ES256, "k1", claims(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})), false},
		"no subject":      {i.sign(t, i.key, jose.ES256, "k1", claims(map[string]any{"sub": nil})), false},
		"key of stranger": {i.sign(t, stranger.key, jose.ES256, "k1", claims(nil)), false},
		"unknown key":     {i.sign(t, stranger.key, jose.ES256, "k2", claims(nil)), false},
		"shared secret":   {i.sign(t, []byte("0123456789abcdef0123456789abcdef"), jose.HS256, "k1", claims(nil)), false},
		"none":            {"eyJhbGciOiJub25lIn0.eyJzdWIiOiJsYW1wIn0.", false},
	} {
		p, err := a.Request(request(t, "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+tt.token) }), everything, nil)
		if tt.ok && (err != nil || p.ID != "jwt:https://issuer#lamp" || p.Name != "lamp" || !p.In("g") || p.Expires.IsZero()) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		if !tt.ok && (p != nil || !errors.Is(err, auth.ErrDenied)) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if n := i.asked.Load(); n > 2 {
		t.Errorf("the issuer was asked %d times for its keys", n)
	}
}

// trusting is an authenticator that trusts keys of an issuer, and claims that count there.
func trusting(t *testing.T, keys ...jose.JSONWebKey) (a *authn.Authenticator, claims map[string]any) {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	jwts, err := authn.NewJWTs(authn.JWTOptions{Keys: file, Issuer: "https://issuer", Audience: "umbra"})
	if err != nil {
		t.Fatal(err)
	}
	claims = map[string]any{"iss": "https://issuer", "aud": "umbra", "sub": "lamp", "exp": time.Now().Add(time.Hour).Unix()}
	return authn.New(authn.Options{Methods: methods(), JWT: jwts}), claims
}

// A token that names no key, or an id of several keys, may be signed by each that is for its algorithm.
func TestKeysOfJWTWithoutTheirOwnID(t *testing.T) {
	t.Parallel()
	first, second, stranger := newIssuer(t), newIssuer(t), newIssuer(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a, claims := trusting(t,
		jose.JSONWebKey{Key: other.Public(), KeyID: "x"}, jose.JSONWebKey{Key: first.key.Public(), KeyID: "x"}, jose.JSONWebKey{Key: second.key.Public()})
	for name, test := range map[string]struct {
		key  any
		alg  jose.SignatureAlgorithm
		id   string
		want bool
	}{
		"no id, a key with one":              {first.key, jose.ES256, "", true},
		"no id, a key without one":           {second.key, jose.ES256, "", true},
		"no id, RSA":                         {other, jose.RS256, "", true},
		"an id of two, the first":            {other, jose.PS256, "x", true},
		"an id of two, the second":           {first.key, jose.ES256, "x", true},
		"an id of other keys":                {second.key, jose.ES256, "x", false},
		"no id, a key that is not there":     {stranger.key, jose.ES256, "", false},
		"an id of two, a key that is not it": {stranger.key, jose.ES256, "x", false},
	} {
		token := first.sign(t, test.key, test.alg, test.id, claims)
		p, err := a.Request(request(t, "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }), everything, nil)
		if got := err == nil; got != test.want || got && p.Withdrawn() {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

// Of many keys that a token may be signed by, few are tried.
func TestFewKeysOfJWTAreTried(t *testing.T) {
	t.Parallel()
	const tried = 8
	var keys []jose.JSONWebKey
	var all []*issuer
	for range tried + 1 {
		all = append(all, newIssuer(t))
		keys = append(keys, jose.JSONWebKey{Key: all[len(all)-1].key.Public()})
	}
	a, claims := trusting(t, keys...)
	for i, by := range all {
		token := by.sign(t, by.key, jose.ES256, "", claims)
		_, err := a.Request(request(t, "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }), everything, nil)
		if got, want := err == nil, i < tried; got != want {
			t.Errorf("key %d of %d: %v", i+1, len(all), err)
		}
	}
}

// A file of keys counts as it is now: a key that was taken out lets nobody in, and a new one needs no patience.
func TestFileOfKeysIsReplaced(t *testing.T) {
	t.Parallel()
	first, second := newIssuer(t), newIssuer(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(list ...jose.JSONWebKey) string {
		text, err := json.Marshal(jose.JSONWebKeySet{Keys: list})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	one, two := jose.JSONWebKey{Key: first.key.Public(), KeyID: "one"}, jose.JSONWebKey{Key: second.key.Public(), KeyID: "two"}
	o := authn.JWTOptions{Keys: file, Issuer: "https://issuer", Audience: "umbra"}
	for _, text := range []string{"", "{", `{"error": "try again later"}`} {
		if text != "" {
			write(text)
		}
		if _, err := authn.NewJWTs(o); err == nil {
			t.Errorf("a file of keys with %q is taken", text)
		}
	}
	write(keys(one))
	jwts, err := authn.NewJWTs(o)
	if err != nil {
		t.Fatal(err)
	}
	a := authn.New(authn.Options{Methods: methods(), JWT: jwts})
	claims := map[string]any{"iss": "https://issuer", "aud": "umbra", "sub": "lamp", "exp": time.Now().Add(time.Hour).Unix()}
	var let [2]*auth.Principal // in, by the key
	tokens := []string{first.sign(t, first.key, jose.ES256, "one", claims), second.sign(t, second.key, jose.ES256, "two", claims)}
	for _, tt := range []struct {
		name, text string
		want       [2]error
		problems   int
	}{
		{"the first", keys(one), [2]error{nil, auth.ErrDenied}, 0},
		{"both", keys(one, two), [2]error{nil, nil}, 0},
		{"the second", keys(two), [2]error{auth.ErrDenied, nil}, 0},
		{"a file that is broken", "{", [2]error{auth.ErrUnavailable, nil}, 1},
		{"no JWKS", `{"error": "try again later"}`, [2]error{auth.ErrUnavailable, nil}, 1},
		{"both again", keys(two, one), [2]error{nil, nil}, 0},
		{"a key of a new kind", strings.Replace(keys(two), "[", `[{"kty":"new"},`, 1), [2]error{auth.ErrDenied, nil}, 0},
		{"none", `{"keys":[]}`, [2]error{auth.ErrDenied, auth.ErrDenied}, 1},
		{"none that can be used", `{"keys":[{"kty":"new"}]}`, [2]error{auth.ErrDenied, auth.ErrDenied}, 1},
	} {
		write(tt.text)
		jwts.Refresh(t.Context(), false)
		if n := len(jwts.Problems()); n != tt.problems {
			t.Errorf("%s: %d problems", tt.name, n)
		}
		for i, token := range tokens {
			p, err := a.Request(request(t, "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }), everything, nil)
			if !errors.Is(err, tt.want[i]) {
				t.Errorf("%s: token %d: %v, want %v", tt.name, i+1, err, tt.want[i])
			}
			if p != nil {
				let[i] = p
			}
			if counts := let[i] != nil && let[i].CountsAt(time.Now()); counts != (tt.want[i] == nil) {
				t.Errorf("%s: who was let in by token %d counts: %t", tt.name, i+1, counts)
			}
		}
	}
}

// Who was let in stays while the issuer cannot be asked, and goes when its key is withdrawn.
func TestIssuerWithdrawsItsKey(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	var late atomic.Int64 // minutes
	jwts, err := authn.NewJWTs(authn.JWTOptions{
		Keys: i.URL, Issuer: "https://issuer", Audience: "umbra", Interval: 3 * time.Minute,
		Now: func() time.Time { return time.Now().Add(time.Duration(late.Load()) * time.Minute) },
	})
	if err != nil {
		t.Fatal(err)
	}
	a := authn.New(authn.Options{Methods: methods(), JWT: jwts})
	token := i.sign(t, i.key, jose.ES256, "k1", map[string]any{"iss": "https://issuer", "aud": "umbra", "sub": "lamp", "exp": time.Now().Add(time.Hour).Unix()})
	p, err := a.Authenticate(t.Context(), &auth.Credentials{Listener: everything, Password: []byte(token), HasPassword: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name     string
		minutes  int64
		broken   bool
		withdraw bool
		asked    int64
		counts   bool
	}{
		{"fresh", 0, false, false, 1, true},
		{"withdrawn, not yet known", 1, false, true, 1, true},
		{"the issuer does not answer", 4, true, true, 2, true},
		{"nor for days", 4000, true, true, 3, true},
		{"withdrawn", 4001, false, true, 4, false},
		{"there again", 4005, false, false, 5, true},
	} {
		late.Store(step.minutes)
		i.broken.Store(step.broken)
		i.withdrawn.Store(step.withdraw)
		jwts.Refresh(t.Context(), false)
		if got := p.CountsAt(time.Now()); got != step.counts || i.asked.Load() != step.asked {
			t.Errorf("%s: counts %t after %d requests, want %t after %d", step.name, got, i.asked.Load(), step.counts, step.asked)
		}
	}
}

// An issuer whose tokens name no key takes a new one: its tokens count with the next look at its keys, of which there is
// one every 10 seconds at most, whoever comes with what.
func TestIssuerWithoutIDsTakesANewKey(t *testing.T) {
	t.Parallel()
	first, second, stranger := newIssuer(t), newIssuer(t), newIssuer(t)
	var (
		asked, late atomic.Int64
		published   atomic.Pointer[issuer]
	)
	published.Store(first)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: published.Load().key.Public()}}})
	}))
	t.Cleanup(keys.Close)
	begin := time.Now()
	jwts, err := authn.NewJWTs(authn.JWTOptions{
		Keys: keys.URL, Issuer: "https://issuer", Audience: "umbra", Interval: time.Hour,
		Now: func() time.Time { return begin.Add(time.Duration(late.Load()) * time.Second) },
	})
	if err != nil {
		t.Fatal(err)
	}
	a := authn.New(authn.Options{Methods: methods(), JWT: jwts})
	claims := map[string]any{"iss": "https://issuer", "aud": "umbra", "sub": "lamp", "exp": begin.Add(time.Hour).Unix()}
	ask := func(by *issuer) (*auth.Principal, error) {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: by.key}, nil)
		if err != nil {
			return nil, err
		}
		text, err := jwt.Signed(s).Claims(claims).Serialize()
		if err != nil {
			return nil, err
		}
		return a.Authenticate(t.Context(), &auth.Credentials{Listener: everything, Password: []byte(text), HasPassword: true})
	}
	old, err := ask(first)
	if err != nil {
		t.Fatal(err)
	}
	published.Store(second)
	for _, step := range []struct {
		name    string
		seconds int64
		by      *issuer
		want    error
		asked   int64
	}{
		{"the new key, just after the last look", 9, second, auth.ErrDenied, 1},
		{"the old key needs no look", 60, first, nil, 1},
		{"the new key", 60, second, nil, 2},
		{"the old key is gone", 61, first, auth.ErrDenied, 2},
		{"a key of nobody", 61, stranger, auth.ErrDenied, 2},
		{"the new key still counts", 65, second, nil, 2},
		{"a key of nobody, later", 100, stranger, auth.ErrDenied, 3},
	} {
		late.Store(step.seconds)
		if _, err := ask(step.by); !errors.Is(err, step.want) || asked.Load() != step.asked {
			t.Errorf("%s: %v after %d requests, want %v after %d", step.name, err, asked.Load(), step.want, step.asked)
		}
	}
	if old.CountsAt(begin.Add(time.Minute)) {
		t.Error("who came with the old key stays")
	}
	late.Store(200)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := ask(stranger); !errors.Is(err, auth.ErrDenied) {
				t.Errorf("a key of nobody among many: %v", err)
			}
		})
	}
	all.Wait()
	if n := asked.Load(); n != 4 {
		t.Errorf("the issuer was asked %d times, want 4", n)
	}
}

// TestIssuerHangs lets somebody with a key that nobody knows have the keys read: others do not wait for that.
func TestIssuerHangs(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	var late atomic.Int64 // minutes
	jwts, err := authn.NewJWTs(authn.JWTOptions{
		Keys: i.URL, Issuer: "https://issuer", Audience: "umbra",
		Now: func() time.Time { return time.Now().Add(time.Duration(late.Load()) * time.Minute) },
	})
	if err != nil {
		t.Fatal(err)
	}
	a := authn.New(authn.Options{Methods: methods(), JWT: jwts})
	ask := func(token string) error {
		_, err := a.Request(request(t, "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }), everything, nil)
		return err
	}
	claims := map[string]any{"iss": "https://issuer", "aud": "umbra", "sub": "lamp", "exp": time.Now().Add(time.Hour).Unix()}
	known, unknown := i.sign(t, i.key, jose.ES256, "k1", claims), i.sign(t, i.key, jose.ES256, "k2", claims)
	if err := ask(known); err != nil {
		t.Fatal(err)
	}
	late.Store(1)
	hang := make(chan struct{})
	i.hang.Store(&hang)
	asked := i.asked.Load()
	denied := make(chan error, 1)
	go func() { denied <- ask(unknown) }()
	for i.asked.Load() == asked {
		runtime.Gosched()
	}
	if err := ask(known); err != nil {
		t.Errorf("a known key while the issuer hangs: %v", err)
	}
	late.Store(12) // the keys are not fresh any more
	if err := ask(known); err != nil {
		t.Errorf("a known key that is not fresh while the issuer hangs: %v", err)
	}
	close(hang)
	if err := <-denied; !errors.Is(err, auth.ErrDenied) {
		t.Errorf("an unknown key: %v, want %v", err, auth.ErrDenied)
	}
}

// A password that looks a little like a JWT is one all the same.
func TestPasswordsOfThreeParts(t *testing.T) {
	t.Parallel()
	const password = "eyes.of.blue" // like a JWT it has three parts, and begins with ey
	var u credential.User
	file := filepath.Join(t.TempDir(), "users.yaml")
	err := errors.Join(u.SetPassword([]byte(password)), (&credential.File{Users: map[string]credential.User{"alice": u}}).Write(file))
	if err != nil {
		t.Fatal(err)
	}
	jwts, err := authn.NewJWTs(authn.JWTOptions{Keys: newIssuer(t).URL, Issuer: "https://issuer", Audience: "umbra"})
	if err != nil {
		t.Fatal(err)
	}
	a := authn.New(authn.Options{Methods: methods(), Directory: directory(t, file), JWT: jwts})
	in := auth.Credentials{Listener: everything, Username: "alice", Password: []byte(password), HasPassword: true}
	if p, err := a.Authenticate(t.Context(), &in); err != nil || p.ID != "user:alice" {
		t.Errorf("%v, %v", p, err)
	}
}

// Keys of a file that cannot be read stay in force, however long ago it was read.
func TestFileOfKeysIsGone(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k1"}}})
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := errors.Join(err, os.WriteFile(file, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	jwts, err := authn.NewJWTs(authn.JWTOptions{Keys: file, Issuer: "https://issuer", Audience: "umbra", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	a := authn.New(authn.Options{Methods: methods(), JWT: jwts})
	now = now.Add(25 * time.Hour)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"iss": "https://issuer", "aud": "umbra", "sub": "lamp", "exp": now.Add(time.Hour).Unix()}
	in := auth.Credentials{Listener: everything, Password: []byte(i.sign(t, i.key, jose.ES256, "k1", claims)), HasPassword: true}
	if _, err := a.Authenticate(t.Context(), &in); err != nil {
		t.Errorf("without the file: %v", err)
	}
	if len(jwts.Problems()) != 1 {
		t.Errorf("the file is gone, and the problems are %q", jwts.Problems())
	}
}

func TestIssuerIsGone(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.broken.Store(true)
	jwts, err := authn.NewJWTs(authn.JWTOptions{Keys: i.URL, Issuer: "https://issuer", Audience: "umbra"})
	if err != nil {
		t.Fatal(err)
	}
	a := authn.New(authn.Options{Methods: methods(), JWT: jwts})
	token := i.sign(t, i.key, jose.ES256, "k1", map[string]any{"sub": "x"})
	in := auth.Credentials{Listener: everything, Password: []byte(token), HasPassword: true}
	if _, err := a.Authenticate(t.Context(), &in); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without the keys of the issuer: %v, want ErrUnavailable", err)
	}
	if _, err := authn.NewJWTs(authn.JWTOptions{Keys: i.URL, Issuer: "x", Audience: "y", Algorithms: []string{"HS256"}}); err == nil {
		t.Error("an algorithm with a shared secret is taken")
	}
}

// TestWebhookGetsEveryByte shows passwords that are not UTF-8: the webhook gets them as they are, and an answer to one counts
// for no other. User names that are not are refused, as MQTT does.
func TestWebhookGetsEveryByte(t *testing.T) {
	t.Parallel()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Password       *string
			PasswordBase64 []byte
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		right := q.Password == nil && string(q.PasswordBase64) == "\xff\xfe" || q.Password != nil && q.PasswordBase64 == nil && (*q.Password == "ü" || *q.Password == "")
		fmt.Fprintf(w, `{"allow":%t,"name":"lamp"}`, right)
	}))
	t.Cleanup(hook.Close)
	a := authn.New(authn.Options{Methods: methods(), Webhook: authn.NewWebhooks(authn.WebhookOptions{URL: hook.URL, Timeout: time.Minute})})
	for range 2 { // then it is remembered
		for _, tt := range []struct {
			user, password string
			right          bool
		}{
			{"u", "\xff\xfe", true},
			{"u", "\xff\xfd", false},
			{"u", "\ufffd\ufffd", false},
			{"u", "//4=", false},
			{"u", "ü", true},
			{"u", "", true},
			{"u\xff", "ü", false},
			{"", "\xff\xfe", true},
			{"u\xff", "", false},
		} {
			_, err := a.Authenticate(t.Context(), &auth.Credentials{
				Listener: everything, Username: tt.user, Password: []byte(tt.password), HasPassword: true,
			})
			if (err == nil) != tt.right || err != nil && !errors.Is(err, auth.ErrDenied) {
				t.Errorf("the user %q with the password %q: %v", tt.user, tt.password, err)
			}
		}
	}
}

// What a user shows who is known, his time be over or not, is not told to the webhook, nor decided by it.
func TestUsersAreNotForTheWebhook(t *testing.T) {
	t.Parallel()
	var asked atomic.Pointer[string]
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text := string(body)
		asked.Store(&text)
		_, _ = io.WriteString(w, `{"allow":true}`)
	}))
	t.Cleanup(hook.Close)
	a := authn.New(authn.Options{
		Methods: methods(), Directory: directory(t, write(t).file), Webhook: authn.NewWebhooks(authn.WebhookOptions{URL: hook.URL}),
	})
	for user, password := range map[string]string{"late": "wonderland", "alice": "guess"} {
		in := auth.Credentials{Listener: everything, Username: user, Password: []byte(password), HasPassword: true}
		if p, err := a.Authenticate(t.Context(), &in); p != nil || !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v, %v; want a denial", user, p, err)
		}
	}
	if q := asked.Load(); q != nil {
		t.Errorf("the webhook got %s", *q)
	}
}

// TestFloodOfTheWebhook has one address try to log in much more often than the webhook answers, from several addresses of
// its network: others have a place, and when all places are taken nobody waits in vain.
func TestFloodOfTheWebhook(t *testing.T) {
	t.Parallel()
	answers := make(chan bool)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-answers:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, `{"allow":true,"name":"lamp"}`)
	}))
	t.Cleanup(hook.Close)
	a := authn.New(authn.Options{Methods: methods(), Webhook: authn.NewWebhooks(authn.WebhookOptions{
		URL: hook.URL, Timeout: time.Minute, Parallel: 2, Waiting: 4, Each: 3,
	})})
	results := make(chan error, 15)
	ask := func(times int, from string) {
		for i := range times {
			go func() {
				_, err := a.Authenticate(t.Context(), &auth.Credentials{
					Listener: everything, Username: "u", Password: fmt.Append(nil, from, i), HasPassword: true, Remote: netip.MustParseAddr(from),
				})
				results <- err
			}()
		}
	}
	refused := func(times int) {
		t.Helper()
		for range times {
			select {
			case err := <-results:
				if !errors.Is(err, auth.ErrUnavailable) {
					t.Errorf("one who is too many: %v, want ErrUnavailable", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("those who are too many wait")
			}
		}
	}
	ask(5, "2001:db8::1")
	ask(5, "2001:db8::2")
	refused(7)
	ask(3, "192.0.2.1")
	ask(2, "192.0.2.2")
	refused(2)
	close(answers)
	for range 6 {
		if err := <-results; err != nil {
			t.Errorf("one who has had a place: %v", err)
		}
	}
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	var (
		asked atomic.Int64
		last  atomic.Value
	)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		last.Store(string(body))
		switch {
		case r.URL.Path == "/elsewhere":
			_, _ = io.WriteString(w, `{"allow":true,"name":"lamp"}`)
		case bytes.Contains(body, []byte(`"password":"slow"`)):
			<-r.Context().Done()
		case bytes.Contains(body, []byte(`"password":"broken"`)):
			w.WriteHeader(http.StatusInternalServerError)
		case bytes.Contains(body, []byte(`"password":"garbage"`)):
			_, _ = io.WriteString(w, "yes")
		case bytes.Contains(body, []byte(`"password":"redirect"`)):
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case bytes.Contains(body, []byte(`"password":"odd name"`)):
			_, _ = io.WriteString(w, `{"allow":true,"name":"a/#"}`)
		case bytes.Contains(body, []byte(`"password":"not for long"`)):
			_, _ = io.WriteString(w, `{"allow":true,"disconnectAfterInSeconds":20}`)
		case bytes.Contains(body, []byte(`"password":"once"`)):
			_, _ = io.WriteString(w, `{"allow":true,"name":"lamp","ttl":0}`)
		case bytes.Contains(body, []byte(`"password":"refused once"`)):
			_, _ = io.WriteString(w, `{"allow":false,"ttl":-1}`)
		case bytes.Contains(body, []byte(`"password":"good"`)):
			_, _ = io.WriteString(w, `{"allow":true,"name":"lamp","groups":["devices"]}`)
		default:
			_, _ = io.WriteString(w, `{"allow":false}`)
		}
	}))
	t.Cleanup(hook.Close)
	now := time.Now()
	w := authn.NewWebhooks(authn.WebhookOptions{URL: hook.URL, Timeout: 200 * time.Millisecond, Now: func() time.Time { return now }})
	a := authn.New(authn.Options{Methods: methods(), Webhook: w})
	ask := func(client, user, password string) (*auth.Principal, error) {
		return a.Authenticate(context.Background(), &auth.Credentials{
			Listener: everything, ClientID: client, Username: user, Password: []byte(password), HasPassword: true,
		})
	}
	for range 3 {
		if p, err := ask("c", "u", "good"); err != nil || p.ID != "webhook:lamp" || !p.In("devices") {
			t.Errorf("good: %v, %v", p, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the webhook was asked %d times for the same, want once", n)
	}
	now = now.Add(2 * time.Minute)
	if _, err := ask("c", "u", "good"); err != nil || asked.Load() != 2 {
		t.Errorf("an answer counts for ever: %v", err)
	}
	if p, err := ask("c", "u", "not for long"); err != nil || !p.Expires.Equal(now.Add(20*time.Second)) {
		t.Errorf("not for long: %+v, %v", p, err)
	}
	now = now.Add(20 * time.Second)
	if p, err := ask("c", "u", "not for long"); err != nil || !p.Expires.Equal(now.Add(20*time.Second)) || asked.Load() != 4 {
		t.Errorf("after 20 seconds: %+v, %v; asked %d times", p, err, asked.Load())
	}
	for password, want := range map[string]error{"once": nil, "refused once": auth.ErrDenied} {
		before := asked.Load()
		for range 3 {
			if _, err := ask("c", "u", password); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", password, err, want)
			}
		}
		if n := asked.Load() - before; n != 3 {
			t.Errorf("%s: three logins asked the webhook %d times", password, n)
		}
	}
	for password, want := range map[string]error{
		"bad": auth.ErrDenied, "slow": auth.ErrUnavailable, "broken": auth.ErrUnavailable, "garbage": auth.ErrUnavailable,
		"redirect": auth.ErrUnavailable, "odd name": auth.ErrUnavailable,
	} {
		if p, err := ask("c", "u", password); p != nil || !errors.Is(err, want) {
			t.Errorf("%s: %v, %v; want %v", password, p, err, want)
		}
	}
	evil := `a&allow=true","password":"good` + "\n"
	if p, err := ask(evil, "u", "bad2"); p != nil || !errors.Is(err, auth.ErrDenied) {
		t.Errorf("a client id that is JSON: %v, %v", p, err)
	}
	var got struct{ ClientID, Password string }
	if err := json.Unmarshal([]byte(last.Load().(string)), &got); err != nil || got.ClientID != evil || got.Password != "bad2" {
		t.Errorf("the webhook got %+v, %v", got, err)
	}
	hook.Close()
	if _, err := ask("c", "new", "good"); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without the webhook: %v, want ErrUnavailable", err)
	}
}

// TestFileOfUsersThatIsNotThere: the log does not say that a file was read whose name is perhaps misspelt.
func TestFileOfUsersThatIsNotThere(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	file := filepath.Join(t.TempDir(), "users.yaml")
	d, err := authn.NewDirectory(authn.DirectoryOptions{File: file, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, file) || strings.Contains(got, "is read") {
		t.Errorf("without the file the log is %q", got)
	}
	if len(d.Problems()) != 1 {
		t.Errorf("without the file the problems are %q", d.Problems())
	}
	if err := os.WriteFile(file, []byte("users: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(false); err != nil || len(d.Problems()) != 0 || !strings.Contains(log.String(), "file of users is read") {
		t.Errorf("with the file: %v, and the log is %q", err, log.String())
	}
}
