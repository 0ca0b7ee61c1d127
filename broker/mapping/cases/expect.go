package cases

import (
	"errors"
	"fmt"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/shadow"
)

func (v *server) expect(s *Step) error {
	switch s.Expect {
	case "shadow":
		return v.expectShadow(s)
	case "command":
		if len(v.commands) == 0 {
			return errors.New("no command was sent")
		}
		c := v.commands[0]
		v.commands = v.commands[1:]
		return Command(s, &c)
	case "no_command":
		if len(v.commands) > 0 {
			return fmt.Errorf("a command was sent: %s", show(&v.commands[0]))
		}
	case "error":
		newest := mapping.Failure{}
		if len(v.failures) > 0 {
			newest = v.failures[len(v.failures)-1]
		}
		v.failures = nil
		if string(newest.Code) != s.Code {
			return fmt.Errorf("the newest error is %q (%s)", newest.Code, newest.Text)
		}
	case "no_error":
		if len(v.failures) > 0 {
			f := v.failures[len(v.failures)-1]
			return fmt.Errorf("the error %s: %s", f.Code, f.Text)
		}
	case "no_thing":
		id := shadow.ID{Thing: s.Thing, Name: s.Shadow}
		if doc := v.docs[id]; doc != nil && !doc.Deleted() {
			return fmt.Errorf("there is the thing: %s", doc.State())
		}
	default:
		return fmt.Errorf("unknown expectation %q", s.Expect)
	}
	return nil
}

func (v *server) expectShadow(s *Step) error {
	id := shadow.ID{Thing: s.Thing, Name: s.Shadow}
	doc := v.docs[id]
	if doc == nil || doc.Deleted() {
		return errors.New("there is no such shadow")
	}
	last, had := v.expected[id]
	v.expected[id] = doc.Version()
	if s.Unchanged && had && last != doc.Version() {
		return fmt.Errorf("the version went from %d to %d", last, doc.Version())
	}
	return Document(s, doc)
}

// Document compares a document with what a step expects of a shadow.
func Document(s *Step, doc *shadow.Document) error {
	if err := same("reported", s.Reported, doc.Reported()); err != nil {
		return err
	}
	if s.Desired != nil {
		if err := same("desired", s.Desired, doc.Desired()); err != nil {
			return err
		}
	}
	if s.Delta == nil {
		return nil
	}
	var delta shadow.Value
	if message := doc.AppendDeltaMessage(nil, 0, ""); len(message) > 0 {
		m, err := shadow.ParseValue(message, shadow.Limits{})
		if err != nil {
			return fmt.Errorf("cases: %w", err)
		}
		delta = m.Member("state")
	}
	return same("delta", s.Delta, delta)
}

// same compares a value with what is expected; no value is an empty object.
func same(name string, want []byte, got shadow.Value) error {
	w, err := shadow.ParseValue(want, shadow.Limits{})
	if err != nil {
		return fmt.Errorf("cases: the expected %s: %w", name, err)
	}
	if !got.Exists() {
		if got, err = shadow.ParseValue([]byte("{}"), shadow.Limits{}); err != nil {
			return fmt.Errorf("cases: %w", err)
		}
	}
	if !w.Equal(got) {
		return fmt.Errorf("%s is %s, want %s", name, got.Raw(), w.Raw())
	}
	return nil
}

// Command compares a command with what a step expects.
func Command(s *Step, c *mapping.Publish) error {
	if s.Topic != "" && c.Topic != s.Topic {
		return fmt.Errorf("the command is %s, want %s", show(c), s.Topic)
	}
	if s.QoS != nil && *s.QoS != c.QoS || s.Retain != nil && *s.Retain != c.Retain {
		return fmt.Errorf("QoS and retain of the command are %d, %v", c.QoS, c.Retain)
	}
	if s.Payload != nil || s.PayloadHex != nil {
		want, err := s.Bytes()
		if err != nil {
			return err
		}
		if string(want) != string(c.Payload) {
			return fmt.Errorf("the payload is %q, want %q", c.Payload, want)
		}
	}
	if s.PayloadJSON == nil {
		return nil
	}
	got, err := shadow.ParseValue(c.Payload, shadow.Limits{})
	if err != nil {
		if got, err = mapping.DecodeSparkplug(c.Payload); err != nil {
			return fmt.Errorf("the payload %q is not JSON", c.Payload)
		}
	}
	return same("payload", s.PayloadJSON, got)
}

func show(c *mapping.Publish) string { return fmt.Sprintf("%s %q", c.Topic, c.Payload) }
