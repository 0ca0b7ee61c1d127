package broker_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

func (s *server) useMappings(t *testing.T, set *mapping.Set) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.UseMappings(ctx, set); err != nil {
		t.Fatal(err)
	}
}

// extendedLamps is lampMapping with a rule more, in front of the others, and another version of one.
const extendedLamps = `
version: 1
mapping: lamps
thing: "{dev}"
link: {path: connected, from: [{topic: "l/{dev}/lwt", map: online}]}
report:
  - {topic: "extra/{dev}", as: auto, to: extra}
  - {topic: "l/{dev}/set/#", ignore: true}
  - {topic: "l/{dev}/{k}", as: auto, to: "{k}"}
commands:
  - {path: other, topic: "extra/{dev}/set"}
  - {path: "{k}", topic: "l/{dev}/set/{k}"}
`

// Devices, links and commands go on when their mapping is replaced; retained messages tell their state to new rules.
func TestMappingsAreReplaced(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]string{"same": lampMapping, "extended": extendedLamps} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, broker.Options{Mappings: mappings(t, lampMapping)})
			device := s.connect(t, connectOptions{id: "dev"})
			device.subscribe(1, "l/a/set/#")
			s.say(t, "extra/a", "1", true)
			s.say(t, "l/a/lwt", "online", false) // not retained: only the engine knows
			s.say(t, "l/a/p", "1", false)
			s.reported(t, "a")
			r := s.things.Do(t.Context(), things.Request{ID: shadow.ID{Thing: "a"}, Op: shadow.OpUpdate, Payload: []byte(`{"state":{"desired":{"p":2}}}`)})
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			device.wantMessage("l/a/set/p")
			before := commandOf(t, s)
			s.useMappings(t, mappings(t, next))
			if after := commandOf(t, s); after != before {
				t.Errorf("after the change the command is %+v, was %+v", after, before)
			}
			got := s.reported(t, "a")
			if !strings.Contains(got, `"connected":true`) || strings.Contains(got, `"extra":1`) != (name == "extended") {
				t.Errorf("reported is %s", got)
			}
			s.say(t, "l/a/p", "2", false)
			if s.reported(t, "a"); commandOf(t, s).state != mapping.StateDone {
				t.Errorf("the answered command is %+v", commandOf(t, s))
			}
		})
	}
}

type command struct {
	state mapping.CommandState
	tries int
	topic string
}

// commandOf returns the command of the device a.
func commandOf(t *testing.T, s *server) command {
	t.Helper()
	s.reported(t, "a")
	list, err := s.MappedDevices(t.Context(), "a")
	if err != nil || len(list) != 1 || len(list[0].Commands) != 1 || list[0].Link != "up" {
		t.Fatalf("devices are %+v, %v", list, err)
	}
	c := list[0].Commands[0]
	return command{c.State, c.Tries, c.Topic}
}

// A mapping that is put in force later finds the clients that are connected, and what they have retained; when it is
// gone its devices are, and its rules take nothing.
func TestMappingsComeAndGo(t *testing.T) {
	t.Parallel()
	empty, _, err := mapping.NewSet(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, broker.Options{Mappings: empty})
	device := s.connect(t, connectOptions{id: "dev", edit: func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillRetain = true, "l/a/lwt", []byte("offline"), true
	}})
	s.say(t, "l/a/lwt", "online", true)
	s.say(t, "l/a/p", "1", true)
	s.useMappings(t, mappings(t, lampMapping))
	if got := s.reported(t, "a"); got != `{"reported":{"connected":true,"p":1}}` {
		t.Errorf("state is %s", got)
	}
	_ = device.conn.Close()
	eventually(t, "the link to be false", func() bool { return strings.Contains(s.reported(t, "a"), `"connected":false`) })
	s.useMappings(t, mappings(t, strings.ReplaceAll(lampMapping, "mapping: lamps", "mapping: other")))
	s.say(t, "l/a/p", "2", false)
	if got := s.reported(t, "a"); !strings.Contains(got, `"p":2`) || len(s.MappingErrors().Last) > 0 {
		t.Errorf("state is %s, errors %+v", got, s.MappingErrors().Last)
	}
	s.useMappings(t, empty)
	s.say(t, "l/a/p", "3", false)
	if got := s.reported(t, "a"); !strings.Contains(got, `"p":2`) {
		t.Errorf("without mappings the state is %s", got)
	}
	if list, err := s.MappedDevices(t.Context(), "a"); err != nil || len(list) != 0 {
		t.Errorf("devices are %+v, %v", list, err)
	}
}
