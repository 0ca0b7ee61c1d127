package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// These tests are about what is decided for those who are away: whether messages are kept for them, and their wills sent.

// startAway is a umbrad for certificates and users, that keeps what there is over a crash. The user root may do everything.
func startAway(t *testing.T, users map[string]credential.User, args ...string) (*secure, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users.yaml")
	if users == nil {
		users = map[string]credential.User{}
	}
	users["root"] = userWith(t, all())
	if err := (&credential.File{Users: users}).Write(file); err != nil {
		t.Fatal(err)
	}
	return startSecure(t, append([]string{"--store=pebble:" + t.TempDir(), "--users=" + file}, args...)...), file
}

const everyPassword = "everybody's password"

// userWith is a user whose password is everyPassword.
func userWith(t *testing.T, g credential.Grant) credential.User {
	t.Helper()
	u := credential.User{Grant: g}
	if err := u.SetPassword([]byte(everyPassword)); err != nil {
		t.Fatal(err)
	}
	return u
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
	s, _ := startAway(t, nil, "--policies="+policies)
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
