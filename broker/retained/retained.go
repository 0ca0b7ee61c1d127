// Package retained keeps the retained messages of a broker, in memory and in the order of their topics.
package retained

import (
	"errors"

	"github.com/umbra-iot/umbra/broker/wire"
)

// ErrFull is returned by [Store.Set] when a limit is reached.
var ErrFull = errors.New("retained: store is full")

// Limits bound a store; 0 means no limit.
type Limits struct {
	Messages int
	Bytes    int64 // sum of [wire.Message.Size]
}

// Message is a retained message. All times are ms since the Unix epoch.
type Message struct {
	*wire.Message
	Modified int64
}

// Page is a part of an answer. Unless Done, ask again with Next as after.
type Page struct {
	Messages []Message
	Next     string
	Done     bool
}

// Store keeps one message for each topic. Its methods may be called concurrently.
type Store struct{}

// New returns an empty store.
func New(l Limits) *Store { panic("not yet") }

// Set makes m the retained message of its topic; one with an empty payload deletes it [MQTT-3.3.1-6].
// The error is [ErrFull]; nothing changed then.
func (s *Store) Set(m *wire.Message, now int64) error { panic("not yet") }

// Delete removes the message of topic and reports whether there was one.
func (s *Store) Delete(topic string) bool { panic("not yet") }

// Get returns the message of topic unless it has expired.
func (s *Store) Get(topic string, now int64) (Message, bool) { panic("not yet") }

// Match returns messages whose topics match filter and come after the topic after ("" for the first page),
// in the order of topics. It examines at most limit messages, so a page may be empty and not the last.
func (s *Store) Match(filter, after string, limit int, now int64) Page { panic("not yet") }

// List returns at most limit messages, of any topic, that come after the topic after.
func (s *Store) List(after string, limit int, now int64) Page { panic("not yet") }

// Expire deletes at most limit expired messages and returns how many.
func (s *Store) Expire(now int64, limit int) int { panic("not yet") }

// NextExpiry returns when the next message expires; ok is false when none ever does.
func (s *Store) NextExpiry() (at int64, ok bool) { panic("not yet") }

// Len returns the number of messages, those included that have expired but were not yet deleted.
func (s *Store) Len() int { panic("not yet") }

// Bytes returns the sum of the sizes of the messages that Len counts.
func (s *Store) Bytes() int64 { panic("not yet") }
