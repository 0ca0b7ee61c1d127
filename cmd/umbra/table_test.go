package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/auth/credential"
)

// The commands that make something secret show it whole: it is shown once.
func TestSecretsAreShownWhole(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"key", "token"} {
		var made struct {
			ID     string `json:"id"`
			Secret string `json:"secret"`
		}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if kind == "key" {
				var k credential.AccessKey
				made.ID, k = credential.NewAccessKey("ci", credential.Grant{})
				made.Secret = k.Secret
			} else {
				made.ID, made.Secret, _ = credential.NewToken("ci", nil, credential.Grant{})
			}
			w.WriteHeader(http.StatusCreated)
			if err := json.NewEncoder(w).Encode(made); err != nil || r.Method != http.MethodPost {
				t.Errorf("%s %s: %v", r.Method, r.URL, err)
			}
		}))
		defer s.Close()
		code, out, problem := runApp(t.Context(), s.URL, "", kind, "add", "ci")
		if want := fmt.Sprintf("%s  %s\n", made.ID, made.Secret); code != 0 || !strings.HasSuffix(out, want) {
			t.Errorf("umbra %s add: exit code %d, %q, %s; want %q", kind, code, out, problem, want)
		}

		file := filepath.Join(t.TempDir(), "users.yaml")
		code, out, problem = runApp(t.Context(), s.URL, "", kind, "add", "ci", "--file", file)
		f, err := credential.ReadFile(file)
		if code != 0 || err != nil {
			t.Fatalf("umbra %s add --file: exit code %d, %s, %v", kind, code, problem, err)
		}
		shown := strings.Fields(out)
		id, secret := shown[len(shown)-2], shown[len(shown)-1]
		if _, part, ok := credential.SplitToken(secret); kind == "token" && (!ok || !f.Tokens[id].Verify(part)) {
			t.Errorf("umbra token add --file shows %q, which is not the token", secret)
		}
		if kind == "key" && f.Keys[id].Secret != secret {
			t.Errorf("umbra key add --file shows %q, which is not the secret", secret)
		}
	}
}

// Tables cut text and values of shadows. What one acts on is whole, however long it is: it is typed, or pasted, again.
func TestTablesCutNoNames(t *testing.T) {
	t.Parallel()
	id := "cert:" + strings.Repeat("0123456789abcdef", 4)
	name, text := strings.Repeat("n", 100), strings.Repeat("some text ", 10)
	for command, answer := range map[string]string{
		"policy ls":       fmt.Sprintf(`{"policies":[{"name":%q,"targets":[%q,%q]}]}`, name, id, id),
		"thing ls":        fmt.Sprintf(`{"things":[{"thing":%q,"principals":[%q,%q]}]}`, name, id, id),
		"user ls":         fmt.Sprintf(`{"credentials":[{"id":%q,"policies":[%q,%q]}]}`, name, id, id),
		"audit":           fmt.Sprintf(`{"records":[{"principal":%q,"resource":"client/%s","detail":%q}]}`, id, name, text),
		"mapping ls":      fmt.Sprintf(`{"mappings":[{"name":%q,"source":%q}]}`, name, id),
		"mapping orphans": fmt.Sprintf(`{"orphans":[{"topic":%q,"thing":%q}]}`, name, id),
		"mapping errors":  fmt.Sprintf(`{"last":[{"mapping":%q,"topic":%q,"message":%q}]}`, name, id, text),
		"ls":              fmt.Sprintf(`{"things":[{"thing":%q,"shadows":[{"name":%q}]}]}`, name, id),
		"get lamp":        fmt.Sprintf(`{"state":{"desired":{%q:{%q:%q}}},"metadata":{},"version":1}`, name, id, text),
		"delta lamp":      fmt.Sprintf(`{"state":{"desired":{%q:{%q:%q}},"delta":{%q:{%q:%q}}},"metadata":{},"version":1}`, name, id, text, name, id, text),
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		defer s.Close()
		_, out, problem := runApp(t.Context(), s.URL, "", append(strings.Fields(command), "-o", "table")...)
		if !strings.Contains(out, name) || !strings.Contains(out, id) {
			t.Errorf("umbra %s cuts a name:\n%s%s", command, out, problem)
		}
		if strings.Contains(answer, text) != strings.Contains(out, "…") || strings.Contains(out, text) {
			t.Errorf("umbra %s does not cut text, and nothing else:\n%s", command, out)
		}
	}
}
