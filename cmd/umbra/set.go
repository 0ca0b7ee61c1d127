package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// updateOptions are common to the commands that update a section.
type updateOptions struct {
	reported    bool
	ifVersion   versionFlag
	dryRun      bool
	clientToken string
	wait        time.Duration
}

// section returns the name of the section to change.
func (o updateOptions) section() string {
	if o.reported {
		return sectionReported
	}
	return sectionDesired
}

func updateFlags(cmd *cobra.Command, o *updateOptions) {
	formatFlag(cmd, formatTable, formatJSON, formatYAML, formatNDJSON, formatName, formatRaw, formatJSONPath, formatTemplate)
	flags := cmd.Flags()
	flags.BoolVar(&o.reported, "reported", false, "change reported, as the device would, instead of desired")
	flags.Var(&o.ifVersion, "if-version", "only if the shadow's version is `N`")
	flags.BoolVar(&o.dryRun, "dry-run", false, "print what would change, and change nothing")
	flags.StringVar(&o.clientToken, "client-token", "", "`token` that the answers on MQTT carry")
}

func newSet(a *app) *cobra.Command {
	var o updateOptions
	var file string
	cmd := &cobra.Command{
		Use:   "set THING[/NAME] PATH=VALUE...",
		Short: "Merge values into desired",
		Long: `Merge values into desired (or reported, with --reported).

PATH=VALUE takes VALUE as JSON when it is valid JSON, else as a string; PATH:=JSON insists on
JSON; null removes. Other values of the shadow stay as they are. An array is set whole: list=[1,2].`,
		Example: `  umbra set lamp on=true color.r=255 'label=Living room'
  umbra set lamp fw:='"2.1"'                  # the string 2.1, not the number
  umbra set lamp -f desired.json --if-version 4
  echo '{"on":true}' | umbra set lamp -f -
  umbra set lamp on=true --wait 30s           # until the lamp reports it`,
		Args:              arguments(1, -1),
		ValidArgsFunction: a.completeShadow,
	}
	updateFlags(cmd, &o)
	cmd.Flags().StringVarP(&file, "file", "f", "", "merge the JSON object in `FILE` (- for stdin); assignments come on top")
	cmd.Flags().DurationVar(&o.wait, "wait", 0, "wait so long until the device reports what was set")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" && len(args) == 1 {
			return usagef("nothing to set; add PATH=VALUE or -f FILE")
		}
		patch, paths, err := parseAssignments(args[1:])
		if err != nil {
			return err
		}
		if file != "" {
			base, err := a.readObject(file)
			if err != nil {
				return err
			}
			if err := refuseIndexes(paths, base); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			patch = overlay(base, patch)
		}
		return a.set(cmd, args[0], setting{patch: patch, paths: paths}, o)
	}
	return cmd
}

// setting is what a set asks for.
type setting struct {
	patch object
	paths []path // of the assignments
}

// refuseIndexes refuses paths that would lead to an element of an array in the first of the sections which has a value
// there. A shadow only has whole arrays: a merge would put an object in the place of the array.
func refuseIndexes(paths []path, sections ...object) error {
	for _, p := range paths {
		for i, key := range p {
			if !isIndex(key) {
				continue
			}
			for _, section := range sections {
				v, there := lookup(section, p[:i])
				if _, array := v.([]any); array {
					return failf(exitInvalid, "%s is an array, whose elements cannot be set one by one; set all of it: %s='[…]'", p[:i], p[:i])
				}
				if there {
					break
				}
			}
		}
	}
	return nil
}

// isIndex reports whether a key may be meant as the index of an array.
func isIndex(key string) bool {
	_, err := strconv.Atoi(key)
	return err == nil
}

// overlay is merge, except that a null stays: it removes when the patch is applied.
func overlay(base, top object) object {
	for key, value := range top {
		inner, ok := value.(object)
		below, both := base[key].(object)
		if ok && both {
			value = overlay(below, inner)
		}
		base[key] = value
	}
	return base
}

// set sends a setting as one update of a section, and prints the outcome.
func (a *app) set(cmd *cobra.Command, target string, want setting, o updateOptions) error {
	ctx := cmd.Context()
	if o.wait > 0 && (o.reported || o.dryRun) {
		return usagef("--wait goes with neither --reported nor --dry-run")
	}
	s, err := a.subject(cmd, target)
	if err != nil {
		return err
	}
	if o.dryRun || slices.ContainsFunc(want.paths, func(p path) bool { return slices.ContainsFunc(p, isIndex) }) {
		doc, err := fetchIfAny(ctx, s.client, s.id)
		if err != nil {
			return err
		}
		if err := refuseIndexes(want.paths, doc.section(o.section()), doc.section(sectionReported)); err != nil {
			return fmt.Errorf("%s: %w", display(s.id), err)
		}
		if o.dryRun {
			return a.dryRun(s, doc, want.patch, o)
		}
	}
	accepted, err := s.client.Update(ctx, s.id, updateRequest(o, want.patch))
	if err != nil {
		return fmt.Errorf("%s: %w", display(s.id), err)
	}
	if o.wait > 0 {
		if err := a.awaitReported(ctx, s, want.patch, o.wait); err != nil {
			return err
		}
	}
	return a.printUpdated(s, accepted)
}

// updateRequest returns the update document. A patch of nil removes the section.
func updateRequest(o updateOptions, patch object) []byte {
	request := object{"state": object{o.section(): patch}}
	if o.ifVersion.given {
		request["version"] = o.ifVersion.n
	}
	if o.clientToken != "" {
		request["clientToken"] = o.clientToken
	}
	return encodeJSON(request)
}

// dryRun prints the values that an update of doc would change. The patch nil removes the section.
func (a *app) dryRun(s subject, doc *document, patch object, o updateOptions) error {
	if err := o.ifVersion.check(s.id, doc); err != nil {
		return err
	}
	before := doc.section(o.section())
	after := merge(before, patch)
	if patch == nil {
		after = nil
	}
	changes := compareObjects(path{o.section()}, before, after)
	if len(changes) == 0 {
		a.note("dry run: %s would keep its values", display(s.id))
	} else {
		a.note("dry run: %s would change, nothing is changed now", display(s.id))
	}
	switch s.format.kind {
	case formatTable:
		return a.printChanges(changes)
	case formatName:
		_, err := fmt.Fprintln(a.stdout, display(s.id))
		return err
	}
	return s.format.document(a.stdout, encodeJSON(object{
		"thing": s.id.Thing, "name": s.id.Name, "version": doc.version(), "changes": changeObjects(changes),
	}))
}

// printUpdated prints the outcome of an update.
func (a *app) printUpdated(s subject, accepted []byte) error {
	switch s.format.kind {
	case formatName:
		_, err := fmt.Fprintln(a.stdout, display(s.id))
		return err
	case formatTable:
		doc, err := parseDocument(accepted)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "%s  version %d\n", display(s.id), doc.version())
		return err
	}
	err := s.format.document(a.stdout, accepted)
	if errors.Is(err, errNoMatch) {
		return fmt.Errorf("%s: done, but %w", display(s.id), err)
	}
	return err
}
