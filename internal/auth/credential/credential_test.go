package credential_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/credential"
)

func TestToken(t *testing.T) {
	t.Parallel()
	id, text, token := credential.NewToken("ci", []string{"iot:*"}, credential.Grant{Groups: []string{"app"}})
	gotID, secret, ok := credential.SplitToken(text)
	if !ok || gotID != id || !token.Verify(secret) || token.Verify(secret+"x") || token.Verify("") {
		t.Errorf("token %s does not verify itself", text)
	}
	if strings.Contains(token.Hash, secret) {
		t.Error("the secret is kept")
	}
	p := token.Principal(id)
	if p.ID != "token:"+id || p.Kind != auth.Token || p.Name != "ci" || !p.In("app") || len(p.Scopes) != 1 {
		t.Errorf("principal %+v", p)
	}
	for _, bad := range []string{"", "umbra_", "umbra_x", "Bearer umbra_a_b"} {
		if _, _, ok := credential.SplitToken(bad); ok {
			t.Errorf("SplitToken(%q) takes it", bad)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"alice": true, "a.b-c@d": true, "ä": true, "": false, "a b": false, "a:b": false, "a/b": false, "a\nb": false, "*": false, "#": false,
		"${x}": false, strings.Repeat("x", 129): false, "\xff": false,
	} {
		if err := credential.CheckName(name); (err == nil) != want {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "users.yaml")
	f, err := credential.ReadFile(name)
	if !errors.Is(err, fs.ErrNotExist) || len(f.Users) != 0 {
		t.Fatalf("a file that does not exist gives %v, %v", f, err)
	}
	var alice credential.User
	if err := alice.SetPassword([]byte("short")); err == nil {
		t.Error("a short password is taken")
	}
	if err := alice.SetPassword([]byte("long enough")); err != nil {
		t.Fatal(err)
	}
	until := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	id, key := credential.NewAccessKey("backend", credential.Grant{Policies: []string{"app"}, Expires: until})
	tokenID, _, token := credential.NewToken("", nil, credential.Grant{})
	f = &credential.File{
		Users: map[string]credential.User{"alice": alice}, Keys: map[string]credential.AccessKey{id: key},
		Tokens: map[string]credential.Token{tokenID: token},
	}
	if err := f.Write(name); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the new file has mode %v", info.Mode())
	}
	got, err := credential.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f, got); d != "" {
		t.Errorf("ReadFile gives something else than was written (-want +got):\n%s", d)
	}
	for _, bad := range []string{"users: {alice: {hash: secret}}", "users: {'a b': {hash: x}}", "keys: {AKIA: {}}", "tokens: {x: {}}", "tokens: {x: {hash: " + token.Hash + ", scopes: []}}", "user: {}", "- x", ": :"} {
		if err := os.WriteFile(name, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := credential.ReadFile(name); err == nil {
			t.Errorf("ReadFile takes %q", bad)
		}
	}
}

// An empty list of scopes confines to nothing. It does not become none, which confines to everything.
func TestEmptyScopes(t *testing.T) {
	t.Parallel()
	_, _, token := credential.NewToken("ci", []string{}, credential.Grant{})
	text, err := json.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	var again credential.Token
	if err := json.Unmarshal(text, &again); err != nil || again.Principal("x").Scopes == nil {
		t.Errorf("%s becomes %+v, %v", text, again, err)
	}
	name := filepath.Join(t.TempDir(), "users.yaml")
	f := &credential.File{Tokens: map[string]credential.Token{"x": token}}
	if err := f.Write(name); err == nil {
		t.Error("an empty list of scopes is written to a file")
	}
}

func TestSealer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "new", "secrets.key")
	s, err := credential.OpenSealer(file)
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.Seal("AKIA1", "secret")
	again, err := credential.OpenSealer(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open("AKIA1", sealed); got != "secret" || err != nil {
		t.Errorf("Open = %q, %v", got, err)
	}
	if _, err := again.Open("AKIA2", sealed); err == nil {
		t.Error("the secret of one key opens as that of another")
	}
	if _, err := again.Open("AKIA1", sealed[:5]); err == nil {
		t.Error("half a secret opens")
	}
	other, err := credential.OpenSealer(filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open("AKIA1", sealed); err == nil {
		t.Error("another key opens the secret")
	}
}
