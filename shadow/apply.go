package shadow

// Change is the outcome of one accepted request: the document before and after, and what tells of it.
type Change struct {
	Before, After *Document

	op    Op
	time  int64 // ms
	token string
	patch tree // the state of the request; zero for a delete
}

// Desires reports whether the request names something in desired, or everything.
func (c *Change) Desires() bool {
	return c.op == OpDelete || c.patch.tape[0].kind == kindNull || c.patch.member("desired") != 0
}

// Op returns the operation that has made the change.
func (c *Change) Op() Op { return c.op }

// Apply applies an update at time now (ms). It changes none of its arguments. Every accepted update
// makes a new version, also one that changes no value. Refusals are *[Error]: 409 when the request
// insists on another version, 413 when the document would be larger than the limit.
//
// A missing shadow has the version 0, and a request may also call its first version 1; a tombstone
// has the version after the one that was deleted.
func Apply(doc *Document, r *Request, now int64, lim Limits) (*Change, error) {
	if !r.accepts(doc) {
		return nil, &Error{Code: 409, Message: msgConflict, Token: r.token}
	}
	var cur *tree
	if doc != nil {
		cur = &doc.tree
	} else {
		cur = &tree{}
	}
	state := merge(cur, patch{tree: &r.state, nulls: r.nulls}, now)
	if state.stateBytes() > lim.WithDefaults().DocumentBytes {
		return nil, &Error{Code: 413, Message: msgTooLarge, Token: r.token}
	}
	return &Change{
		Before: doc,
		After:  newDocument(doc.Version()+1, state),
		op:     OpUpdate,
		time:   now,
		token:  r.token,
		patch:  r.state,
	}, nil
}

// accepts reports whether the request may be applied to this version.
func (r *Request) accepts(doc *Document) bool {
	if doc == nil {
		return r.version <= 1
	}
	return !r.hasVersion || r.version == doc.version
}

// Delete makes a tombstone. A missing or deleted shadow is an *[Error] 404.
func Delete(id ID, doc *Document, token string, now int64) (*Change, error) {
	if !doc.exists() {
		return nil, NotFound(id, token)
	}
	return &Change{Before: doc, After: newTombstone(doc.version + 1), op: OpDelete, time: now, token: token}, nil
}
