package things

import (
	"context"
	"errors"
	"sync"

	"github.com/umbra-iot/umbra/shadow"
)

// Publisher delivers messages.
type Publisher interface {
	// Publish is called in the order in which the messages of a shadow have to leave,
	// and must not wait for a receiver.
	Publish(m *Message)

	// Flush waits until everything that was published before survives a crash as far as it
	// has to: what is announced and flushed is not announced again after a restart. An error
	// means that this is not known.
	Flush(ctx context.Context) error
}

// Publishers hands every message to each of its members in turn.
type Publishers []Publisher

// Publish implements Publisher.
func (p Publishers) Publish(m *Message) {
	for _, pub := range p {
		pub.Publish(m)
	}
}

// Flush implements Publisher.
func (p Publishers) Flush(ctx context.Context) error {
	var errs []error
	for _, pub := range p {
		errs = append(errs, pub.Flush(ctx))
	}
	return errors.Join(errs...)
}

// Message is one message of the service. Its payload is made when somebody
// first asks for it: a Publisher that finds no receiver does not call Payload.
type Message struct {
	Topic   string
	ID      shadow.ID
	Op      shadow.Op
	Kind    shadow.Kind
	Version uint64 // of the shadow after the operation (of the deleted document in delete/accepted), 0 in rejected
	Time    int64  // ms since the epoch

	// Replayed says that the message may have been published before, by a process that did not
	// live to note that. It is not needed where it already is.
	Replayed bool

	change   *shadow.Change   // of accepted, delta and documents after an update or delete
	document *shadow.Document // of get/accepted and of a delta without an update
	refusal  *shadow.Error    // of rejected
	token    string           // clientToken as a JSON string, "" without one
	once     sync.Once
	payload  []byte
}

// Change returns the change that accepted, delta and documents after an update or delete tell of, nil for other messages.
func (m *Message) Change() *shadow.Change { return m.change }

// Payload returns the body of the message, nil if there is nothing to say.
// The caller must not change it. It may be called by several goroutines.
func (m *Message) Payload() []byte {
	m.once.Do(m.render)
	return m.payload
}

func (m *Message) render() {
	dst := make([]byte, 0, m.sizeHint())
	switch {
	case m.refusal != nil:
		dst = m.refusal.AppendRejected(dst, m.Time)
	case m.change != nil && m.Kind == shadow.KindAccepted:
		dst = m.change.AppendAccepted(dst)
	case m.change != nil && m.Kind == shadow.KindDelta:
		dst = m.change.AppendDelta(dst)
	case m.change != nil && m.Kind == shadow.KindDocuments:
		dst = m.change.AppendDocuments(dst)
	case m.Kind == shadow.KindDelta:
		dst = m.document.AppendDeltaMessage(dst, m.Time, m.token)
	default:
		dst = m.document.AppendGet(dst, m.Time, m.token)
	}
	m.payload = dst
}

// sizeHint guesses the length of the payload, so that most are made with one allocation.
func (m *Message) sizeHint() int {
	const small = 512
	switch {
	case m.Kind == shadow.KindDocuments:
		return small + m.change.Before.Size() + m.change.After.Size()
	case m.document != nil && m.Kind == shadow.KindAccepted:
		return small + m.document.Size()
	}
	return small
}
