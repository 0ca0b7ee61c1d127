package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/schemas"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// TestHistory writes to a shadow by every way there is and reads who did what.
func TestHistory(t *testing.T) {
	t.Parallel()
	stores := map[string]func(t *testing.T) string{
		"memory": func(*testing.T) string { return "memory:" },
		"pebble": func(t *testing.T) string { return "pebble:" + t.TempDir() },
		"redis":  func(t *testing.T) string { return storetest.Redis(t).URL },
	}
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testHistory(t, umbradtest.Start(t, "--store="+store(t)))
		})
	}
}

func testHistory(t *testing.T, u *umbradtest.Umbrad) {
	t.Helper()
	const topic = "$aws/things/lamp/shadow/update"
	began := time.Now().UnixMilli()
	three := dial(t, u.MQTT(), mqtttest.Options{ClientID: "three"})
	publish(t, three, topic, `{"state":{"reported":{"n":1}},"clientToken":"a"}`)
	five := dial(t, u.MQTT(), mqtttest.Options{ClientID: "five", Version: mqtttest.V5})
	publish(t, five, topic, `{"state":{"reported":{"n":2,"gone":null}}}`)
	if res := rest(t, "POST", shadowURL(u.URL(), "lamp"), `{"state":{"desired":{"n":3}},"clientToken":"ä\"b"}`); res.status != 200 {
		t.Fatalf("POST = %d %s", res.status, res.body)
	}
	dying, err := mqtttest.Dial(wait(t), u.MQTT(), mqtttest.Options{ClientID: "dying", Will: &mqtttest.Message{
		Topic: topic, QoS: 1, Payload: []byte(`{"state":{"reported":{"online":false}}}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	dying.Abort()
	eventually(t, func() error {
		if v := fetch(t, u.URL(), "lamp").Version; v != 4 {
			return fmt.Errorf("version %d, want 4 after the will", v)
		}
		return nil
	})
	publish(t, three, "$aws/things/lamp/shadow/delete", `{"clientToken":"d"}`)
	publish(t, three, topic, `{"state":{"reported":{"n":6}}}`)
	ended := time.Now().UnixMilli()

	// The delete at version 4 makes a tombstone with version 5.
	want := []string{
		`1 update mqtt three {"reported":{"n":1}} a`,
		`2 update mqtt five {"reported":{"n":2,"gone":null}} `,
		`3 update rest  {"desired":{"n":3}} ä"b`,
		`4 update will dying {"reported":{"online":false}} `,
		`5 delete mqtt three  d`,
		`6 update mqtt three {"reported":{"n":6}} `,
	}
	validator, err := schemas.Compile()
	if err != nil {
		t.Fatal(err)
	}
	last := began
	var got []string
	for _, c := range changes(t, u.URL(), "lamp", 0, 6) {
		got = append(got, fmt.Sprintf("%d %s %s %s %s %s", c.Version, c.Op, c.By.Channel, c.By.ClientID, c.State, c.Token))
		if err := validator.Validate("change-event", c.raw); err != nil {
			t.Errorf("change event %s: %v", c.raw, err)
		}
		if c.event != c.Op || c.id != fmt.Sprint(c.Version) || c.Thing != "lamp" || c.Name != "" {
			t.Errorf("change event %s: event %q, id %q", c.raw, c.event, c.id)
		}
		if c.Timestamp < last || c.Timestamp > ended {
			t.Errorf("change %d at %d, want a time in ms between %d and %d", c.Version, c.Timestamp, last, ended)
		}
		last = c.Timestamp
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("changes:\n%s\nwant:\n%s", g, w)
	}
	if resumed := changes(t, u.URL(), "lamp", 4, 6); len(resumed) != 2 || resumed[0].Version != 5 {
		t.Errorf("changes after version 4: %+v, want versions 5 and 6", resumed)
	}
}
