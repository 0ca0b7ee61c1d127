package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// connectivity is what the API says of a thing.
type connectivity struct {
	Connected bool
	Since     int64
	Reason    string
}

// presenceOf asks for a thing in the three ways that there are. Its error says that the answers differ, as they may
// while the connectivity changes.
func presenceOf(t *testing.T, url, thing string) (c connectivity, there bool, err error) {
	t.Helper()
	var list struct {
		Things []struct{ Connectivity *connectivity }
	}
	var one, doc struct{ Connectivity *connectivity }
	for path, into := range map[string]any{"/v1/things?prefix=" + thing: &list, "/v1/things/" + thing: &one, "/v1/things/" + thing + "/shadow": &doc} {
		res := rest(t, http.MethodGet, url+path, "")
		if err := json.Unmarshal(res.body, into); err != nil || res.status != http.StatusOK {
			t.Fatalf("GET %s = %d %s", path, res.status, res.body)
		}
	}
	if len(list.Things) != 1 {
		t.Fatalf("things named %s: %+v", thing, list.Things)
	}
	all := []*connectivity{list.Things[0].Connectivity, one.Connectivity, doc.Connectivity}
	for _, c := range all[1:] {
		if (c == nil) != (all[0] == nil) || c != nil && *c != *all[0] {
			return connectivity{}, false, fmt.Errorf("list, thing and shadow disagree about %s: %+v, %+v, %+v", thing, all[0], all[1], all[2])
		}
	}
	if all[0] == nil {
		return c, false, nil
	}
	return *all[0], true, nil
}

// wantPresence waits until a thing is so.
func wantPresence(t *testing.T, url, thing string, connected bool, reason string) (since int64) {
	t.Helper()
	var c connectivity
	eventually(t, func() error {
		var there bool
		var err error
		if c, there, err = presenceOf(t, url, thing); err != nil {
			return err
		}
		if !there || c.Connected != connected || c.Reason != reason {
			return fmt.Errorf("connectivity of %s = %+v, %t, want %t, %q", thing, c, there, connected, reason)
		}
		return nil
	})
	return c.Since
}

func makeThing(t *testing.T, url, thing string) {
	t.Helper()
	if res := rest(t, http.MethodPost, shadowURL(url, thing), `{"state":{"desired":{"on":true}}}`); res.status != http.StatusOK {
		t.Fatalf("POST = %d %s", res.status, res.body)
	}
}

// TestConnectivity connects, takes over, loses and ends connections of a device, and restarts the server in good order
// and by kill -9. What the API says is always about the newest connection.
func TestConnectivity(t *testing.T) {
	t.Parallel()
	start := time.Now().UnixMilli()
	u := umbradtest.Start(t, "--presence")
	makeThing(t, u.URL(), "lamp")
	if since := wantPresence(t, u.URL(), "lamp", false, ""); since != 0 {
		t.Errorf("a thing that never was there has left at %d", since)
	}
	later := func(what string, since int64) {
		t.Helper()
		if now := time.Now().UnixMilli(); since < start || since > now {
			t.Errorf("%s at %d, want within %d and %d", what, since, start, now)
		}
		start = since
	}
	will := &mqtttest.Message{Topic: "$aws/things/lamp/shadow/update", Payload: []byte(`{"state":{"reported":{"gone":true}}}`), QoS: 1}
	connect := func(version byte, will *mqtttest.Message) *mqtttest.Client {
		t.Helper()
		return dial(t, u.MQTT(), mqtttest.Options{Version: version, ClientID: "lamp", Will: will})
	}

	stored := func() { // no connection waits for its presence to be stored, but this message does
		t.Helper()
		c := dial(t, u.MQTT(), mqtttest.Options{})
		if _, err := c.Publish(wait(t), mqtttest.Message{Topic: "stored", Payload: []byte("x"), QoS: 1, Retain: true}); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}

	old := connect(mqtttest.V311, will)
	later("connected", wantPresence(t, u.URL(), "lamp", true, ""))
	c := connect(mqtttest.V5, will)
	<-old.Done()
	later("connected again", wantPresence(t, u.URL(), "lamp", true, ""))
	c.Abort()
	later("lost", wantPresence(t, u.URL(), "lamp", false, "CONNECTION_LOST"))
	c = connect(mqtttest.V311, nil)
	later("back", wantPresence(t, u.URL(), "lamp", true, ""))
	c.Close()
	later("gone", wantPresence(t, u.URL(), "lamp", false, "CLIENT_INITIATED_DISCONNECT"))

	stored() // what is known of those who are not connected stays as it is
	u.Kill()
	u.Restart()
	if since := wantPresence(t, u.URL(), "lamp", false, "CLIENT_INITIATED_DISCONNECT"); since != start {
		t.Errorf("after a restart the thing has left at %d, want %d", since, start)
	}
	connect(mqtttest.V311, will)
	later("connected", wantPresence(t, u.URL(), "lamp", true, ""))
	stored()
	u.Kill()
	u.Restart()
	later("lost with the server", wantPresence(t, u.URL(), "lamp", false, "CONNECTION_LOST"))
	connect(mqtttest.V5, nil)
	later("back", wantPresence(t, u.URL(), "lamp", true, ""))
	u.Stop()
	u.Restart()
	later("left by the server", wantPresence(t, u.URL(), "lamp", false, "SERVER_INITIATED_DISCONNECT"))
}

// TestConnectivityOfPrincipals has two clients of one user, whose name is that of a thing: it is connected while one of them is.
func TestConnectivityOfPrincipals(t *testing.T) {
	t.Parallel()
	l := startWithLamp(t, "--store=memory:", "--presence")
	asRoot := func(id string) *mqtttest.Client {
		return dial(t, l.MQTT(), mqtttest.Options{ClientID: id, Username: "root", Password: l.adminPassword})
	}
	l.mustUmbra(t, "", "set", "root", "on=true")
	want := func(presence string) {
		t.Helper()
		eventually(t, func() error {
			if out := l.mustUmbra(t, "", "ls", "root", "-o", "wide"); !strings.Contains(out, presence) {
				return fmt.Errorf("umbra ls: %s, want %s", out, presence)
			}
			return nil
		})
	}
	first, second := asRoot("one"), asRoot("two")
	want("connected")
	first.Abort()
	l.mustUmbra(t, "", "set", "one", "on=true")
	eventually(t, func() error {
		if out := l.mustUmbra(t, "", "get", "one"); !strings.Contains(out, "offline for ") || !strings.Contains(out, "(CONNECTION_LOST)") {
			return fmt.Errorf("umbra get: %s", out)
		}
		return nil
	})
	want("connected")
	second.Close()
	want("CLIENT_INITIATED_DISCONNECT")
}

// TestNoConnectivity wants nothing of it to be shown unless it is asked for, and none of it on AWS's own paths.
func TestNoConnectivity(t *testing.T) {
	t.Parallel()
	without, with := umbradtest.Start(t, "--store=memory:"), umbradtest.Start(t, "--store=memory:", "UMBRA_PRESENCE=on")
	for _, u := range []*umbradtest.Umbrad{without, with} {
		makeThing(t, u.URL(), "lamp")
		if res := rest(t, http.MethodGet, shadowURL(u.URL(), "lamp"), ""); bytes.Contains(res.body, []byte("connectivity")) {
			t.Errorf("GetThingShadow = %s", res.body)
		}
		_, there, err := presenceOf(t, u.URL(), "lamp")
		if err != nil {
			t.Error(err)
		}
		cmd := exec.CommandContext(wait(t), umbradtest.Build(t, "./cmd/umbra"), "ls")
		cmd.Env = append(os.Environ(), "UMBRA_SERVER="+u.URL(), "XDG_CONFIG_HOME="+t.TempDir())
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if shown := bytes.Contains(out, []byte("PRESENCE")); there != (u == with) || shown != (u == with) {
			t.Errorf("presence is kept: %t; the API has it: %t; umbra ls has it: %t", u == with, there, shown)
		}
	}
}
