package things

import (
	"context"

	"github.com/umbra-iot/umbra/shadow"
)

// Request asks for one operation on one shadow.
type Request struct {
	ID      shadow.ID
	Op      shadow.Op
	Payload []byte        // the request document; neither the caller nor the service changes it afterwards
	Author  shadow.Author // who asks
	Quiet   bool          // publish neither get/accepted nor rejected: the caller answers by itself, as REST does

	// Build, for an update, makes the request document from the current document, which is nil when there is no
	// shadow, in place of Payload. With neither payload nor refusal there is nothing to do: the request is accepted,
	// and makes no version and no message. It runs like If.
	Build func(current *shadow.Document) (payload []byte, refusal *shadow.Error)

	// If is a condition on the current version, which is 0 when there is no shadow, besides the one in the
	// payload; nil is none. What does not meet it is refused with code 412. It runs on the service's goroutine,
	// perhaps more than once, and must not block.
	If func(version uint64) bool
}

// Result is the outcome of a request.
type Result struct {
	Version uint64        // after the operation; of a delete the version that was deleted
	Err     *shadow.Error // why it was refused, nil when accepted; with Code 500 the outcome is unknown
	answer  *Message
}

// Body returns the accepted or the rejected document. The caller must not change it.
func (r *Result) Body() []byte { return r.answer.Payload() }

// kind tells what a call asks of its lane.
type kind uint8

const (
	kindRequest kind = iota // a Request
	kindPeek                // the document, for Document
	kindDelta               // the current delta message, for AnnounceDelta
	kindRecover             // nothing but to load the document and announce what an unknown commit left
)

// call is a request on its way through a lane, with room for all that it
// produces, so that an update costs one allocation here.
type call struct {
	kind    kind
	req     Request
	parsed  *shadow.Request // of an update
	token   string
	failed  *shadow.Error // refusal found before the document was looked at
	quota   bool          // counted by the quota
	nothing bool          // Build has found nothing to do
	done    func(*Result)
	peeked  func(*shadow.Document, *shadow.Error)
	deltas  func(*Message)

	change    *shadow.Change
	result    Result
	answer    Message
	delta     Message
	documents Message
}

// internalFailure is the refusal for everything that is not the requester's fault.
func internalFailure(token string) *shadow.Error {
	return &shadow.Error{Code: 500, Message: "Internal service failure", Token: token}
}

// Submit queues a request and returns. done is called once: after the commit
// and after the messages of the operation were handed to the Publisher. It
// runs on the service's or the caller's goroutine and must not block.
func (s *Service) Submit(req Request, done func(*Result)) {
	c := &call{req: req, done: done}
	switch req.Op {
	case shadow.OpUpdate:
		if req.Build == nil {
			c.parse(s.limits)
		}
	default:
		c.token = shadow.ParseToken(req.Payload, s.limits)
	}
	if err := req.ID.Validate(); err != nil {
		c.failed = asRefusal(err)
	}
	if c.failed == nil {
		if c.quota = s.quota.take(&c.req, s.now()); !c.quota {
			c.failed = &shadow.Error{Code: 429, Message: "Too many requests", Token: c.token}
		}
	}
	s.enqueue(req.ID, c)
}

func (c *call) parse(lim shadow.Limits) {
	parsed, err := shadow.ParseUpdate(c.req.Payload, lim)
	if err != nil {
		c.failed = asRefusal(err)
		c.token = c.failed.Token
		return
	}
	c.parsed, c.token = parsed, parsed.Token()
}

// Do is Submit that waits. When ctx ends first the outcome is unknown and
// the result has Err with code 500.
func (s *Service) Do(ctx context.Context, req Request) *Result {
	ch := make(chan *Result, 1)
	s.Submit(req, func(r *Result) { ch <- r })
	select {
	case r := <-ch:
		return r
	case <-ctx.Done():
		refusal := internalFailure("")
		return &Result{Err: refusal, answer: &Message{
			ID: req.ID, Op: req.Op, Kind: shadow.KindRejected, Time: s.now(), refusal: refusal,
		}}
	}
}

// Document returns the current document, nil when there is none or it is deleted.
func (s *Service) Document(ctx context.Context, id shadow.ID) (*shadow.Document, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	type answer struct {
		doc *shadow.Document
		err *shadow.Error
	}
	ch := make(chan answer, 1)
	s.enqueue(id, &call{kind: kindPeek, peeked: func(d *shadow.Document, err *shadow.Error) { ch <- answer{d, err} }})
	select {
	case a := <-ch:
		if a.err != nil {
			return nil, a.err
		}
		if a.doc.Deleted() {
			return nil, nil
		}
		return a.doc, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Peek gives peeked the current document in order with the requests for its shadow, nil when there is none or it is
// deleted. It does not wait; peeked runs on the service's or the caller's goroutine and must not block.
func (s *Service) Peek(id shadow.ID, peeked func(*shadow.Document, *shadow.Error)) {
	if err := id.Validate(); err != nil {
		peeked(nil, asRefusal(err))
		return
	}
	s.enqueue(id, &call{kind: kindPeek, peeked: func(d *shadow.Document, err *shadow.Error) {
		if d.Deleted() {
			d = nil
		}
		peeked(d, err)
	}})
}

// AnnounceDelta hands deliver the current delta message of a shadow, in order
// with the messages of updates. It calls deliver once: with nil when desired
// and reported agree, when there is no shadow, or when the store fails.
func (s *Service) AnnounceDelta(id shadow.ID, deliver func(*Message)) {
	if id.Validate() != nil {
		deliver(nil)
		return
	}
	s.enqueue(id, &call{kind: kindDelta, deltas: deliver})
}
