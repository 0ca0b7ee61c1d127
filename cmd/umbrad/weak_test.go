package main_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/pki"
	"github.com/umbra-iot/umbra/internal/umbradtest"
)

// authority makes the files of an authority in a directory, with a certificate of the server.
func authority(t *testing.T, o pki.Options, server pki.Request) (dir string) {
	t.Helper()
	dir = t.TempDir()
	ca, err := pki.Init(dir, o)
	if err == nil {
		server.Name, server.Hosts = "umbra", []string{"localhost"}
		_, err = ca.Issue(server)
	}
	if err == nil {
		err = (&credential.File{}).Write(filepath.Join(dir, "users.yaml"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// secured is settings that are not weak, on an address that others reach, with the files of an authority.
func secured(dir string) []string {
	return []string{
		"--mqtts=0.0.0.0:0", "--https=0.0.0.0:0", "--tls-cert=" + dir + "/server.pem", "--tls-key=" + dir + "/server.key", "--tls-client-ca=" + dir + "/ca.pem",
		"--tls-crl=" + dir + "/ca.crl", "--audit-file=-", "--address-connections=100", "--users=" + dir + "/users.yaml",
	}
}

// TestCheckWarns has files of policies and of TLS that are weak. What settings alone tell is tested in package config.
func TestCheckWarns(t *testing.T) {
	t.Parallel()
	now := time.Now()
	good := authority(t, pki.Options{}, pki.Request{})
	ended := authority(t, pki.Options{Now: now.Add(-48 * time.Hour)}, pki.Request{Now: now.Add(-48 * time.Hour), Valid: time.Hour})
	stale := authority(t, pki.Options{Now: now.AddDate(-11, 0, 0)}, pki.Request{})
	folder := func(attachments string) string {
		dir := t.TempDir()
		own := `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "arn:aws:iot:*:*:*/${umbra:Name}"}}`
		publish := `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:Publish", "Resource": "*"}}`
		grant := `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "umbra:*Policy", "Resource": "*"}}`
		home := strings.Replace(publish, `"*"}`, `"*", "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}`, 1)
		for name, text := range map[string]string{"attachments": attachments, "own": own, "publish": publish, "grant": grant, "home": home} {
			if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return "--policies=" + dir
	}
	open := []string{"--auth=anonymous,password", "--allow-anonymous", "--mqtts=127.0.0.1:0", "--https=127.0.0.1:0"}
	for name, tt := range map[string]struct {
		dir  string
		more []string
		want string // part of the only warning, "" for none
	}{
		"nothing weak":                    {good, nil, ""},
		"a certificate that has ended":    {ended, nil, "tls-cert: " + ended + "/server.pem has ended at"},
		"revocations of long ago":         {stale, nil, "tls-crl: " + stale + "/ca.crl should have been replaced at"},
		"no users":                        {good, []string{"--users=" + good + "/none.yaml"}, "users: " + good + "/none.yaml is not there"},
		"everybody is admin":              {good, []string{"--default-policies=device,admin"}, "default-policies: everybody who logs in and has no policy may do everything"},
		"everybody gives himself more":    {good, []string{"--default-policies=grant", folder("{}")}, "default-policies: everybody who logs in and has no policy may do everything"},
		"everybody is operator":           {good, []string{"--default-policies=operator"}, "may publish on all topics"},
		"everybody is app":                {good, []string{"--default-policies=app"}, ""},
		"nobody has a policy":             {good, []string{"--default-policies="}, ""},
		"everybody at home":               {good, []string{"--default-policies=home", folder("{}")}, ""},
		"all certificates are admin":      {good, []string{folder(`{"kind:cert": ["admin"]}`)}, "policies, kind:cert: everybody of the kind cert may do everything"},
		"all keys publish":                {good, []string{folder(`{"kind:key": ["publish"]}`)}, "policies, kind:key: everybody of the kind key may publish on all topics"},
		"all of a kind that cannot enter": {good, []string{folder(`{"kind:webhook": ["admin"]}`)}, ""},
		"all users have their own":        {good, []string{folder(`{"kind:user": ["own"], "user:root": ["admin"], "group:a": ["admin"]}`)}, ""},
		"nobody is admin, nor gets in":    {good, []string{folder(`{"anonymous": ["admin"]}`)}, ""},
		"nobody is admin":                 {good, append(open, folder(`{"anonymous": ["admin"]}`)), "policies, anonymous: everybody who shows nothing may do everything"},
		"nobody is app":                   {good, append(open, folder(`{"anonymous": ["app"]}`)), "policies, anonymous: everybody who shows nothing may change the shadows of all things"},
		"nobody reads":                    {good, append(open, folder(`{"anonymous": ["read-only"]}`)), "policies, anonymous: everybody who shows nothing may read everything"},
		"nobody has what is his":          {good, append(open, folder(`{"anonymous": ["own"]}`)), ""},
	} {
		r := umbradtest.Run(t, append(append([]string{"--check"}, secured(tt.dir)...), tt.more...)...)
		got := strings.Count(r.Stderr, "warning:")
		if r.Code != 0 || tt.want == "" && got > 0 || tt.want != "" && (got != 1 || !strings.Contains(r.Stderr, tt.want)) {
			t.Errorf("%s: exit code %d, %q; want %q", name, r.Code, r.Stderr, tt.want)
		}
	}
}

// TestCheckReadsUsers: what a start would refuse is refused.
func TestCheckReadsUsers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(file, []byte("users: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := umbradtest.Run(t, "--check", "--users="+file); r.Code != 2 || !strings.Contains(r.Stderr, file) {
		t.Errorf("exit code %d, %q", r.Code, r.Stderr)
	}
}

// TestStrangersAreNotToldWhatIsWeak asks a server with weak settings how it is.
func TestStrangersAreNotToldWhatIsWeak(t *testing.T) {
	t.Parallel()
	dir := authority(t, pki.Options{}, pki.Request{})
	u := umbradtest.Start(t, append(secured(dir), "--store=memory:", "--mqtts=127.0.0.1:0", "--https=127.0.0.1:0", "--default-policies=admin", "--websocket-origins=*")...)
	for _, want := range []string{"default-policies: everybody", "websocket-origins: pages"} {
		waitFor(t, want+" in the log", func() bool { return strings.Contains(u.Log(), want) })
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.URL()+"/readyz?verbose", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "policies") || strings.Contains(string(text), "origins") {
		t.Errorf("/readyz?verbose says %s", text)
	}
}
