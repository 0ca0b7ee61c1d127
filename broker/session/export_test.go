package session

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Dump describes what has to be the same after a Restore.
func (s *Session) Dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "expiry %d, %d bytes\n", s.params.Expiry, s.Bytes())
	if !s.connected {
		fmt.Fprintf(&b, "ended %d\n", s.ended)
	}
	for _, sub := range s.subscriptions {
		fmt.Fprintf(&b, "subscription %+v\n", sub)
	}
	for _, sc := range s.scans {
		fmt.Fprintf(&b, "scan %+v\n", sc)
	}
	for _, id := range slices.Sorted(maps.Keys(s.inbound)) {
		fmt.Fprintf(&b, "inbound %d %+v\n", id, s.inbound[id])
	}
	delivery := func(d *Delivery) {
		if m := d.Message; m != nil {
			fmt.Fprintf(&b, " %s %q QoS %d of %d, retain %t %t, %d, %+v", m.Topic, m.Payload, d.QoS, m.QoS, d.Retain, m.Retain, d.Identifiers, m.Properties)
		}
		b.WriteString("\n")
	}
	for id := s.window.first; id != 0; id = s.window.at(id).next {
		f := s.window.at(id)
		fmt.Fprintf(&b, "flight %d, id %d, released %t", f.seq, f.id, f.released)
		delivery(&f.Delivery)
	}
	for i := range s.waiting.len() {
		h := s.waiting.at(i)
		fmt.Fprintf(&b, "waits %d", h.seq)
		delivery(&h.Delivery)
	}
	return b.String()
}
