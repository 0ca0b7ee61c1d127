// Package cases runs sequences of MQTT messages against mappings and compares the shadows and the
// commands that come out with what a file expects. Time is virtual.
//
// docs/mappings.md describes the format of the files; `umbra mapping test` is made of this package.
package cases

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/umbra-iot/umbra/broker/mapping"
)

// File is a file of sequences.
type File struct {
	Mapping   json.RawMessage `json:"mapping"` // of all sequences, unless others are given
	Sequences []Sequence      `json:"sequences"`
}

// Sequence is one sequence of steps, from an empty server on.
type Sequence struct {
	ID       string                     `json:"id"`
	Title    string                     `json:"title"`
	Override map[string]json.RawMessage `json:"mapping_override"` // replaces keys of the mapping
	Steps    []Step                     `json:"steps"`
}

// Step is something that happens (Do) or is expected.
type Step struct {
	Do     string `json:"do"`     // connect, publish, subscribe, kill, disconnect, desired, retained_at_start, advance
	Expect string `json:"expect"` // shadow, command, no_command, error, no_error, no_thing
	Why    string `json:"why"`

	Client     string            `json:"client"`
	User       string            `json:"user"`
	Will       *Will             `json:"will"`
	Topic      string            `json:"topic"`
	Payload    *string           `json:"payload"`
	PayloadHex *string           `json:"payload_hex"`
	QoS        *byte             `json:"qos"`
	Retain     *bool             `json:"retain"`
	Filter     string            `json:"filter"`
	Messages   map[string]string `json:"messages"`
	Seconds    float64           `json:"seconds"`

	Thing       string          `json:"thing"`
	Shadow      string          `json:"shadow"`
	State       json.RawMessage `json:"state"`
	Reported    json.RawMessage `json:"reported"`
	Desired     json.RawMessage `json:"desired"`
	Delta       json.RawMessage `json:"delta"`
	Unchanged   bool            `json:"version_unchanged_since"`
	PayloadJSON json.RawMessage `json:"payload_json"`
	Code        string          `json:"code"`
}

// Will is the will of a client.
type Will struct {
	Topic      string  `json:"topic"`
	Payload    string  `json:"payload"`
	PayloadHex *string `json:"payload_hex"`
	QoS        byte    `json:"qos"`
	Retain     bool    `json:"retain"`
}

// Bytes returns the payload of a will.
func (w *Will) Bytes() ([]byte, error) { return payload(&w.Payload, w.PayloadHex) }

// Bytes returns the payload of a step.
func (s *Step) Bytes() ([]byte, error) { return payload(s.Payload, s.PayloadHex) }

func payload(text, digits *string) ([]byte, error) {
	switch {
	case digits != nil:
		b, err := hex.DecodeString(*digits)
		if err != nil {
			return nil, fmt.Errorf("payload_hex: %w", err)
		}
		return b, nil
	case text != nil:
		return []byte(*text), nil
	}
	return nil, nil
}

// String names a step in messages.
func (s *Step) String() string {
	parts := []string{s.Do + s.Expect}
	for _, p := range []string{s.Client, s.Topic, s.Filter, s.Thing, s.Code} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, " ")
}

// Parse parses a file of sequences.
func Parse(text []byte) (*File, error) {
	var f File
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("cases: %w", err)
	}
	if len(f.Sequences) == 0 {
		return nil, errors.New("cases: the file has no sequences")
	}
	return &f, nil
}

// Set returns the mappings of a sequence: those that are given, or that of the file.
func (f *File) Set(s *Sequence, given []*mapping.Mapping) (*mapping.Set, error) {
	if given == nil {
		text, err := f.MappingText(s)
		if err != nil {
			return nil, err
		}
		if given, _, err = mapping.Load(s.ID, text); err != nil {
			return nil, fmt.Errorf("cases: %w", err)
		}
	}
	set, _, err := mapping.NewSet(given)
	if err != nil {
		return nil, fmt.Errorf("cases: %w", err)
	}
	return set, nil
}

// MappingText returns the mapping of a sequence, with what it overrides.
func (f *File) MappingText(s *Sequence) ([]byte, error) {
	if len(f.Mapping) == 0 {
		return nil, errors.New("cases: the file has no mapping, and none is given")
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(f.Mapping, &keys); err != nil {
		return nil, fmt.Errorf("cases: mapping: %w", err)
	}
	maps.Copy(keys, s.Override)
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("cases: mapping: %w", err)
	}
	return text, nil
}
