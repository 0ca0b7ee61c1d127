package shadow

import (
	"slices"
	"strconv"
)

// stampBytes is the length of the metadata of a leaf, for estimates of a message's size.
const stampBytes = len(`{"timestamp":1700000000}`)

// AppendGet appends the body of get/accepted (and of REST 200): state with the delta, metadata,
// version, the time of the answer, token. tokenJSON is as in [Error]. The shadow must exist.
func (d *Document) AppendGet(dst []byte, now int64, token string) []byte {
	dst = slices.Grow(dst, 2*d.estimate())
	dst = append(dst, `{"state":`...)
	dst = append(dst, d.text...)
	if d.HasDelta() { // then there is a desired section, too
		dst = append(dst[:len(dst)-1], `,"delta":`...)
		dst = d.appendDelta(dst, nil)
		dst = append(dst, '}')
	}
	dst = append(dst, `,"metadata":`...)
	dst = d.appendMetadata(dst)
	dst = append(dst, ',')
	dst = appendVersion(dst, d.version)
	return appendTail(dst, now, token)
}

// AppendDeltaMessage appends the body of an update/delta message for the document as it stands
// (delta on subscribe: no token). It appends nothing when desired and reported agree.
func (d *Document) AppendDeltaMessage(dst []byte, now int64, token string) []byte {
	if !d.HasDelta() {
		return dst
	}
	meta := metaOf(&d.tree)
	dst = append(dst, '{')
	dst = appendVersion(dst, d.version)
	dst = append(dst, `,"timestamp":`...)
	dst = strconv.AppendInt(dst, now/1000, 10)
	dst = append(dst, `,"state":`...)
	dst = d.appendDelta(dst, nil)
	dst = append(dst, `,"metadata":`...)
	dst = d.appendDelta(dst, &meta)
	return appendEnd(dst, token)
}

// AppendAccepted appends the body of update/accepted or delete/accepted.
func (c *Change) AppendAccepted(dst []byte) []byte {
	if c.op == OpDelete {
		dst = append(dst, '{')
		dst = appendVersion(dst, c.Before.version)
		return appendTail(dst, c.time, c.token)
	}
	meta := metaAt(&c.patch, c.time)
	dst = append(dst, `{"state":`...)
	dst = append(dst, c.patch.text...)
	dst = append(dst, `,"metadata":`...)
	dst = meta.append(dst, 0)
	dst = append(dst, ',')
	dst = appendVersion(dst, c.After.version)
	return appendTail(dst, c.time, c.token)
}

// AppendDelta appends the body of update/delta, nothing when in sync or after a delete.
func (c *Change) AppendDelta(dst []byte) []byte {
	return c.After.AppendDeltaMessage(dst, c.time, c.token)
}

// AppendDocuments appends the body of update/documents, nothing after a delete.
func (c *Change) AppendDocuments(dst []byte) []byte {
	if c.op == OpDelete {
		return dst
	}
	dst = slices.Grow(dst, c.Before.estimate()+c.After.estimate())
	dst = append(dst, `{"previous":`...)
	dst = c.Before.appendInner(dst)
	dst = append(dst, `,"current":`...)
	dst = c.After.appendInner(dst)
	return appendTail(dst, c.time, c.token)
}

// appendInner appends a document as it is inside of update/documents, null when it does not exist.
func (d *Document) appendInner(dst []byte) []byte {
	if !d.exists() {
		return append(dst, "null"...)
	}
	dst = append(dst, `{"state":`...)
	dst = append(dst, d.text...)
	dst = append(dst, `,"metadata":`...)
	dst = d.appendMetadata(dst)
	dst = append(dst, ',')
	dst = appendVersion(dst, d.version)
	return append(dst, '}')
}

// estimate returns about how many bytes a document takes in a message.
func (d *Document) estimate() int {
	if d == nil {
		return 64
	}
	return 2*len(d.text) + stampBytes*len(d.tape) + 64
}

func (d *Document) appendMetadata(dst []byte) []byte {
	meta := metaOf(&d.tree)
	return meta.append(dst, 0)
}

func appendVersion(dst []byte, version uint64) []byte {
	dst = append(dst, `"version":`...)
	return strconv.AppendUint(dst, version, 10)
}

// appendTail ends a message with the timestamp and the token.
func appendTail(dst []byte, time int64, token string) []byte {
	dst = append(dst, `,"timestamp":`...)
	dst = strconv.AppendInt(dst, time/1000, 10)
	return appendEnd(dst, token)
}

// appendEnd ends a message with the token.
func appendEnd(dst []byte, token string) []byte {
	if token != "" {
		dst = append(dst, `,"clientToken":`...)
		dst = append(dst, token...)
	}
	return append(dst, '}')
}
