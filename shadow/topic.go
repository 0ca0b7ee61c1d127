package shadow

import "strings"

// Op is the operation that a request asks for.
type Op uint8

// The operations of the shadow protocol.
const (
	OpGet Op = iota + 1
	OpUpdate
	OpDelete
)

// String returns "get", "update" or "delete".
func (o Op) String() string {
	switch o {
	case OpGet:
		return "get"
	case OpUpdate:
		return "update"
	case OpDelete:
		return "delete"
	}
	return "invalid"
}

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

// String returns "request", "accepted", "rejected", "delta" or "documents".
func (k Kind) String() string {
	switch k {
	case KindRequest:
		return "request"
	case KindAccepted:
		return "accepted"
	case KindRejected:
		return "rejected"
	case KindDelta:
		return "delta"
	case KindDocuments:
		return "documents"
	}
	return "invalid"
}

// TopicPrefix begins every reserved thing topic.
const TopicPrefix = "$aws/things/"

// Topic is a parsed shadow topic.
type Topic struct {
	ID   ID
	Op   Op
	Kind Kind
}

// ParseTopic parses a shadow topic name (no wildcards). ok is false for every other string,
// also for an illegal thing or shadow name. It does not allocate: the names are parts of name.
func ParseTopic(name string) (t Topic, ok bool) {
	rest, ok := strings.CutPrefix(name, TopicPrefix)
	if !ok {
		return Topic{}, false
	}
	thing, rest, ok := strings.Cut(rest, "/shadow/")
	if !ok || !validThing(thing) {
		return Topic{}, false
	}
	var shadowName string
	if named, ok := strings.CutPrefix(rest, "name/"); ok {
		shadowName, rest, ok = strings.Cut(named, "/")
		if !ok || !validName(shadowName) {
			return Topic{}, false
		}
	}
	op, suffix, answer := strings.Cut(rest, "/")
	t = Topic{ID: ID{Thing: thing, Name: shadowName}, Op: parseOp(op), Kind: KindRequest}
	if answer {
		t.Kind = parseAnswer(suffix, t.Op)
	}
	if t.Op == 0 || t.Kind == 0 {
		return Topic{}, false
	}
	return t, true
}

func parseOp(s string) Op {
	switch s {
	case "get":
		return OpGet
	case "update":
		return OpUpdate
	case "delete":
		return OpDelete
	}
	return 0
}

func parseAnswer(s string, op Op) Kind {
	switch {
	case s == "accepted":
		return KindAccepted
	case s == "rejected":
		return KindRejected
	case s == "delta" && op == OpUpdate:
		return KindDelta
	case s == "documents" && op == OpUpdate:
		return KindDocuments
	}
	return 0
}

// String returns the topic name.
func (t Topic) String() string {
	base := topicBase(t.ID) + t.Op.String()
	if t.Kind == KindRequest {
		return base
	}
	return base + "/" + t.Kind.String()
}

func topicBase(id ID) string {
	if id.Name == "" {
		return TopicPrefix + id.Thing + "/shadow/"
	}
	return TopicPrefix + id.Thing + "/shadow/name/" + id.Name + "/"
}

// Topics holds the topic names of one shadow, made once and kept with its cached document.
type Topics struct {
	Get, GetAccepted, GetRejected          string
	Update, UpdateAccepted, UpdateRejected string
	UpdateDelta, UpdateDocuments           string
	Delete, DeleteAccepted, DeleteRejected string
}

// TopicsOf returns the topic names of id.
func TopicsOf(id ID) Topics {
	base := topicBase(id)
	return Topics{
		Get:             base + "get",
		GetAccepted:     base + "get/accepted",
		GetRejected:     base + "get/rejected",
		Update:          base + "update",
		UpdateAccepted:  base + "update/accepted",
		UpdateRejected:  base + "update/rejected",
		UpdateDelta:     base + "update/delta",
		UpdateDocuments: base + "update/documents",
		Delete:          base + "delete",
		DeleteAccepted:  base + "delete/accepted",
		DeleteRejected:  base + "delete/rejected",
	}
}
