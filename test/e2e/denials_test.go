package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/test/mqtttest"
)

// refusal says how a connection is refused.
func (l *login) refusal(t *testing.T, o mqtttest.Options) string {
	t.Helper()
	c, err := mqtttest.Dial(wait(t), l.MQTT(), o)
	if err == nil {
		c.Close()
	}
	refused, ok := errors.AsType[*mqtttest.Refused](err)
	if !ok {
		t.Fatalf("client %q of %q is not refused: %v", o.ClientID, o.Username, err)
	}
	return fmt.Sprintf("%#x %q", refused.Code, refused.Reason)
}

// TestDenialsTellNothing compares the answers to those who are not let in or may not do something: they do not depend on which
// users, sessions, shadows, messages or policies there are.
func TestDenialsTellNothing(t *testing.T) {
	t.Parallel()
	l := startWithLamp(t, "--store=memory:")
	if status, body := l.do(t, http.MethodPost, "/things/door/shadow", `{"state":{"reported":{"a":1}}}`, l.root); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := l.do(t, http.MethodPost, "/topics/kept?qos=1&retain=true", `x`, l.root); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	l.mustUmbra(t, `{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "iot:*", "Resource": "arn:aws:iot:*:*:topic*/secret"}}`, "policy", "put", "secret", "-")
	l.mustUmbra(t, "", "policy", "attach", "secret", "user:lamp")
	l.mustUmbra(t, "", "policy", "attach", "device", "user:lamp")
	away := dial(t, l.MQTT(), mqtttest.Options{Version: mqtttest.V5, ClientID: "away", Username: "root", Password: l.adminPassword, Keep: true})
	away.Close()
	dial(t, l.MQTT(), mqtttest.Options{Version: mqtttest.V5, ClientID: "door", Username: "root", Password: l.adminPassword})

	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is refused with %s, want %s", what, got, want)
		}
	}
	for version, want := range map[byte]struct{ stranger, other string }{
		mqtttest.V311: {`0x4 ""`, `0x5 ""`},
		mqtttest.V5:   {`0x86 "bad username or password"`, `0x87 "not authorized"`},
	} {
		for user, password := range map[string]string{
			"lamp": "wrong", "root": "wrong", "nobody": "wrong", "root ": l.adminPassword, "token": "umbra_0123456789abcdef_x", "anonymous": "",
		} {
			check("the user "+user, l.refusal(t, mqtttest.Options{Version: version, ClientID: "lamp", Username: user, Password: password}), want.stranger)
		}
		for _, id := range []string{"door", "away", "unused"} { // connected, with a session, neither
			o := asLamp(id)
			o.Version = version
			check("the client id "+id, l.refusal(t, o), want.other)
		}
		for _, topic := range []string{"kept", "secret", "$aws/things/door/shadow/update", "$aws/things/none/shadow/update"} {
			o := asLamp("lamp")
			o.Version, o.Will = version, &mqtttest.Message{Topic: topic}
			check("a will on "+topic, l.refusal(t, o), want.other)
		}
	}

	lamp := dial(t, l.MQTT(), asLamp("lamp"))
	for _, topic := range []string{"kept", "none", "secret", "$aws/things/door/shadow/update", "$aws/things/none/shadow/update", "$aws/things/door/shadow/get"} {
		ack, err := lamp.Publish(wait(t), mqtttest.Message{Topic: topic, Payload: []byte("{}"), QoS: 1})
		if err != nil {
			t.Fatal(err)
		}
		check("a publish on "+topic, fmt.Sprintf("%#x %q", ack.Code, ack.Reason), `0x87 "not authorized"`)
		if ack, err = lamp.Subscribe(wait(t), topic); err != nil {
			t.Fatal(err)
		}
		check("a subscription to "+topic, fmt.Sprintf("%#x %q", ack.Code, ack.Reason), `0x87 ""`)
	}
	for _, path := range []string{
		"/things/door/shadow", "/things/none/shadow", "/retainedMessage/kept", "/retainedMessage/none", "/connections/door", "/connections/none",
	} {
		status, body := l.do(t, http.MethodGet, path, "", func(r *http.Request) { r.SetBasicAuth("lamp", lampPassword) })
		body, _, _ = strings.Cut(body, `,"traceId"`)
		check(path, fmt.Sprint(status, " ", body), `403 {"message":"Forbidden"`)
	}
}
