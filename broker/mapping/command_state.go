package mapping

import (
	"slices"

	"github.com/umbra-iot/umbra/shadow"
)

// CommandState is how far a command has come.
type CommandState string

// The states of commands; [CommandStates] lists them.
const (
	StateHeld         CommandState = "held"          // the link is not true, or it waits for a subscription
	StateNoSubscriber CommandState = "no_subscriber" // it has waited for half a minute, and goes on waiting
	StatePending      CommandState = "pending"       // sent, not answered
	StateSettled      CommandState = "settled"       // answered with another value: not repeated
	StateFailed       CommandState = "failed"        // not answered, or it cannot be said
	StateDone         CommandState = "done"          // reported is what is desired
)

// CommandStates returns the states of commands, in the order of [CommandCounts].
func CommandStates() [len(CommandCounts{})]CommandState {
	return [...]CommandState{StateHeld, StateNoSubscriber, StatePending, StateSettled, StateFailed, StateDone}
}

// CommandCounts is how many commands there are in each state, in the order of [CommandStates].
type CommandCounts [6]int64

func (n *CommandCounts) add(s CommandState, d int64) {
	states := CommandStates()
	if i := slices.Index(states[:], s); i >= 0 {
		n[i] += d
	}
}

// commandState is one command of a device: a rule with what it is about.
type commandState struct {
	rule   *command
	index  int // of the rule
	key    string
	topic  string
	caps   captures
	base   int // keys of the path that the rule covers
	leaves []*leaf
	whole  []byte // the complete desired value, for whole: true

	state    CommandState
	text     string // why it failed
	tries    int
	row      int              // commands in a row that contrary reports have caused
	sentAt   int64            // ms
	due      int64            // of what comes next, 0 for nothing
	waiting  bool             // for a subscription
	delayed  bool             // for the rate of the thing, or the interval of contrary reports
	set      map[string]int64 // of the last run: when its leaves were set
	wroteOff bool             // due is when reported is written back (conflict: device)
}

// leaf is one leaf of desired that is outstanding.
type leaf struct {
	path      []string
	desired   []byte // JSON
	at        int64  // ms, when it was set
	reported  shadow.Value
	contested bool // reported has changed since desired was set
	answered  bool // reported has changed since the command was sent
	fresh     bool // set by the change under way
}

// change is what is known of how a document came to be.
type change struct {
	loaded  bool         // it was read, not changed
	resumed bool         // the device is known from an earlier run
	patch   shadow.Value // the state of the update
	before  *shadow.Document
}

// turn changes the state of a command.
func (e *Engine) turn(c *commandState, state CommandState) {
	e.counts.add(c.state, -1)
	e.counts.add(state, 1)
	c.state = state
}
