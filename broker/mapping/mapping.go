package mapping

import (
	"time"

	"github.com/umbra-iot/umbra/shadow"
)

// Defaults of a mapping file.
const (
	defaultThings     = 10_000
	defaultUpdates    = 20 // per second and thing
	updatesBurst      = 5  // seconds' worth of updates at once
	defaultPayload    = 128 << 10
	defaultDocument   = 8 << 10
	defaultCommands   = 10 // per second and thing
	commandsBurst     = 2  // seconds' worth of commands at once
	defaultAckTimeout = 5 * time.Second
	defaultAckRetries = 2
	defaultBackoff    = 2
)

// conflict says who wins when a device reports something else than is desired.
type conflict uint8

const (
	conflictLatest conflict = iota
	conflictDesired
	conflictDevice
)

// emptyAction is what an empty retained payload does.
type emptyAction uint8

const (
	emptyClear emptyAction = iota
	emptyRetire
	emptyDelete
	emptyIgnore
)

// Mapping is a compiled mapping. It is immutable.
type Mapping struct {
	name string
	file string
	line int

	thing    *template
	identity []*term // the terms of thing, each once
	shadow   *template
	known    bool // create: known
	conflict conflict
	vars     map[string]string
	link     *link
	reports  []*report
	commands []*command
	queries  []*query
	limits   limits

	codec        form
	deliver      bool // to the device's own session only
	allowOverlap bool
	allowDollar  bool
	fromClient   *template
	documents    bool // an expression looks at the document
}

// Name returns the name that the file gives the mapping.
func (m *Mapping) Name() string { return m.name }

// File returns where the mapping comes from.
func (m *Mapping) File() string { return m.file }

// HasLink reports whether the mapping says where it reports that the device is there.
func (m *Mapping) HasLink() bool { return m.link != nil }

type limits struct {
	things   int
	updates  float64 // per second and thing
	payload  int
	document int
	commands float64 // per second and thing
}

// report is a rule from a topic to reported.
type report struct {
	line       int
	key        string // where it is in the file
	topic      *pattern
	ignore     bool
	as         form
	fields     []*field
	metrics    bool
	skip       []string
	when       []condition
	whenExpr   *expression
	liveOnly   bool
	empty      emptyAction
	interval   int64 // ms
	up         bool
	fromClient *template
}

// condition of when: a path of the payload has a value.
type condition struct {
	path []string
	want shadow.Value
}

// field takes one value out of a payload.
type field struct {
	target   *keyTemplate
	get      *pathPattern
	drop     []string
	replace  bool
	deadband float64
	convert  conversion
	inert    bool // its target needs a capture that nothing provides
}

// link says whether the device is there.
type link struct {
	path    []string
	sources []*source
	session sessionRule
	parent  *parent
}

type sessionRule uint8

const (
	sessionAuto sessionRule = iota
	sessionAlways
	sessionNever
)

// source is one topic that tells about the link.
type source struct {
	line     int
	key      string
	topic    *pattern
	as       form
	get      *pathPattern
	convert  conversion
	constant *bool
	slot     string
	rawTo    []string
	empty    emptyAction
	identity []int // the terms of the identity that the topic captures, as indices
	full     bool  // it captures the whole identity
	hasTable bool
}

// parent is a thing whose link a thing shares.
type parent struct {
	path  []string // below reported
	aside string   // when no rule writes path: the member of payloads that are written next to it
	topic *pattern // or of a payload
	get   *pathPattern
	thing *template
}

// command is a rule from desired to a topic.
type command struct {
	line      int
	key       string
	paths     []*pathPattern
	group     bool // paths: several, one message
	except    [][]string
	topic     *template
	payload   payloadRule
	qos       byte
	retain    bool
	timeout   int64 // ms
	retries   int
	backoff   float64
	whole     bool
	tolerance float64
	await     bool
}

// payloadRule is how a value becomes the payload of a command.
type payloadRule struct {
	kind    payloadKind
	convert conversion
	text    *template
	json    *jsonTemplate
}

type payloadKind uint8

const (
	payloadValue payloadKind = iota
	payloadJSON
	payloadText
	payloadTemplate
	payloadMetrics
)

// query asks a device for its state.
type query struct {
	line    int
	key     string
	topic   *template
	payload string
	qos     byte
	at      map[string]bool // online, first_seen, start
}
