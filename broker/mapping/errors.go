package mapping

import (
	"fmt"
	"strings"
)

// Code is the kind of a run-time failure, for counters.
type Code string

// The kinds of failures ("Failures" in docs/mappings.md).
const (
	CodeDecode       Code = "decode"     // the payload is not what the rule says
	CodeTooLarge     Code = "too_large"  // the payload is larger than limits.payload
	CodeMap          Code = "map"        // the value is not in the table
	CodeType         Code = "type"       // JSON of a wrong type
	CodeThingName    Code = "thing_name" // the thing's name would be illegal
	CodeCollision    Code = "thing_collision"
	CodeUnknownThing Code = "unknown_thing" // create: known, and there is none
	CodeThingLimit   Code = "thing_limit"
	CodeDocLimit     Code = "doc_limit" // the document would be too large or too deep
	CodeKeyName      Code = "key_name"  // captured text cannot be a key
	CodeEncode       Code = "encode"    // desired cannot be said in the command's words
	CodeTopic        Code = "topic"     // the command's topic would be illegal
	CodeNoSubscriber Code = "no_subscriber"
	CodeNoAck        Code = "no_ack"
	CodeCoalesced    Code = "coalesced"
	CodeExpr         Code = "expr"
	CodeOwner        Code = "owner" // the publisher is not the device
	CodeEcho         Code = "echo"  // a command of our own came back
	CodeStore        Code = "store" // the update was refused for another reason
)

// Failure is one counted failure at run time.
type Failure struct {
	Code    Code   `json:"code"`
	Mapping string `json:"mapping"`
	Thing   string `json:"thing,omitempty"`
	Topic   string `json:"topic,omitempty"`
	Text    string `json:"message"`
	Payload []byte `json:"payload,omitempty"` // at most 256 bytes
}

// maxKeptPayload bounds Failure.Payload.
const maxKeptPayload = 256

// Diagnostic is what is wrong with a mapping file, or doubtful.
type Diagnostic struct {
	File    string
	Line    int
	Key     string // path of keys
	Text    string
	Warning bool
}

// Error returns "FILE:LINE: KEY: TEXT".
func (d *Diagnostic) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: ", d.File, d.Line)
	if d.Warning {
		b.WriteString("warning: ")
	}
	if d.Key != "" {
		b.WriteString(d.Key + ": ")
	}
	b.WriteString(d.Text)
	return b.String()
}

// LoadError is all that is wrong with mapping files.
type LoadError []*Diagnostic

// Error returns a line for each problem.
func (e LoadError) Error() string {
	lines := make([]string, len(e))
	for i, d := range e {
		lines[i] = d.Error()
	}
	return strings.Join(lines, "\n")
}

// refusal is why a message, or a part of one, is not written.
type refusal struct {
	code Code
	text string
}

func refuse(code Code, format string, args ...any) *refusal {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}
