package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestChangesOfShadowsAreRecorded changes what is desired, reports, and deletes.
func TestChangesOfShadowsAreRecorded(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string][]string{
		"desired": {"iot:DeleteThingShadow thing/lamp/cfg user:root", "iot:UpdateThingShadow thing/lamp/cfg user:root"},
		"all": {
			"iot:DeleteThingShadow thing/lamp/cfg user:root", "iot:UpdateThingShadow thing/lamp user:root", "iot:UpdateThingShadow thing/lamp/cfg user:root",
		},
		"off": nil,
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "audit")
			l := startLogin(t, "--store=memory:", "--audit-file="+file, "--audit-shadows="+setting)
			for _, step := range [][3]string{
				{http.MethodPost, "/things/lamp/shadow?name=cfg", `{"state":{"desired":{"secret":"hidden"}}}`},
				{http.MethodPost, "/things/lamp/shadow", `{"state":{"reported":{"on":true}}}`},
				{http.MethodDelete, "/things/lamp/shadow?name=cfg", ""},
			} {
				if status, body := l.do(t, step[0], step[1], step[2], l.root); status != http.StatusOK {
					t.Fatalf("%s %s = %d %s", step[0], step[1], status, body)
				}
			}
			_, text := l.do(t, http.MethodGet, "/v1/audit", "", l.root)
			var list struct {
				Records []struct{ Action, Resource, Principal, Outcome, Detail string }
			}
			if err := json.Unmarshal([]byte(text), &list); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range list.Records {
				got = append(got, strings.Join([]string{r.Action, r.Resource, r.Principal}, " "))
				if r.Outcome != "done" || !strings.HasSuffix(r.Detail, "by rest") {
					t.Errorf("the record is %+v", r)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("the records are %q, want %q", got, want)
			}
			lines, err := os.ReadFile(file + ".shadows")
			if err != nil || strings.Count(string(lines), "\n") != len(want) || strings.Contains(string(lines), "hidden") {
				t.Errorf("the file has %s, %v", lines, err)
			}
		})
	}
}
