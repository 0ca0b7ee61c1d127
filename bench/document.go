package bench

import (
	"bytes"
	"fmt"
	"strconv"
)

// The documents of the load: 30 keys three levels below the section, about 1 KB of compact JSON, of
// which an update reports three.
const (
	groups     = 10
	groupKeys  = 3
	valueBytes = 22
)

// appendGroup appends "gN":{"kN":"value",…} with values that differ by seq.
func appendGroup(b []byte, group, seq int) []byte {
	b = append(b, `"g`...)
	b = strconv.AppendInt(b, int64(group), 10)
	b = append(b, `":{`...)
	for k := range groupKeys {
		if k > 0 {
			b = append(b, ',')
		}
		b = append(b, `"key`...)
		b = strconv.AppendInt(b, int64(k), 10)
		b = append(b, `":"`...)
		from := len(b)
		b = strconv.AppendInt(b, int64(seq), 10)
		for len(b)-from < valueBytes {
			b = append(b, 'x')
		}
		b = append(b, '"')
	}
	return append(b, '}')
}

// seedUpdate is the update that makes a shadow.
func seedUpdate() []byte {
	b := []byte(`{"state":{"reported":{"telemetry":{`)
	for g := range groups {
		if g > 0 {
			b = append(b, ',')
		}
		b = appendGroup(b, g, 0)
	}
	return append(b, `}}}}`...)
}

// appendUpdate appends the update seq of a device.
func appendUpdate(b []byte, device, seq int) []byte {
	b = append(b, `{"state":{"reported":{"telemetry":{`...)
	b = appendGroup(b, seq%groups, seq)
	b = append(b, `}}},"clientToken":"`...)
	b = strconv.AppendInt(b, int64(device), 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(seq), 10)
	return append(b, `"}`...)
}

// shadows is the traffic of devices that report to their shadows and hear update/accepted.
func shadows(run string) traffic {
	return traffic{
		topics: func(device int) (publish, subscribe string) {
			publish = "$aws/things/" + run + strconv.Itoa(device) + "/shadow/update"
			return publish, publish + "/accepted"
		},
		seed:    func(int) []byte { return seedUpdate() },
		message: appendUpdate,
		check: func(device, seq int, payload []byte) error {
			// The seed made version 1, so update seq makes version seq + 1.
			version := []byte(`"version":` + strconv.Itoa(seq+1) + `,`)
			token := []byte(`"clientToken":"` + strconv.Itoa(device) + "-" + strconv.Itoa(seq) + `"`)
			if !bytes.Contains(payload, version) || !bytes.Contains(payload, token) {
				return fmt.Errorf("update %d was answered with %.500s", seq, payload)
			}
			return nil
		},
	}
}

// plain is the same traffic without shadows: devices publish the same bytes and hear them.
func plain(run string) traffic {
	tr := shadows(run)
	tr.topics = func(device int) (publish, subscribe string) {
		publish = "bench/things/" + run + strconv.Itoa(device) + "/shadow/update"
		return publish, publish
	}
	tr.seed = func(int) []byte { return nil }
	tr.check = func(device, seq int, payload []byte) error {
		if !bytes.Equal(payload, appendUpdate(nil, device, seq)) {
			return fmt.Errorf("message %d came back as %.500s", seq, payload)
		}
		return nil
	}
	return tr
}
