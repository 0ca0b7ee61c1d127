package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/shadow"
)

type diffOptions struct {
	section   string
	all       bool
	jsonPatch bool
}

func newDiff(a *app) *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff A [B]",
		Short: "Compare desired with reported, two shadows, or a file with a shadow",
		Long: `Compare, value by value: "-" is what A has, "+" what B has.

A and B are THING, THING/NAME or @FILE (@- for stdin). With A alone, its reported values are
compared with its desired ones: "+" is what the device should become. A file holds what
'umbra get -o json' prints, or its state, or one section; a section that it does not have is not compared.
A null in a file is no value, as for replace.

The exit code is 0 when there is no difference, 1 when there is one, and 2 or more for an error.`,
		Example: `  umbra diff lamp
  umbra diff lamp lamp-2 --section desired
  umbra diff lamp @desired.json
  umbra diff lamp --json-patch`,
		Args:              arguments(1, 2),
		ValidArgsFunction: a.completeShadows,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.section, "section", "", "compare only this `SECTION` of A and B: desired or reported")
	flags.BoolVar(&o.all, "all", false, "with A alone: also what it reports but nobody desires")
	flags.BoolVar(&o.jsonPatch, "json-patch", false, "print the JSON Patch (RFC 6902) that leads from A to B")
	mustComplete(cmd, "section", []cobra.Completion{sectionDesired, sectionReported})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return neverOne(cmd.Context(), a.diff(cmd.Context(), args, o))
	}
	return cmd
}

// neverOne keeps the exit code 1 for "there is a difference".
func neverOne(ctx context.Context, err error) error {
	if err != nil && !errors.Is(err, errDiffers) && exitCode(ctx, err) == exitOther {
		return &exitError{code: exitUsage, err: err}
	}
	return err
}

// side is one of the two values that diff compares.
type side struct {
	label string
	state object // one section when a shadow is compared with itself, else by section
	file  bool
}

// lacks reports whether the side is a file that says nothing about a section.
func (s side) lacks(section string) bool {
	_, ok := s.state[section]
	return s.file && !ok
}

func (a *app) diff(ctx context.Context, args []string, o diffOptions) error {
	switch o.section {
	case "", sectionDesired, sectionReported:
	default:
		return usagef("--section %s is neither desired nor reported", o.section)
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	var before, after side
	compare := compareStates
	if len(args) == 1 {
		before, after, err = a.sidesOfOne(ctx, c, args[0], o)
		compare = func(before, after object) []change { return compareObjects(nil, before, after) }
	} else {
		before, after, err = a.sidesOfTwo(ctx, c, args, o)
	}
	if err != nil {
		return err
	}
	if o.jsonPatch {
		return a.diffPatch(before, after)
	}
	changes := compare(before.state, after.state)
	if len(changes) == 0 {
		return nil
	}
	head := fmt.Sprintf("--- %s\n+++ %s", before.label, after.label)
	if _, err := fmt.Fprintln(a.stdout, tintBold.paint(head, a.colour)); err != nil {
		return err
	}
	if err := a.printChanges(changes); err != nil {
		return err
	}
	return errDiffers
}

func (a *app) diffPatch(before, after side) error {
	patch := jsonPatch(before.state, after.state)
	if err := (format{kind: formatJSON}).document(a.stdout, encodeJSON(patch)); err != nil {
		return err
	}
	if len(patch) > 0 {
		return errDiffers
	}
	return nil
}

// sidesOfOne compares what a shadow reports with what it would report if it were in sync.
func (a *app) sidesOfOne(ctx context.Context, c *client.Client, arg string, o diffOptions) (before, after side, err error) {
	if o.section != "" || strings.HasPrefix(arg, "@") {
		return before, after, usagef("--section and @FILE need a second shadow to compare with")
	}
	id, err := parseTarget(arg)
	if err != nil {
		return before, after, err
	}
	doc, err := fetch(ctx, c, id)
	if err != nil {
		return before, after, err
	}
	reported := doc.section(sectionReported)
	wanted := merge(reported, doc.section(sectionDelta))
	if o.all {
		wanted = doc.section(sectionDesired)
	}
	return side{label: label(id, doc) + " reported", state: reported}, side{label: label(id, doc) + " desired", state: wanted}, nil
}

func label(id shadow.ID, doc *document) string {
	return fmt.Sprintf("%s version %d", display(id), doc.version())
}

func (a *app) sidesOfTwo(ctx context.Context, c *client.Client, args []string, o diffOptions) (before, after side, err error) {
	if o.all {
		return before, after, usagef("--all goes with one shadow; two are always compared whole")
	}
	if before, err = a.load(ctx, c, args[0], o.section); err != nil {
		return before, after, err
	}
	if after, err = a.load(ctx, c, args[1], o.section); err != nil {
		return before, after, err
	}
	for _, section := range []string{sectionDesired, sectionReported} {
		if before.lacks(section) || after.lacks(section) || o.section != "" && section != o.section {
			delete(before.state, section)
			delete(after.state, section)
		}
	}
	return before, after, nil
}

// load reads one side: a shadow, or a file when arg begins with "@".
func (a *app) load(ctx context.Context, c *client.Client, arg, section string) (side, error) {
	if name, isFile := strings.CutPrefix(arg, "@"); isFile {
		content, err := a.readObject(name)
		if err != nil {
			return side{}, err
		}
		return side{label: name, state: fileState(withoutNulls(content), section), file: true}, nil
	}
	id, err := parseTarget(arg)
	if err != nil {
		return side{}, err
	}
	doc, err := fetch(ctx, c, id)
	if err != nil {
		return side{}, err
	}
	state, _ := doc.members["state"].(object)
	return side{label: label(id, doc), state: sections(state)}, nil
}

// fileState finds the sections in a file that holds a document, a state or one section.
func fileState(content object, section string) object {
	if state, ok := content["state"].(object); ok {
		return sections(state)
	}
	found := sections(content)
	_, hasDelta := content[sectionDelta]
	if n := len(found); n > 0 && (n == len(content) || hasDelta && n+1 == len(content)) {
		return found
	}
	if section == "" {
		section = sectionDesired
	}
	return object{section: content}
}

// sections returns desired and reported out of state.
func sections(state object) object {
	found := object{}
	for _, name := range []string{sectionDesired, sectionReported} {
		if section, ok := state[name].(object); ok {
			found[name] = section
		}
	}
	return found
}
