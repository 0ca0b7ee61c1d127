package mapping

import (
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// Saved is what has to be kept of a device over a restart.
type Saved struct {
	Mapping  string         `json:"mapping"`
	Thing    string         `json:"thing"`
	Shadow   string         `json:"shadow,omitempty"`
	Identity []string       `json:"identity"`
	Seen     int64          `json:"seen"` // ms since the epoch of its last message
	Births   *births        `json:"births,omitempty"`
	Commands []SavedCommand `json:"commands,omitempty"`
	Ended    []string       `json:"ended,omitempty"` // the slots whose session ended without a word
}

// Key identifies the device among all of its store. It has no byte below 0x21.
func (s *Saved) Key() string {
	quote := strings.NewReplacer("%", "%25", " ", "%20", "\x00", "%00", "\t", "%09", "\n", "%0A", "\r", "%0D", "/", "%2F")
	parts := []string{quote.Replace(s.Mapping)}
	for _, i := range s.Identity {
		parts = append(parts, quote.Replace(i))
	}
	return strings.Join(parts, "/")
}

// SavedCommand is the state of a command.
type SavedCommand struct {
	Key    string           `json:"key"`
	Topic  string           `json:"topic"`
	State  CommandState     `json:"state"`
	Tries  int              `json:"tries,omitempty"`
	SentAt int64            `json:"sent_at,omitempty"`
	Due    int64            `json:"due,omitempty"`
	Text   string           `json:"message,omitempty"`
	Set    map[string]int64 `json:"set,omitempty"` // when its leaves were set in desired, by path
}

// save returns what is to be stored of a binding.
func (b *binding) save() *Saved {
	s := &Saved{
		Mapping: b.state.m.name, Thing: b.id.Thing, Shadow: b.id.Name,
		Identity: b.identity, Seen: b.seen, Births: b.births,
	}
	for _, sl := range b.slots {
		if sl != nil && sl.ended {
			s.Ended = append(s.Ended, sl.key)
		}
	}
	for _, c := range b.ordered() {
		sc := SavedCommand{Key: c.key, Topic: c.topic, State: c.state, Tries: c.tries, SentAt: c.sentAt, Text: c.text, Set: map[string]int64{}}
		if c.state == StatePending {
			sc.Due = c.due
		}
		for _, l := range c.leaves {
			sc.Set[strings.Join(l.path, "\x00")] = l.at
		}
		s.Commands = append(s.Commands, sc)
	}
	return s
}

// Restore takes a device of an earlier run, before the first message. Devices of mappings that are
// gone, or identify their devices otherwise now, are ignored; false says so.
func (e *Engine) Restore(in *Saved) bool {
	i := slices.IndexFunc(e.states, func(s *mappingState) bool { return s.m.name == in.Mapping })
	return i >= 0 && e.restore(e.states[i], in) != nil
}

// restore makes the binding of a device that is known; nil when its mapping makes another one of it now.
func (e *Engine) restore(s *mappingState, in *Saved) *binding {
	if len(s.m.identity) != len(in.Identity) || s.find(in.Identity) != nil {
		return nil
	}
	b := &binding{
		state: s, id: shadow.ID{Thing: in.Thing, Name: in.Shadow}, identity: in.Identity,
		commands: map[string]*commandState{}, seen: in.Seen, storedAt: in.Seen, births: in.Births, saved: in,
	}
	if b.id.Validate() != nil || !b.named() {
		return nil
	}
	e.addBinding(b)
	for i := range b.state.kinds {
		if k := &b.state.kinds[i]; slices.Contains(in.Ended, k.key(b.identity)) {
			sl := b.state.slot(k, b.identity)
			sl.known, sl.up, sl.ended = true, false, true
		}
	}
	return b
}

// named reports that the mapping would give the binding the name that it has. What payloads have said is not known.
func (b *binding) named() bool {
	if slices.ContainsFunc(b.state.m.identity, func(t *term) bool { return t.payload != nil }) {
		return true
	}
	env := b.environment(nil)
	env.thing = ""
	thing, _, ok := b.state.m.thing.render(&env.environment)
	name, _, _ := b.state.m.shadow.render(&env.environment)
	return ok && b.id == shadow.ID{Thing: thing, Name: name}
}

// Bindings calls fn for every device, in no order.
func (e *Engine) Bindings(fn func(*Saved)) {
	for _, s := range e.states {
		for _, b := range s.bindings {
			fn(b.save())
		}
	}
}

// CommandStatus is a command as operators see it.
type CommandStatus struct {
	Path   []string     `json:"path"` // the first that is outstanding, or what the command was about
	Topic  string       `json:"topic"`
	State  CommandState `json:"state"`
	Tries  int          `json:"tries"`
	SentAt int64        `json:"sentAt,omitempty"` // ms since the epoch
	Text   string       `json:"message,omitempty"`
}

// DeviceStatus is a device as operators see it.
type DeviceStatus struct {
	Mapping   string          `json:"mapping"`
	Thing     string          `json:"thing"`
	Shadow    string          `json:"shadow,omitempty"`
	Identity  []string        `json:"identity"`
	Link      string          `json:"link"`               // up, down or unknown
	Seen      int64           `json:"seen"`               // ms since the epoch of its last message
	Commands  []CommandStatus `json:"commands,omitempty"` // in the order of the rules
	Uncovered [][]string      `json:"uncovered,omitempty"`
}

// Devices returns the devices of a thing.
func (e *Engine) Devices(thing string) []DeviceStatus {
	var out []DeviceStatus
	for _, b := range e.things[thing] {
		d := DeviceStatus{
			Mapping: b.state.m.name, Thing: b.id.Thing, Shadow: b.id.Name, Identity: b.identity, Seen: b.seen,
			Link: [...]string{"unknown", "down", "up"}[b.link], Uncovered: slices.Clone(b.uncovered),
		}
		for _, c := range b.ordered() {
			s := CommandStatus{Path: []string{}, Topic: c.topic, State: c.state, Tries: c.tries, SentAt: c.sentAt, Text: c.text}
			if len(c.leaves) > 0 {
				s.Path = c.leaves[0].path
			}
			d.Commands = append(d.Commands, s)
		}
		out = append(out, d)
	}
	return out
}

// Count returns how many devices a mapping has.
func (e *Engine) Count(name string) int {
	for _, s := range e.states {
		if s.m.name == name {
			return len(s.bindings)
		}
	}
	return 0
}

// adopt takes over the state that a command had in the last run.
func (c *commandState) adopt(saved *Saved) {
	if saved == nil {
		return
	}
	rule := func(k string) string { // rules may have been put before it since
		_, about, _ := strings.Cut(k, "\x00")
		return about
	}
	for _, s := range saved.Commands {
		if rule(s.Key) == rule(c.key) {
			c.state, c.tries, c.sentAt, c.due, c.text = s.State, s.Tries, s.SentAt, s.Due, s.Text
			c.set = s.Set
		}
	}
}

// resumed reports that a command goes on from the last run, since what is outstanding is the same.
func (c *commandState) resumed(now int64) bool {
	set := c.set
	c.set = nil
	if set == nil || c.state == StateHeld || c.state == StateNoSubscriber || c.state == StateDone {
		return false
	}
	for _, l := range c.leaves {
		if at, ok := set[strings.Join(l.path, "\x00")]; !ok || at != l.at {
			return false
		}
	}
	if c.state == StatePending {
		c.due = max(c.due, now+1)
	} else {
		c.due = 0
	}
	return true
}

// sortBindings puts bindings in a fixed order.
func sortBindings(list []*binding) []*binding {
	slices.SortFunc(list, func(a, b *binding) int { return slices.Compare(a.identity, b.identity) })
	return list
}
