package e2e_test

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/auth/sigv4"
	"github.com/umbra-iot/umbra/test/mqtttest"
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

// TestFailedLoginsAreRecorded tries wrong passwords, tokens, signatures and certificates. What was shown is on no record.
func TestFailedLoginsAreRecorded(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit")
	l := startLogin(t, "--store=memory:", "--audit-file="+file)
	const evil = "a\x1b]0;x\a\u009b2J\u202eb" // which a terminal would obey
	recorded := func() int {
		lines, err := os.ReadFile(file + ".logins")
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(lines, []byte("\n"))
	}
	try := func(login func()) { // again when an address has tried too often within a second
		t.Helper()
		before := recorded()
		eventually(t, func() error {
			if login(); recorded() == before {
				return errors.New("the login is not recorded")
			}
			return nil
		})
	}
	for _, o := range []mqtttest.Options{
		{ClientID: "c1", Username: "alice", Password: "hidden1"},
		{ClientID: evil, Username: evil, Password: "hidden2", Version: mqtttest.V5},
		{ClientID: "c3", Username: "x", Password: l.token + "hidden3"},
	} {
		try(func() { l.refusal(t, o) })
	}
	status := func(want int, path string, edit func(*http.Request)) {
		t.Helper()
		try(func() {
			if status, body := l.do(t, http.MethodGet, path, "", edit); status != want {
				t.Errorf("GET %s = %d %s, want %d", path, status, body, want)
			}
		})
	}
	status(401, "/v1/things", func(*http.Request) {})
	status(401, "/v1/things", func(r *http.Request) { r.SetBasicAuth("root", "hidden4") })
	status(401, "/v1/things", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+l.token+"hidden5") })
	status(403, "/v1/things", func(r *http.Request) {
		sigv4.Credentials{ID: l.keyID, Secret: "hidden6", Region: "us-east-1", Service: "iotdata"}.Sign(r, nil, time.Now())
	})
	presigned := url.Values{
		"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Credential": {l.keyID + time.Now().UTC().Format("/20060102/") + "us-east-1/iotdata/aws4_request"},
		"X-Amz-Date": {time.Now().UTC().Format("20060102T150405Z")}, "X-Amz-SignedHeaders": {"host"}, "X-Amz-Signature": {"hidden7"},
	}
	status(403, "/things/lamp/shadow?"+presigned.Encode(), func(*http.Request) {})

	_, text := l.do(t, http.MethodGet, "/v1/audit?outcome=unauthenticated", "", l.root)
	var list struct {
		Records []struct{ Action, Resource, Principal, Outcome, Detail, ClientID, Remote, TraceID string }
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list.Records {
		got = append(got, fmt.Sprintf("%q %q %s", r.Principal, r.ClientID, r.Detail))
		kind, address := "mqtt", l.MQTT()
		if r.ClientID == "" {
			kind, address = "http", l.HTTP()
		}
		if r.Action != "umbra:Login" || r.Resource != "listener/"+kind+"://127.0.0.1:0" || r.Remote != "127.0.0.1" || (r.TraceID == "") != (kind == "mqtt") {
			t.Errorf("a login at %s is recorded as %+v", address, r)
		}
	}
	slices.Reverse(got)
	want := []string{
		`"user:alice" "c1" password: wrong password`,
		fmt.Sprintf("%q %q password: user is not known or expired", "user:"+evil, evil),
		`"token:` + l.tokenID + `" "c3" token: token is not known, expired or wrong`,
		`"anonymous" "" nothing was shown that counts here`,
		`"user:root" "" password: wrong password`,
		`"token:` + l.tokenID + `" "" token: token is not known, expired or wrong`,
		`"key:` + l.keyID + `" "" key: sigv4: signature is wrong`,
		`"key:` + l.keyID + `" "" key: sigv4: signature is wrong`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("the records are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	lines, err := os.ReadFile(file + ".logins")
	if err != nil || strings.Count(string(lines), "\n") != len(want) {
		t.Errorf("the file has %s, %v", lines, err)
	}
	if data, err := os.ReadFile(file); err != nil || len(data) > 0 {
		t.Errorf("the file of changes has %s, %v", data, err)
	}
	out := l.mustUmbra(t, "", "audit", "--outcome", "unauthenticated", "-o", "wide")
	if strings.ContainsAny(out, "\x1b\a\u009b\u202e") || !strings.Contains(out, `\x1b]0;x`) || !strings.Contains(out, "wrong password") {
		t.Errorf("umbra audit prints %q", out)
	}
	for where, text := range map[string]string{"answer": text, "file": string(lines), "table": out, "log": l.Log()} {
		if strings.Contains(text, "hidden") || strings.Contains(text, l.token) {
			t.Errorf("a secret is in the %s: %s", where, text)
		}
	}
}

// records are the principals and resources of what is on record with an outcome, the latest first.
func (l *login) records(t *testing.T, outcome string) (list []string) {
	t.Helper()
	_, text := l.do(t, http.MethodGet, "/v1/audit?limit=1000&outcome="+outcome, "", l.root)
	var answer struct {
		Records []struct{ Principal, Resource string }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for _, r := range answer.Records {
		list = append(list, r.Principal+" "+r.Resource)
	}
	return list
}

// TestWhatIsNotShownIsNoDenial has a device hold the stream of all changes open while others change their shadows, and look
// at a thing whose shadows it may not see: it is shown none of them, and has done nothing that it must not.
func TestWhatIsNotShownIsNoDenial(t *testing.T) {
	t.Parallel()
	l := startWithLamp(t, "--store=memory:")
	l.mustUmbra(t, `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:ListNamedShadowsForThing", "Resource": "*"}}`, "policy", "put", "lists", "-")
	l.mustUmbra(t, "", "policy", "attach", "lists", "user:lamp")
	l.mustUmbra(t, "", "policy", "attach", "device", "user:lamp")
	lamp := func(r *http.Request) { r.SetBasicAuth("lamp", lampPassword) }
	req, err := http.NewRequestWithContext(wait(t), http.MethodGet, l.URL()+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	lamp(req)
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	for i := range 10 {
		l.do(t, http.MethodPost, fmt.Sprintf("/things/door%d/shadow", i), `{"state":{"reported":{"a":1}}}`, l.root)
	}
	l.do(t, http.MethodPost, "/things/lamp/shadow", `{"state":{"reported":{"a":1}}}`, l.root)
	if e, err := readEvent(bufio.NewScanner(stream.Body)); err != nil || e.Thing != "lamp" {
		t.Errorf("the first event is about %q, %v", e.Thing, err)
	}
	for path, want := range map[string]int{"/v1/things/door1": http.StatusNotFound, "/v1/things/lamp": http.StatusOK, "/things/door2/shadow": http.StatusForbidden} {
		if status, body := l.do(t, http.MethodGet, path, "", lamp); status != want {
			t.Errorf("GET %s = %d %s, want %d", path, status, body, want)
		}
	}
	if got, want := l.records(t, "denied"), []string{"user:lamp thing/door2"}; !slices.Equal(got, want) {
		t.Errorf("the denials on record are %q, want %q", got, want)
	}
}

// TestNobodyFillsTheRecords has a client do what it may not, and an address try tokens, much more often than is recorded: of
// each of them there are no more records than of one source, so that others have a place.
func TestNobodyFillsTheRecords(t *testing.T) {
	t.Parallel()
	l := startWithLamp(t, "--store=memory:")
	began := time.Now()
	for i := range 60 {
		l.do(t, http.MethodGet, fmt.Sprintf("/things/door%d/shadow", i), "", func(r *http.Request) { r.SetBasicAuth("lamp", lampPassword) })
		l.do(t, http.MethodGet, "/v1/things", "", func(r *http.Request) { r.Header.Set("Authorization", fmt.Sprintf("Bearer umbra_%016d_x", i)) })
	}
	windows := int(time.Since(began)/time.Second) + 1
	for _, outcome := range []string{"denied", "unauthenticated"} {
		if n := len(l.records(t, outcome)); n < 5 || n > 5*windows {
			t.Errorf("%d records have the outcome %s, want up to 5 in each of %d seconds", n, outcome, windows)
		}
	}
}

// TestRefusedCertificatesAreRecorded comes with certificates that are revoked, and of another authority.
func TestRefusedCertificatesAreRecorded(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit")
	s := startSecure(t, "--audit-file="+file)
	s.issue(t, "lamp")
	s.issue(t, "plug")
	if _, err := s.ca.Revoke("lamp", time.Now()); err != nil {
		t.Fatal(err)
	}
	rogue := startSecure(t)
	rogue.issue(t, "plug")
	foreign := rogue.config(t, "plug")
	foreign.RootCAs = s.config(t, "").RootCAs
	id := func(s *secure, thing string) string {
		t.Helper()
		text, err := os.ReadFile(s.file(thing + ".pem"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return "cert:" + auth.CertificateID(cert)
	}
	want := []string{
		`"` + id(s, "lamp") + `","action":"umbra:Login","resource":"listener/mqtts://127.0.0.1:0","outcome":"unauthenticated","detail":"certificate: \"lamp\": tlsfiles: certificate is revoked"`,
		`"` + id(rogue, "plug") + `","action":"umbra:Login","resource":"listener/mqtts://127.0.0.1:0","outcome":"unauthenticated","detail":"certificate: \"plug\": `,
	}
	eventually(t, func() error { // the revocation counts within a second
		for _, c := range []string{"lamp", "plug"} {
			config := s.config(t, c)
			if c == "plug" {
				config = foreign
			}
			if client, err := s.connect(t, "mqtts", config, mqtttest.Options{ClientID: c}); err == nil {
				client.Close()
				return fmt.Errorf("%s gets in", c)
			}
		}
		lines, err := os.ReadFile(file + ".logins")
		if err != nil {
			return err
		}
		for _, line := range want {
			if !strings.Contains(string(lines), line) {
				return fmt.Errorf("the records are %s, want one with %s", lines, line)
			}
		}
		return nil
	})
	if log := s.Log(); !strings.Contains(log, "certificate is revoked") {
		t.Errorf("the log does not tell of a certificate that is revoked: %s", log)
	}
}

// TestDenialsBesidePoliciesAreRecorded tries to take over a session, and removes a user before a will is due: policies allow both.
func TestDenialsBesidePoliciesAreRecorded(t *testing.T) {
	t.Parallel()
	users := map[string]credential.User{"root": userWith(t, "admin"), "bob": userWith(t, "operator"), "alice": userWith(t, "operator")}
	l := startUsers(t, users, "--store=memory:")
	leave(dial(t, l.MQTT(), asUser("alice")))
	bob := asUser("bob")
	bob.ClientID = "alice"
	l.refusal(t, bob)
	late := dying(asUser("bob"), "wills/bob")
	late.WillDelay = time.Hour
	dial(t, l.MQTT(), late).Abort()
	eventually(t, func() error {
		if _, body := l.do(t, http.MethodGet, "/connections/bob", "", l.root); !strings.Contains(body, `"connected":false`) {
			return fmt.Errorf("the connection is %s", body)
		}
		return nil
	})
	delete(users, "bob")
	l.write(t, &credential.File{Users: users})
	l.await(t, "bob", http.StatusUnauthorized)
	if status, body := l.do(t, http.MethodDelete, "/connections/bob?cleanSession=true", "", l.root); status != http.StatusOK { // the will is due
		t.Fatalf("DELETE = %d %s", status, body)
	}
	_, text := l.do(t, http.MethodGet, "/v1/audit?outcome=denied", "", l.root)
	var list struct {
		Records []struct{ Principal, Action, Resource, Detail, ClientID, Remote string }
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list.Records {
		got = append(got, strings.Join([]string{r.Principal, r.Action, r.Resource, r.Detail, r.ClientID, r.Remote}, "|"))
	}
	want := []string{
		"user:bob|iot:Publish|topic/wills/bob|the credential was taken back|bob|127.0.0.1",
		"user:bob|iot:Connect|client/alice|the session belongs to user:alice|alice|127.0.0.1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the records are %q, want %q", got, want)
	}
}
