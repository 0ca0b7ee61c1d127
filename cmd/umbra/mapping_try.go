package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/shadow"
)

type tryOptions struct {
	names   []string
	retain  bool
	desired string
}

func newMappingTry(a *app) *cobra.Command {
	var o tryOptions
	cmd := &cobra.Command{
		Use: "try {TOPIC [PAYLOAD] | --desired JSON THING}", Short: "Show what a message would write, or a change of desired send",
		Long: `Show which rules take a message, what it would write and what would be sent; or, with --desired, which
commands would be sent if that was desired of a thing whose device is there. Nothing is known of the
device. The exit code is 1 when no rule is about it, and when something fails.`,
		Example: `  umbra mapping try stat/plug/RESULT '{"POWER":"ON"}'
  umbra mapping try --mapping mine.yaml plant/a/status online
  umbra mapping try --mapping tasmota --desired '{"power":true}' tasmota-plug`, Args: arguments(1, 2),
	}
	formatFlag(cmd, formatShort, formatJSON)
	cmd.Flags().StringSliceVar(&o.names, "mapping", nil, "`names` or files of mappings (default all that come with umbrad)")
	cmd.Flags().BoolVar(&o.retain, "retain", false, "the message is retained")
	cmd.Flags().StringVar(&o.desired, "desired", "", "what is desired of THING, a `JSON` object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		return a.tryMapping(args, o, f)
	}
	return cmd
}

func (a *app) tryMapping(args []string, o tryOptions, f format) error {
	if o.desired != "" && (len(args) != 1 || o.retain) {
		return usagef("--desired goes with one THING")
	}
	if len(o.names) == 0 {
		o.names = mapping.Presets()
	}
	list, err := a.readMappings(o.names)
	if err != nil {
		return err
	}
	set, _, err := mapping.NewSet(list)
	if err != nil {
		return failf(exitInvalid, "%w", err)
	}
	if o.desired != "" {
		return a.tryDesired(set, args[0], o.desired, f)
	}
	m := mapping.Message{Topic: args[0], Retain: o.retain}
	if len(args) > 1 {
		m.Payload = []byte(args[1])
	}
	x := set.Explain(m, a.now().UnixMilli())
	if x.Empty() {
		a.note("no rule is about this topic")
		return errDiffers
	}
	return a.showView(x.View(), f)
}

func (a *app) tryDesired(set *mapping.Set, thing, desired string, f format) error {
	x, known, err := set.ExplainDesired(thing, []byte(desired), a.now().UnixMilli())
	if refusal, ok := errors.AsType[*shadow.Error](err); ok {
		return usagef("--desired: %s", refusal.Message)
	}
	if err != nil {
		return fmt.Errorf("try: %w", err)
	}
	if !known {
		a.note("no mapping names a thing %s", thing)
		return errDiffers
	}
	return a.showView(x.View(), f)
}

// showView writes what would be done. It is errDiffers when not all of it can be.
func (a *app) showView(v mapping.View, f format) error {
	if f.kind == formatJSON {
		if err := f.document(a.stdout, encodeJSON(v)); err != nil {
			return err
		}
	} else if err := writeView(a.stdout, "", &v); err != nil {
		return err
	}
	if len(v.Errors)+len(v.Uncovered) > 0 {
		return errDiffers
	}
	return nil
}

// writeView writes a line for each rule that fits, and for what would be done.
func writeView(w io.Writer, indent string, v *mapping.View) error {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(indent + visible(fmt.Sprintf(format, args...)) + "\n") }
	for _, m := range v.Rules {
		line("rule   %s", describeRule(&m))
	}
	for _, u := range v.Updates {
		line(`update %s {"state":%s}`, display(shadow.ID{Thing: u.Thing, Name: u.Shadow}), u.State)
	}
	for _, d := range v.Deletes {
		line("delete %s", display(shadow.ID{Thing: d.Thing, Name: d.Shadow}))
	}
	for i := range v.Publishes {
		p := &v.Publishes[i]
		line("send   %s", describePublish(p))
	}
	for _, e := range v.Errors {
		line("error  %s: %s", e.Code, e.Message)
	}
	for _, path := range v.Uncovered {
		line("error  no command is about %s", strings.Join(path, "."))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func describeRule(m *mapping.Match) string {
	var b strings.Builder
	b.WriteString(m.Mapping + " " + m.Rule)
	if m.Line > 0 {
		fmt.Fprintf(&b, ", line %d", m.Line)
	}
	if m.Ignored {
		b.WriteString(" (ignore)")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Captures)) {
		fmt.Fprintf(&b, " {%s}=%s", name, m.Captures[name])
	}
	return b.String()
}

func describePublish(p *mapping.PublishView) string {
	text := fmt.Sprintf("%s %s qos %d", p.Topic, describePayload(&p.PayloadView), p.QoS)
	if p.Retain {
		text += " retain"
	}
	if p.Client != "" {
		text += " to client " + p.Client
	}
	return fmt.Sprintf("%s (%s %s, line %d)", text, p.Mapping, p.Rule, p.Line)
}

func describePayload(p *mapping.PayloadView) string {
	switch {
	case p.Text == nil:
		return "base64:" + base64.StdEncoding.EncodeToString(p.Binary)
	case *p.Text == "":
		return `""`
	case p.Bytes > 0:
		return *p.Text + fmt.Sprintf("… (%d bytes)", p.Bytes)
	}
	return *p.Text
}
