package cases_test

import (
	"testing"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/mapping/cases"
)

// TestPresets runs the sequences of the ecosystems with the mappings that come with the program, all
// of them loaded at once.
func TestPresets(t *testing.T) {
	t.Parallel()
	all := presets(t)
	for file, skip := range map[string]string{
		"tasmota": "", "zigbee2mqtt": "", "shelly-gen1": "", "shelly-gen2": "", "esphome": "", "homie4": "", "homie5": "",
		"openmqttgateway-theengs": "omgble-03", // has another thing
		"wled":                    "", "generic": "",
	} {
		f := load(t, "testdata/"+file+".json")
		for i := range f.Sequences {
			s := &f.Sequences[i]
			if s.ID == skip {
				continue
			}
			t.Run(s.ID, func(t *testing.T) {
				t.Parallel()
				if err := cases.Run(f, s, all); err != nil {
					t.Errorf("%s: %v", s.Title, err)
				}
			})
		}
	}
}

func presets(t *testing.T) []*mapping.Mapping {
	t.Helper()
	var all []*mapping.Mapping
	names := mapping.Presets()
	if len(names) < 12 {
		t.Fatalf("Presets() = %v", names)
	}
	for _, name := range names {
		text, ok := mapping.Preset(name)
		if !ok {
			t.Fatalf("Preset(%s) is not there", name)
		}
		m, warnings, err := mapping.Load(name, text)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: %v, %v", name, err, warnings)
		}
		all = append(all, m...)
	}
	return all
}
