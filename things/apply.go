package things

import "github.com/umbra-iot/umbra/shadow"

// apply does the calls of a job on the lane's document, in order, without
// committing anything. It reports false when a refusal rests on a document
// that may be stale: then the job has to start again with a fresh one.
func (w *worker) apply(j *job, now int64) bool {
	j.doc, j.change, j.at = j.lane.doc, false, now
	trusted := j.fresh || !w.s.store.Shared()
	for _, c := range j.calls {
		c.change = nil
		if c.kind != kindRequest {
			continue
		}
		refusal := c.failed
		if refusal == nil {
			refusal = w.applyRequest(j, c, now)
			if (refusal != nil || c.nothing) && !trusted {
				return false
			}
		}
		if refusal != nil {
			w.s.refuse(j.lane, c, refusal)
		}
	}
	return true
}

// applyRequest does one request that was well formed, and fills in the call's messages.
func (w *worker) applyRequest(j *job, c *call, now int64) *shadow.Error {
	if c.req.If != nil && !c.req.If(liveVersion(j.doc)) {
		return &shadow.Error{Code: 412, Message: "The shadow does not meet the condition of the request", Token: c.token}
	}
	if c.req.Op == shadow.OpUpdate && c.req.Build != nil {
		if refusal := w.build(j, c); refusal != nil || c.nothing {
			return refusal
		}
	}
	var err error
	switch c.req.Op {
	case shadow.OpUpdate:
		c.change, err = shadow.Apply(j.doc, c.parsed, now, w.s.limits)
	case shadow.OpDelete:
		c.change, err = shadow.Delete(j.lane.id, j.doc, c.token, now)
	case shadow.OpGet:
		if j.doc == nil || j.doc.Deleted() {
			return shadow.NotFound(j.lane.id, c.token)
		}
	default:
		return internalFailure(c.token)
	}
	if err != nil {
		c.change = nil
		return asRefusal(err)
	}
	version := j.doc.Version()
	if c.change != nil {
		if refusal := w.admit(j, c, now); refusal != nil {
			c.change = nil
			return refusal
		}
		j.doc, j.change = c.change.After, true
		if c.req.Op == shadow.OpUpdate {
			version = j.doc.Version()
		}
	}
	c.accept(j, version, now)
	return nil
}

// build makes the request document of a request that depends on the current one.
func (w *worker) build(j *job, c *call) *shadow.Error {
	payload, refusal := c.req.Build(j.doc)
	c.nothing = payload == nil && refusal == nil
	if refusal != nil {
		return refusal
	}
	if c.nothing {
		c.answer = Message{ID: j.lane.id, Op: c.req.Op, Kind: shadow.KindAccepted, Version: j.doc.Version()} // without a topic: not sent
		c.result = Result{Version: j.doc.Version(), answer: &c.answer}
		return nil
	}
	parsed, err := shadow.ParseUpdate(payload, w.s.limits)
	if err != nil {
		return asRefusal(err)
	}
	c.parsed = parsed
	return nil
}

func liveVersion(d *shadow.Document) uint64 {
	if d == nil || d.Deleted() {
		return 0
	}
	return d.Version()
}

// accept fills in the messages of a call that is not refused.
func (c *call) accept(j *job, version uint64, now int64) {
	l := j.lane
	c.answer = Message{ID: l.id, Op: c.req.Op, Kind: shadow.KindAccepted, Version: version, Time: now, change: c.change, token: c.token}
	c.result = Result{Version: version, answer: &c.answer}
	switch c.req.Op {
	case shadow.OpGet:
		c.answer.Topic, c.answer.document = l.topics.GetAccepted, j.doc
	case shadow.OpDelete:
		c.answer.Topic = l.topics.DeleteAccepted
	case shadow.OpUpdate:
		c.answer.Topic = l.topics.UpdateAccepted
		c.delta = Message{Topic: l.topics.UpdateDelta, ID: l.id, Op: c.req.Op, Kind: shadow.KindDelta, Version: version, Time: now, change: c.change}
		c.documents = Message{Topic: l.topics.UpdateDocuments, ID: l.id, Op: c.req.Op, Kind: shadow.KindDocuments, Version: version, Time: now, change: c.change}
	}
}

// refuse fills in the answer of a call that is refused.
func (s *Service) refuse(l *lane, c *call, refusal *shadow.Error) {
	c.change = nil
	c.answer = Message{ID: l.id, Op: c.req.Op, Kind: shadow.KindRejected, Time: s.now(), refusal: refusal, token: c.token}
	switch c.req.Op {
	case shadow.OpGet:
		c.answer.Topic = l.topics.GetRejected
	case shadow.OpUpdate:
		c.answer.Topic = l.topics.UpdateRejected
	case shadow.OpDelete:
		c.answer.Topic = l.topics.DeleteRejected
	}
	c.result = Result{Err: refusal, answer: &c.answer}
}

// settle ends a job whose outcome stands: messages first, then the answer, call by call.
func (w *worker) settle(j *job) {
	w.moved(j.lane, true)
	doc := j.before()
	for _, c := range j.calls {
		switch c.kind {
		case kindRequest:
			if c.change != nil {
				doc = c.change.After
				w.s.changed(j.lane.id, c.req.Author, c.change)
			}
			w.s.publish(c)
			w.s.finish(c)
		case kindPeek:
			c.peeked(j.lane.doc, nil)
		case kindDelta:
			c.deltas(currentDelta(j.lane.id, j.lane.topics, doc, w.s.now()))
		case kindRecover: // the load was all
			j.lane.timer = false
		}
	}
}

// before returns the document before the first change of a settled job.
func (j *job) before() *shadow.Document {
	for _, c := range j.calls {
		if c.change != nil {
			return c.change.Before
		}
	}
	return j.lane.doc
}

// fail ends a job whose document cannot be read or stored. Requests that were
// refused for their own sake keep their refusal.
func (w *worker) fail(j *job) {
	j.lane.loaded, j.lane.doc = false, nil
	w.moved(j.lane, false)
	for _, c := range j.calls {
		switch c.kind {
		case kindRequest:
			refusal := c.failed
			if refusal == nil {
				refusal = internalFailure(c.token)
			}
			w.s.refuse(j.lane, c, refusal)
			w.s.publish(c)
			w.s.finish(c)
		case kindPeek:
			c.peeked(nil, internalFailure(""))
		case kindDelta:
			c.deltas(nil)
		case kindRecover:
			j.lane.timer = false
			w.s.recoverLater(j.lane)
		}
	}
}

// publish announces a request's outcome.
func (s *Service) publish(c *call) {
	quiet := c.req.Quiet && (c.result.Err != nil || c.req.Op == shadow.OpGet)
	if !quiet && c.answer.Topic != "" {
		s.pub.Publish(&c.answer)
	}
	if c.change == nil || c.req.Op != shadow.OpUpdate {
		return
	}
	if c.change.After.HasDelta() {
		s.pub.Publish(&c.delta)
	}
	s.pub.Publish(&c.documents)
}

// finish gives a request's result to whoever submitted it.
func (s *Service) finish(c *call) {
	switch c.kind {
	case kindRequest:
		s.stats.count(c.req.Op, c.result.Err)
		if c.quota {
			s.quota.give(&c.req)
		}
		c.done(&c.result)
	case kindPeek:
		c.peeked(nil, c.result.Err)
	case kindDelta:
		c.deltas(nil)
	case kindRecover:
	}
}

// currentDelta is the delta message of a document as it stands, nil when in sync.
func currentDelta(id shadow.ID, topics shadow.Topics, doc *shadow.Document, now int64) *Message {
	if doc == nil || doc.Deleted() || !doc.HasDelta() {
		return nil
	}
	return &Message{
		Topic: topics.UpdateDelta, ID: id, Op: shadow.OpUpdate, Kind: shadow.KindDelta,
		Version: doc.Version(), Time: now, document: doc,
	}
}
