package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// These tests are about what is decided for those who are away: whether messages are kept for them, and their wills sent.

const everyPassword = "everybody's password"

// userWith is a user whose password is everyPassword.
func userWith(t *testing.T, policies ...string) credential.User {
	t.Helper()
	u := credential.User{Grant: credential.Grant{Policies: policies}}
	if err := u.SetPassword([]byte(everyPassword)); err != nil {
		t.Fatal(err)
	}
	return u
}

// startUsers is a umbrad with users, of whom root may do everything.
func startUsers(t *testing.T, users map[string]credential.User, args ...string) *login {
	t.Helper()
	l := &login{file: filepath.Join(t.TempDir(), "users.yaml"), adminPassword: everyPassword}
	l.write(t, &credential.File{Users: users})
	l.Umbrad = umbradtest.Start(t, append([]string{"--users=" + l.file}, args...)...)
	return l
}

// startCertified is a umbrad for certificates, that keeps what there is over a crash; the user root may do everything.
func startCertified(t *testing.T, args ...string) (*secure, *login) {
	t.Helper()
	l := &login{file: filepath.Join(t.TempDir(), "users.yaml"), adminPassword: everyPassword}
	l.write(t, &credential.File{Users: map[string]credential.User{"root": userWith(t, "admin")}})
	s := startSecure(t, append([]string{"--store=pebble:" + t.TempDir(), "--users=" + l.file}, args...)...)
	l.Umbrad = s.Umbrad
	return s, l
}

// await waits until a request of a user for the retained messages, which need a policy, has a status.
func (l *login) await(t *testing.T, user string, status int) {
	t.Helper()
	eventually(t, func() error {
		got, _ := l.do(t, http.MethodGet, "/retainedMessage", "", func(r *http.Request) { r.SetBasicAuth(user, everyPassword) })
		if got != status {
			return fmt.Errorf("the status for %s is %d, want %d", user, got, status)
		}
		return nil
	})
}

// asUser are the options of a persistent session of a user, on topics of his own.
func asUser(name string) mqtttest.Options {
	return mqtttest.Options{Version: mqtttest.V5, ClientID: name, Username: name, Password: everyPassword, Keep: true}
}

// dying adds a will.
func dying(o mqtttest.Options, topic string) mqtttest.Options {
	o.Will = &mqtttest.Message{Topic: topic, Payload: []byte("will of " + o.ClientID), QoS: 1}
	return o
}

// leave ends a connection, whose session stays.
func leave(c *mqtttest.Client) {
	c.Close()
	<-c.Done()
}

// wantPayloads checks what comes, in any order, before "end" does.
func wantPayloads(t *testing.T, c *mqtttest.Client, want ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, w := range want {
		missing[w] = true
	}
	for {
		m, err := c.Receive(wait(t))
		if err != nil {
			t.Fatalf("waiting for the end, and %v: %v", missing, err)
		}
		text := string(m.Payload)
		switch {
		case text == "end":
			if len(missing) > 0 {
				t.Errorf("%v did not come", missing)
			}
			return
		case !missing[text]:
			t.Errorf("%q came", text)
		}
		delete(missing, text)
	}
}

// TestConditionsOfTheConnectionHoldOverACrash has permissions that depend on how a client was connected.
func TestConditionsOfTheConnectionHoldOverACrash(t *testing.T) {
	t.Parallel()
	policies := t.TempDir()
	err := os.WriteFile(filepath.Join(policies, "device.json"), []byte(`{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": ["iot:Connect", "iot:Subscribe", "iot:Receive"], "Resource": "*", "Condition": {
			"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "Bool": {"aws:SecureTransport": "true"}, "StringEquals": {"iot:DomainName": "localhost"}}},
		{"Effect": "Allow", "Action": "iot:Publish", "Resource": "*", "Condition": {
			"StringLike": {"iot:LastWillTopic": "*topic/q/pump"}}}]}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := startCertified(t, "--policies="+policies)
	s.issue(t, "lamp")
	s.issue(t, "pump")
	o := mqtttest.Options{Version: mqtttest.V5, ClientID: "lamp", Keep: true}
	lamp := s.mustConnect(t, "mqtts", s.config(t, "lamp"), o)
	subscribe(t, lamp, "q/#")
	leave(lamp)
	s.mustConnect(t, "mqtts", s.config(t, "pump"), dying(mqtttest.Options{Version: mqtttest.V5, ClientID: "pump"}, "q/pump"))
	s.Kill()
	s.Restart()
	root := dial(t, s.MQTT(), asUser("root"))
	publish(t, root, "q/1", "while away")
	publish(t, root, "q/1", "end")
	wantPayloads(t, s.mustConnect(t, "mqtts", s.config(t, "lamp"), o), "will of pump", "while away")
}

// TestWillsOfUsersWhoHaveChanged removes users and changes what they may, while they are connected, and while umbrad is not
// there. Who is removed, or has another password, is not trusted any more; others may send what they may send now.
func TestWillsOfUsersWhoHaveChanged(t *testing.T) {
	t.Parallel()
	root, operator := userWith(t, "admin"), userWith(t, "operator")
	member := operator
	member.Groups = []string{"members"}
	before := map[string]credential.User{
		"root": root, "same": operator, "removed": operator, "rotated": operator, "demoted": operator, "member": operator,
	}
	after := map[string]credential.User{
		"root": root, "same": operator, "rotated": userWith(t, "operator"), "demoted": {Hash: operator.Hash}, "member": member,
	}
	start := func(t *testing.T) (*login, *mqtttest.Client, map[string]*mqtttest.Client) {
		t.Helper()
		l := startUsers(t, before)
		body := `{"password":"` + everyPassword + `","policies":["operator"]}`
		if status, text := l.do(t, http.MethodPut, "/v1/credentials/users/stored", body, l.root); status != http.StatusNoContent {
			t.Fatalf("PUT = %d %s", status, text)
		}
		root := dial(t, l.MQTT(), asUser("root"))
		subscribe(t, root, "wills/#", "$aws/things/+/shadow/update/accepted")
		users := map[string]*mqtttest.Client{}
		for _, name := range []string{"same", "removed", "rotated", "demoted", "member", "stored"} {
			users[name] = dial(t, l.MQTT(), dying(asUser(name), "wills/"+name))
		}
		shadows := dying(asUser("removed"), "$aws/things/removed/shadow/update")
		shadows.ClientID, shadows.Will.Payload = "removed2", []byte(`{"state":{"reported":{"a":1}}}`)
		dial(t, l.MQTT(), shadows)
		return l, root, users
	}
	t.Run("while umbrad is not there", func(t *testing.T) {
		t.Parallel()
		l, _, _ := start(t)
		l.Kill()
		l.write(t, &credential.File{Users: after})
		l.Restart()
		root := dial(t, l.MQTT(), asUser("root"))
		publish(t, root, "wills/x", "end")
		wantPayloads(t, root, "will of same", "will of member", "will of stored")
	})
	t.Run("while they are connected", func(t *testing.T) {
		t.Parallel()
		l, root, users := start(t)
		l.write(t, &credential.File{Users: after})
		for _, name := range []string{"removed", "rotated", "demoted", "member"} {
			select {
			case <-users[name].Done():
			case <-wait(t).Done():
				t.Errorf("the connection of %s goes on", name)
			}
		}
		if m, err := root.Receive(wait(t)); err != nil || string(m.Payload) != "will of member" {
			t.Errorf("the first will is %q, %v", m.Payload, err)
		}
		publish(t, root, "wills/x", "end")
		wantPayloads(t, root)
	})
}

// TestMessagesAreKeptForWhoMayHaveThemNow removes a user who is away, and changes what another may receive.
func TestMessagesAreKeptForWhoMayHaveThemNow(t *testing.T) {
	t.Parallel()
	root, operator := userWith(t, "admin"), userWith(t, "operator")
	device := credential.User{Hash: operator.Hash}
	everybody := map[string]credential.User{"root": root, "gone": operator, "changed": operator}
	l := startUsers(t, everybody)
	for _, name := range []string{"gone", "changed"} {
		c := dial(t, l.MQTT(), asUser(name))
		subscribe(t, c, "news")
		leave(c)
	}
	send := func(payload string) {
		t.Helper()
		publish(t, dial(t, l.MQTT(), asUser("root")), "news", payload)
	}
	send("when they might")
	l.write(t, &credential.File{Users: map[string]credential.User{"root": root, "changed": device}})
	l.await(t, "gone", http.StatusUnauthorized)
	l.await(t, "changed", http.StatusForbidden)
	send("when they might not")
	l.Kill()
	l.Restart()
	send("when they might not, after a crash")
	l.write(t, &credential.File{Users: everybody})
	l.await(t, "gone", http.StatusOK)
	l.await(t, "changed", http.StatusOK)
	send("when they might again")
	send("end")
	for _, name := range []string{"gone", "changed"} {
		wantPayloads(t, dial(t, l.MQTT(), asUser(name)), "when they might", "when they might again")
	}
}

// TestWillsOfRevokedCertificates revokes a certificate: what its connections leave is not sent, at once or later, while umbrad
// runs or when it is not there.
func TestWillsOfRevokedCertificates(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*secure, *login, *mqtttest.Client) {
		t.Helper()
		s, l := startCertified(t, "--default-policies=operator")
		s.issue(t, "lamp")
		s.issue(t, "evil")
		root := dial(t, s.MQTT(), asUser("root"))
		subscribe(t, root, "wills/#", "$aws/things/+/shadow/update/accepted")
		return s, l, root
	}
	connect := func(t *testing.T, s *secure, thing, id, topic string, delay time.Duration) *mqtttest.Client {
		t.Helper()
		o := dying(mqtttest.Options{Version: mqtttest.V5, ClientID: id, Keep: true, WillDelay: delay}, topic)
		if topic != "wills/"+id {
			o.Will.Payload = []byte(`{"state":{"reported":{"a":1}}}`)
		}
		return s.mustConnect(t, "mqtts", s.config(t, thing), o)
	}
	revoke := func(t *testing.T, s *secure) {
		t.Helper()
		if _, err := s.ca.Revoke("evil", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("while umbrad is not there", func(t *testing.T) {
		t.Parallel()
		s, _, _ := start(t)
		connect(t, s, "lamp", "lamp", "wills/lamp", 0)
		connect(t, s, "evil", "evil", "wills/evil", 0)
		connect(t, s, "evil", "evil2", "$aws/things/evil/shadow/update", 0)
		s.Kill()
		revoke(t, s)
		s.Restart()
		root := dial(t, s.MQTT(), asUser("root"))
		publish(t, root, "wills/x", "end")
		wantPayloads(t, root, "will of lamp")
	})
	t.Run("while they are connected, and before their wills are due", func(t *testing.T) {
		t.Parallel()
		s, l, root := start(t)
		evil := connect(t, s, "evil", "evil", "wills/evil", 0)
		evil2 := connect(t, s, "evil", "evil2", "$aws/things/evil/shadow/update", 0)
		connect(t, s, "evil", "evil3", "wills/evil3", time.Hour).Abort()
		connect(t, s, "lamp", "lamp3", "wills/lamp3", time.Hour).Abort()
		revoke(t, s)
		for _, c := range []*mqtttest.Client{evil, evil2} {
			select {
			case <-c.Done():
			case <-wait(t).Done():
				t.Fatal("a connection whose certificate was revoked goes on")
			}
		}
		for _, id := range []string{"evil3", "lamp3"} { // with the session ends the delay of its will
			if status, body := l.do(t, http.MethodDelete, "/connections/"+id+"?cleanSession=true", "", l.root); status != http.StatusOK {
				t.Errorf("DELETE /connections/%s = %d %s", id, status, body)
			}
		}
		publish(t, root, "wills/x", "end")
		wantPayloads(t, root, "will of lamp3")
	})
}
