package session

import (
	"iter"

	"github.com/umbra-iot/umbra/broker/wire"
)

// Pending iterates over the messages that the client may still get, in their order: those in flight that are
// not yet received, then those that wait and are not spilled. The session must not change meanwhile.
func (s *Session) Pending() iter.Seq[*wire.Message] {
	return func(yield func(*wire.Message) bool) {
		for id := s.window.first; id != 0; id = s.window.at(id).next {
			if m := s.window.at(id).Message; m != nil && !yield(m) {
				return
			}
		}
		for i := range s.waiting.len() {
			if m := s.waiting.at(i).Message; m != nil && !yield(m) {
				return
			}
		}
	}
}
