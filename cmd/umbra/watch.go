package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/shadow"
)

type watchOptions struct {
	from    versionFlag
	count   int
	timeout time.Duration
	path    string
	prefix  string
}

func newWatch(a *app) *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use:   "watch [THING[/NAME]]",
		Short: "Show changes as they happen",
		Long: `Show changes as they happen, one per line: of one shadow, or of all.

A lost connection is made again, and the stream goes on where it was. Where the history of the
server does not lead on, a reset shows the shadow as it is now, and counts as a change.`,
		Example: `  umbra watch
  umbra watch lamp --from 1                     # all that the history still has
  umbra watch lamp --path reported.on -n 1      # until the lamp reports on
  umbra watch --prefix lamp- -o ndjson | jq .state`,
		Args:              arguments(0, 1),
		ValidArgsFunction: a.completeShadow,
	}
	formatFlag(cmd, formatShort, formatJSON, formatNDJSON, formatRaw, formatJSONPath, formatTemplate)
	flags := cmd.Flags()
	flags.Var(&o.from, "from", "begin with version `N` of the shadow; 1 or 0 with all that the history has")
	flags.IntVarP(&o.count, "count", "n", 0, "stop after `N` changes")
	flags.DurationVar(&o.timeout, "timeout", 0, "stop after this time; with -n, it is an error when fewer changes came")
	flags.StringVar(&o.path, "path", "", "only changes of the value at `PATH`, or inside of it")
	flags.StringVar(&o.prefix, "prefix", "", "only things whose names begin with `PREFIX`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		w, err := a.newWatcher(args, o, f)
		if err != nil {
			return err
		}
		return w.run(cmd.Context())
	}
	return cmd
}

func (a *app) newWatcher(args []string, o watchOptions, f format) (*watcher, error) {
	w := &watcher{app: a, options: o, format: f}
	w.request = client.Watch{Prefix: o.prefix, Lost: func(err error, pause time.Duration) {
		a.note("%s; trying again in %v", oneLine(err.Error()), pause)
	}}
	var err error
	if len(args) > 0 {
		if w.request.Shadow, err = parseTarget(args[0]); err != nil {
			return nil, err
		}
	}
	switch {
	case o.count < 0 || o.timeout < 0:
		return nil, usagef("-n and --timeout must not be negative")
	case len(args) > 0 && o.prefix != "":
		return nil, usagef("--prefix goes without a shadow")
	case o.from.given && len(args) == 0:
		return nil, usagef("--from goes with one shadow")
	case o.from.given:
		w.at, w.placed = max(o.from.n, 1)-1, true
		w.request.After = strconv.FormatUint(w.at, 10)
	}
	if o.path != "" {
		if w.path, err = parsePath(o.path); err != nil {
			return nil, err
		}
		if w.path[0] != sectionDesired && w.path[0] != sectionReported {
			return nil, usagef("--path %s: begin with desired or reported", o.path)
		}
	}
	return w, nil
}

// watcher is one run of watch.
type watcher struct {
	*app

	options watchOptions
	format  format
	request client.Watch
	path    path
	seen    int    // changes that were printed
	at      uint64 // of one shadow: the version behind which the stream goes on
	placed  bool   // at is known
}

// errEnough ends a stream of which no more is wanted.
var errEnough = errors.New("enough")

func (w *watcher) run(ctx context.Context) error {
	c, err := w.client()
	if err != nil {
		return err
	}
	if w.options.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, w.options.timeout, errTimeUp)
		defer cancel()
	}
	err = c.Watch(ctx, w.request, w.event)
	switch {
	case errors.Is(err, errEnough), errors.Is(err, errTimeUp) && w.options.count == 0:
		return nil
	case errors.Is(err, errTimeUp):
		return failf(exitUnreachable, "%d of %d changes within %v", w.seen, w.options.count, w.options.timeout)
	case w.request.Shadow.Thing != "":
		return fmt.Errorf("%s: %w", display(w.request.Shadow), err)
	}
	return err
}

// changeEvent is the data of the events update and delete.
type changeEvent struct {
	Thing     string `json:"thing"`
	Name      string `json:"name"`
	Version   uint64 `json:"version"`
	Timestamp int64  `json:"timestamp"` // ms since the epoch
	Op        string `json:"op"`
	By        struct {
		Channel   string `json:"channel"`
		Principal string `json:"principal"`
		ClientID  string `json:"clientId"`
	} `json:"by"`
	State json.RawMessage `json:"state"`
}

func (w *watcher) event(e client.Event) error {
	if e.Type == "reset" {
		return w.reset(e)
	}
	var c changeEvent
	if err := json.Unmarshal(e.Data, &c); err != nil {
		return fmt.Errorf("the server sent no change: %w", err)
	}
	state := object{}
	if len(c.State) > 0 {
		v, err := decodeJSON(c.State)
		if err != nil {
			return fmt.Errorf("the server sent no change: %w", err)
		}
		state, _ = v.(object)
	}
	w.advance(c.Version)
	if !w.wants(c, state) {
		return nil
	}
	if err := w.print(e, c, state); err != nil {
		return err
	}
	return w.count()
}

// advance notes the versions that a stream from the first version on does not have.
func (w *watcher) advance(version uint64) {
	if w.request.Shadow.Thing == "" {
		return
	}
	if w.placed && version > w.at+1 {
		w.note("%s: the history begins with version %d", display(w.request.Shadow), version)
	}
	w.at, w.placed = version, true
}

// count counts what was printed, and ends the stream when it is enough.
func (w *watcher) count() error {
	if w.seen++; w.seen == w.options.count {
		return errEnough
	}
	return nil
}

// wants reports whether a change touches the path that was asked for. A delete touches all.
func (w *watcher) wants(c changeEvent, state object) bool {
	if len(w.path) == 0 || c.Op == "delete" || state == nil {
		return true
	}
	for _, l := range leavesWithin(state) {
		_, group := l.value.(object)
		if l.path.hasPrefix(w.path) || w.path.hasPrefix(l.path) && !group {
			return true
		}
	}
	return false
}

func (w *watcher) print(e client.Event, c changeEvent, state object) error {
	switch w.format.kind {
	case formatShort:
		_, err := fmt.Fprintln(w.stdout, w.short(c, state))
		return err
	case formatRaw:
		return w.format.document(w.stdout, e.Data)
	}
	v, err := decodeJSON(e.Data)
	if err != nil {
		return fmt.Errorf("the server sent no change: %w", err)
	}
	if o, ok := v.(object); ok {
		o["timestamp"] = stamp(c.Timestamp, w.location())
	}
	return w.document(v)
}

// document writes an event. Not every event has a value at every path.
func (w *watcher) document(event any) error {
	err := w.format.document(w.stdout, encodeJSON(event))
	if errors.Is(err, errNoMatch) {
		return nil
	}
	return err
}

// shortTime is the layout of the time with which a line begins.
const shortTime = "2006-01-02 15:04:05.000"

// assignments returns each leaf of a state as one word.
func assignments(state object) []string {
	var words []string
	for _, l := range leavesWithin(state) {
		shown := text(l.value)
		if strings.Contains(shown, " ") {
			shown = string(encodeJSON(l.value))
		}
		words = append(words, visible(l.path.String()+"="+shown))
	}
	return words
}

// short is one line: when, which shadow and version, what, and who.
func (w *watcher) short(c changeEvent, state object) string {
	what := assignments(state)
	switch {
	case c.Op == "delete":
		what = []string{tintRed.paint("deleted", w.colour)}
	case state == nil:
		what = []string{"state=null"}
	case len(what) == 0:
		what = []string{"{}"}
	}
	by := strings.Fields(visible(c.By.Channel + " " + c.By.Principal + " " + c.By.ClientID))
	at := time.UnixMilli(c.Timestamp).In(w.location()).Format(shortTime)
	return strings.Join([]string{
		tintDim.paint(at, w.colour),
		tintBold.paint(visible(display(shadow.ID{Thing: c.Thing, Name: c.Name})), w.colour),
		"v" + strconv.FormatUint(c.Version, 10),
		strings.Join(what, " "),
		tintDim.paint("by "+strings.Join(by, " "), w.colour),
	}, "  ")
}

// reset tells of a gap: on stderr what is missing, on stdout where the stream goes on. Like a delete it
// touches every path, and it counts, so that no count waits for changes which were missed.
func (w *watcher) reset(e client.Event) error {
	document, err := decodeJSON(e.Data)
	if err != nil {
		return fmt.Errorf("the server sent no JSON: %w", err)
	}
	event := object{"op": e.Type}
	if w.request.Shadow.Thing == "" {
		w.note("changes were missed, the server no longer has them")
	} else {
		at, err := strconv.ParseUint(e.ID, 10, 64)
		if err != nil {
			return fmt.Errorf("the server sent no version: %w", err)
		}
		w.noteReset(at)
		event["thing"], event["name"] = w.request.Shadow.Thing, w.request.Shadow.Name
		event["version"], event["document"] = at, document
	}
	switch w.format.kind {
	case formatShort:
		_, err = fmt.Fprintln(w.stdout, w.shortReset(e.ID, document))
	case formatRaw:
		err = w.format.document(w.stdout, e.Data)
	default:
		err = w.document(event)
	}
	if err != nil {
		return err
	}
	return w.count()
}

// noteReset says why the stream of one shadow goes on behind the version at.
func (w *watcher) noteReset(at uint64) {
	name := display(w.request.Shadow)
	if w.placed && at < w.at {
		w.note("%s: the shadow is at version %d; going on from there, not from version %d", name, at, w.at+1)
	} else {
		w.note("%s: changes up to version %d were missed, the history no longer has all of them", name, at)
	}
	w.at, w.placed = at, true
}

// shortReset is the line of a reset: when it came, and how the shadow is now.
func (w *watcher) shortReset(version string, document any) string {
	columns := []string{tintDim.paint(w.now().In(w.location()).Format(shortTime), w.colour)}
	if w.request.Shadow.Thing != "" {
		columns = append(columns, tintBold.paint(display(w.request.Shadow), w.colour), "v"+version)
	}
	columns = append(columns, tintYellow.paint("reset", w.colour))
	members, _ := document.(object)
	state, _ := members["state"].(object)
	if what := assignments(sections(state)); len(what) > 0 {
		columns = append(columns, strings.Join(what, " "))
	}
	return strings.Join(columns, "  ")
}
