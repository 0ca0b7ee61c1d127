package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newDelta(a *app) *cobra.Command {
	var exitStatus bool
	cmd := &cobra.Command{
		Use:   "delta THING[/NAME]",
		Short: "Show what the device has still to do",
		Long: `Show the desired values that the device does not report. Nothing is printed when there are none.

With --exit-code the exit code is 1 when there is a difference, 0 when not, and 2 or more for an error.`,
		Example: `  umbra delta lamp
  umbra delta lamp -o json
  umbra delta lamp --exit-code > /dev/null || echo 'the lamp is behind'`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeShadow,
	}
	formatFlag(cmd, formatTable, formatJSON, formatYAML, formatNDJSON, formatCSV, formatRaw, formatJSONPath, formatTemplate)
	cmd.Flags().BoolVar(&exitStatus, "exit-code", false, "exit with 1 when there is a difference")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		differs, err := a.delta(cmd, args[0])
		switch {
		case !exitStatus:
			return err
		case err == nil && differs:
			return errDiffers
		case !differs && errors.Is(err, errNoMatch):
			return nil // in sync, which is what was asked
		}
		return neverOne(cmd.Context(), err)
	}
	return cmd
}

func (a *app) delta(cmd *cobra.Command, target string) (differs bool, err error) {
	ctx := cmd.Context()
	s, err := a.subject(cmd, target)
	if err != nil {
		return false, err
	}
	id, f := s.id, s.format
	if f.kind == formatTable || f.kind == formatCSV {
		doc, err := fetch(ctx, s.client, id)
		if err != nil {
			return false, err
		}
		if doc.inSync() {
			a.note("%s is in sync at version %d", display(id), doc.version())
		}
		return !doc.inSync(), a.deltaTable(doc, f)
	}
	message, err := s.client.Delta(ctx, id)
	if err != nil {
		return false, fmt.Errorf("%s: %w", display(id), err)
	}
	if len(message) > 0 {
		return true, f.document(a.stdout, message)
	}
	if f.kind == formatRaw {
		return false, nil
	}
	return false, f.document(a.stdout, []byte("{}"))
}

func (a *app) deltaTable(doc *document, f format) error {
	v := shadowTable{doc: doc, now: integer(doc.members["timestamp"])}
	l := a.newList(f, []string{"PATH", "DESIRED", "REPORTED", "AGE"}, nil, []string{"path", "desired", "reported", "desired_at"})
	for _, p := range allPaths(doc.section(sectionDelta)) {
		desired, _ := lookup(doc.section(sectionDelta), p)
		shown, field := none, ""
		if reported, ok := lookup(doc.section(sectionReported), p); ok {
			shown, field = text(reported), string(encodeJSON(reported))
		}
		at, since := doc.written(sectionDesired, p), ""
		if at > 0 { // an empty object has no time
			since = stamp(at*1000, a.location())
		}
		err := l.add(item{
			cells:  []cell{{text: p.String()}, {text: text(desired), tint: tintYellow, long: true}, {text: shown, long: true}, {text: v.age(at), tint: tintDim}},
			fields: []string{p.String(), string(encodeJSON(desired)), field, since},
		})
		if err != nil {
			return err
		}
	}
	return l.end()
}
