// Package shadow says what a device shadow is and how a request changes it.
package shadow

// Timestamps in this package are milliseconds since the Unix epoch; messages carry whole seconds.

// ID names one shadow of one thing.
type ID struct {
	Thing string // 1-128 characters of [a-zA-Z0-9:_-]
	Name  string // 1-64 characters of [$a-zA-Z0-9:_-]; "" is the classic (unnamed) shadow
}

// Validate reports names outside the rules as an *Error with code 400.
func (id ID) Validate() error { panic("todo") }

// String returns "thing", or "thing~name" for a named shadow, as AWS writes it in messages.
func (id ID) String() string { panic("todo") }

// Op is the operation that a request asks for.
type Op uint8

// The operations of the shadow protocol.
const (
	OpGet Op = iota + 1
	OpUpdate
	OpDelete
)

// String returns "get", "update" or "delete".
func (o Op) String() string { panic("todo") }

// Kind is what a topic of a shadow carries.
type Kind uint8

// The kinds of shadow topics.
const (
	KindRequest   Kind = iota + 1 // .../get, .../update, .../delete
	KindAccepted                  // .../{op}/accepted
	KindRejected                  // .../{op}/rejected
	KindDelta                     // .../update/delta
	KindDocuments                 // .../update/documents
)

// TopicPrefix begins every reserved thing topic.
const TopicPrefix = "$aws/things/"

// Topic is a parsed shadow topic.
type Topic struct {
	ID   ID
	Op   Op
	Kind Kind
}

// ParseTopic parses a shadow topic name (no wildcards). ok is false for every other string,
// also for an illegal thing or shadow name.
func ParseTopic(name string) (t Topic, ok bool) { panic("todo") }

// String returns the topic name.
func (t Topic) String() string { panic("todo") }

// Topics holds the topic names of one shadow, made once and kept with its cached document.
type Topics struct {
	Get, GetAccepted, GetRejected          string
	Update, UpdateAccepted, UpdateRejected string
	UpdateDelta, UpdateDocuments           string
	Delete, DeleteAccepted, DeleteRejected string
}

// TopicsOf returns the topic names of id.
func TopicsOf(id ID) Topics { panic("todo") }

// Limits bound what a request may ask for. Zero fields mean the default.
type Limits struct {
	DocumentBytes int // compact UTF-8 bytes of desired + reported after the merge; default 8192
	Depth         int // levels of objects and arrays below a section, the section itself counted as the level 0; default 8
	TokenBytes    int // clientToken; default 64
	PayloadBytes  int // a request payload; default 128 KiB
}

// Error is a refusal with the code and text of the protocol.
type Error struct {
	Code    int    // 400, 404, 409, 413, 415, 429, 500 ...
	Message string // as AWS words it
	Token   string // the clientToken of the request as a JSON string with its quotes, "" when it had none
}

func (e *Error) Error() string { panic("todo") }

// AppendRejected appends the body of a .../rejected message. now is in ms.
func (e *Error) AppendRejected(dst []byte, now int64) []byte { panic("todo") }

// Document is one version of a shadow: state, per-leaf times, version. It is immutable.
// A nil *Document is a shadow that does not exist (version 0).
type Document struct{ todo int }

// Version returns the version, 0 for nil.
func (d *Document) Version() uint64 { panic("todo") }

// Deleted reports a tombstone: the shadow does not exist, but its version goes on.
func (d *Document) Deleted() bool { panic("todo") }

// HasDelta reports whether desired differs from reported.
func (d *Document) HasDelta() bool { panic("todo") }

// Size returns the bytes of memory that the document holds, for the cache budget.
func (d *Document) Size() int { panic("todo") }

// AppendRecord appends the stored form of the document (its version and tombstone flag are not in it).
func (d *Document) AppendRecord(dst []byte) []byte { panic("todo") }

// DecodeRecord is the inverse of AppendRecord. It copies what it keeps. Damage is an error.
func DecodeRecord(version uint64, deleted bool, record []byte) (*Document, error) { panic("todo") }

// AppendGet appends the body of get/accepted (and of REST 200). tokenJSON is as in Error.Token.
func (d *Document) AppendGet(dst []byte, now int64, token string) []byte { panic("todo") }

// AppendDeltaMessage appends the body of an update/delta message for the document as it stands
// (delta on subscribe: no token). It appends nothing when desired and reported agree.
func (d *Document) AppendDeltaMessage(dst []byte, now int64, token string) []byte { panic("todo") }

// Request is a parsed request document.
type Request struct{ todo int }

// ParseUpdate parses the payload of an update. Every refusal is an *Error (400, 413, 415).
// The request may keep parts of payload: do not change payload afterwards.
func ParseUpdate(payload []byte, lim Limits) (*Request, error) { panic("todo") }

// ParseToken returns the clientToken (a JSON string with quotes, or "") of a get or delete payload,
// whose other content is ignored.
func ParseToken(payload []byte, lim Limits) string { panic("todo") }

// Token returns the clientToken as a JSON string with its quotes, "" when there is none.
func (r *Request) Token() string { panic("todo") }

// Version returns the version that the request insists on.
func (r *Request) Version() (v uint64, ok bool) { panic("todo") }

// Change is the outcome of one accepted request: the document before and after, and what tells of it.
type Change struct {
	Before, After *Document
}

// Apply applies an update at time now (ms). It changes none of its arguments.
// Refusals are *Error: 409 version, 413 size.
func Apply(doc *Document, r *Request, now int64, lim Limits) (*Change, error) { panic("todo") }

// Delete makes a tombstone. A missing or deleted shadow is an *Error 404.
func Delete(id ID, doc *Document, token string, now int64) (*Change, error) { panic("todo") }

// NotFound is the 404 of a get or delete.
func NotFound(id ID, token string) *Error { panic("todo") }

// AppendAccepted appends the body of update/accepted or delete/accepted.
func (c *Change) AppendAccepted(dst []byte) []byte { panic("todo") }

// AppendDelta appends the body of update/delta, nothing when in sync or after a delete.
func (c *Change) AppendDelta(dst []byte) []byte { panic("todo") }

// AppendDocuments appends the body of update/documents, nothing after a delete.
func (c *Change) AppendDocuments(dst []byte) []byte { panic("todo") }

// Author says who asked for a change and by which way.
type Author struct {
	Channel   string // "mqtt", "rest", "will", "mapping"
	Principal string // authenticated identity, "" when anonymous
	ClientID  string // MQTT client id, "" over REST
}

// AppendHistory appends the history entry of the change: when, who, how, token, the accepted state
// and what undoes it.
func (c *Change) AppendHistory(dst []byte, by Author) []byte { panic("todo") }

// HistoryEntry is a decoded history entry.
type HistoryEntry struct {
	Version uint64
	Time    int64 // ms
	Op      Op    // OpUpdate or OpDelete
	Author  Author
	Token   string // JSON string or ""
	Patch   []byte // the accepted "state" member as compact JSON (nulls included); nil for a delete
	undo    []byte
}

// DecodeHistory decodes what AppendHistory made.
func DecodeHistory(version uint64, entry []byte) (*HistoryEntry, error) { panic("todo") }

// Undo returns the document before e, given the document after it. With DecodeHistory it rebuilds the Change that
// an outbox entry still has to announce.
func (e *HistoryEntry) Undo(after *Document) (*Document, error) { panic("todo") }

// Change rebuilds the Change of e, given the document after it.
func (e *HistoryEntry) Change(after *Document) (*Change, error) { panic("todo") }
