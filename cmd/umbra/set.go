package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/shadow"
)

// updateOptions are common to the commands that update a section.
type updateOptions struct {
	reported  bool
	ifVersion versionFlag
	dryRun    bool
	token     string
	wait      time.Duration
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
	flags.StringVar(&o.token, "token", "", "client `token` that the answers on MQTT carry")
}

func newSet(a *app) *cobra.Command {
	var o updateOptions
	var file string
	cmd := &cobra.Command{
		Use:   "set THING[/NAME] PATH=VALUE...",
		Short: "Merge values into desired",
		Long: `Merge values into desired (or reported, with --reported).

PATH=VALUE takes VALUE as JSON when it is valid JSON, else as a string; PATH:=JSON insists on
JSON; null removes. Other values of the shadow stay as they are.`,
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
		patch := object{}
		if file == "" && len(args) == 1 {
			return usagef("nothing to set; add PATH=VALUE or -f FILE")
		}
		if err := parseAssignments(patch, args[1:]); err != nil {
			return err
		}
		if file != "" {
			base, err := a.readObject(file)
			if err != nil {
				return err
			}
			patch = overlay(base, patch)
		}
		return a.update(cmd, args[0], patch, o)
	}
	return cmd
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

// update sends patch as one update of a section, and prints the outcome.
func (a *app) update(cmd *cobra.Command, target string, patch object, o updateOptions) error {
	ctx := cmd.Context()
	f, err := outputFormat(cmd)
	if err != nil {
		return err
	}
	if o.wait > 0 && (o.reported || o.dryRun) {
		return usagef("--wait goes with neither --reported nor --dry-run")
	}
	id, err := parseTarget(target)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	if o.dryRun {
		return a.dryRun(ctx, c, id, patch, o, f)
	}
	accepted, err := c.Update(ctx, id, updateRequest(o, patch))
	if err != nil {
		return fmt.Errorf("%s: %w", display(id), err)
	}
	if o.wait > 0 {
		if err := a.awaitReported(ctx, c, id, patch, o.wait); err != nil {
			return err
		}
	}
	return a.printUpdated(id, accepted, f)
}

// updateRequest returns the update document. A patch of nil removes the section.
func updateRequest(o updateOptions, patch object) []byte {
	request := object{"state": object{o.section(): patch}}
	if o.ifVersion.given {
		request["version"] = o.ifVersion.n
	}
	if o.token != "" {
		request["clientToken"] = o.token
	}
	return encodeJSON(request)
}

// dryRun prints the values that an update would change.
func (a *app) dryRun(ctx context.Context, c *client.Client, id shadow.ID, patch object, o updateOptions, f format) error {
	doc, err := fetchIfAny(ctx, c, id)
	if err != nil {
		return err
	}
	if err := o.ifVersion.check(id, doc); err != nil {
		return err
	}
	before := doc.section(o.section())
	changes := compareObjects(path{o.section()}, before, merge(before, patch))
	if len(changes) == 0 {
		a.note("dry run: %s would keep its values", display(id))
	} else {
		a.note("dry run: %s would change, nothing is changed now", display(id))
	}
	switch f.kind {
	case formatTable:
		return a.printChanges(changes)
	case formatName:
		_, err := fmt.Fprintln(a.stdout, display(id))
		return err
	}
	return f.document(a.stdout, encodeJSON(object{
		"thing": id.Thing, "name": id.Name, "version": doc.version(), "changes": changeObjects(changes),
	}))
}

// printUpdated prints the outcome of an update.
func (a *app) printUpdated(id shadow.ID, accepted []byte, f format) error {
	switch f.kind {
	case formatName:
		_, err := fmt.Fprintln(a.stdout, display(id))
		return err
	case formatTable:
		doc, err := parseDocument(accepted)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "%s  version %d\n", display(id), doc.version())
		return err
	}
	return f.document(a.stdout, accepted)
}
