// Package things is the service: the only writer of shadows.
package things

import (
	"context"
	"log/slog"
	"time"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
)

// Publisher delivers messages. Publish is called in the order in which messages have to leave (per
// shadow) and must not block on a receiver.
type Publisher interface {
	Publish(m *Message)
}

// Message is one message of the service. Its payload is made when somebody first asks for it, so a
// Publisher that finds no receiver does not call Payload.
type Message struct {
	Topic   string
	ID      shadow.ID
	Op      shadow.Op
	Kind    shadow.Kind
	Version uint64 // of the shadow after the operation; 0 in rejected
	todo    int
}

// Payload returns the message's body. Do not change it.
func (m *Message) Payload() []byte { panic("todo") }

// Request asks for one operation on one shadow.
type Request struct {
	ID      shadow.ID
	Op      shadow.Op
	Payload []byte // request document; not changed and not reused by the caller until done
	Expect  uint64 // version that must be current (If-Match), 0 for any; besides the one in the payload
	Author  shadow.Author
	Quiet   bool // no accepted (get) and no rejected messages: the answer goes by another way (REST)
}

// Result is the outcome of a request.
type Result struct {
	Version uint64        // after the operation (delete: the version that was deleted)
	Err     *shadow.Error // why it was refused; Code 500 for a store failure: nothing (or an unknown) was stored
	todo    int
}

// Body returns the accepted document or the rejected one.
func (r *Result) Body() []byte { panic("todo") }

// Options of a Service.
type Options struct {
	Store         statestore.Store
	Publisher     Publisher
	Limits        shadow.Limits
	Log           *slog.Logger
	Now           func() time.Time
	CacheBytes    int64         // budget of cached documents, default 64 MiB
	CommitTimeout time.Duration // default 5 s
}

// Service answers requests.
type Service struct{ todo int }

// New returns a service. Call Start before the first request.
func New(o Options) *Service { panic("todo") }

// Start replays the outbox: it announces what was committed but not announced before a crash.
func (s *Service) Start(ctx context.Context) error { panic("todo") }

// Close waits for the requests under way.
func (s *Service) Close(ctx context.Context) error { panic("todo") }

// Submit queues a request and returns. done is called once, after the commit and after the messages of the
// operation were handed to the Publisher, from another goroutine or this one; it must not block.
// Requests for one shadow are done in the order of Submit.
func (s *Service) Submit(req Request, done func(*Result)) { panic("todo") }

// Do is Submit that waits. When ctx ends first, the outcome is unknown and Result.Err has code 500.
func (s *Service) Do(ctx context.Context, req Request) *Result { panic("todo") }

// Document returns the current document (nil when there is none or it is deleted).
func (s *Service) Document(ctx context.Context, id shadow.ID) (*shadow.Document, error) {
	panic("todo")
}

// AnnounceDelta hands deliver the current delta message of id (for delta on subscribe), in order with
// the messages of updates; not called when in sync or when there is no shadow.
func (s *Service) AnnounceDelta(id shadow.ID, deliver func(*Message)) { panic("todo") }

// ShadowInfo describes a shadow in a list.
type ShadowInfo struct {
	Name     string
	Version  uint64
	Modified int64 // ms
	InSync   bool
}

// Things lists names of things with a shadow: see statestore.Store.
func (s *Service) Things(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	panic("todo")
}

// Shadows lists the shadows of a thing in order of name, the classic one first, from after on (first: from the start).
func (s *Service) Shadows(ctx context.Context, thing, after string, first bool, limit int) ([]ShadowInfo, error) {
	panic("todo")
}

// Changes returns up to limit history entries of a shadow with versions above after, rising.
func (s *Service) Changes(ctx context.Context, id shadow.ID, after uint64, limit int) ([]*shadow.HistoryEntry, error) {
	panic("todo")
}

// Ready reports whether the store answers.
func (s *Service) Ready(ctx context.Context) error { panic("todo") }
