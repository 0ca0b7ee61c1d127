package main

import (
	"github.com/spf13/cobra"
)

func newReplace(a *app) *cobra.Command {
	var o updateOptions
	var file string
	cmd := &cobra.Command{
		Use:   "replace THING[/NAME] -f FILE",
		Short: "Make desired exactly what a file says",
		Long: `Make desired (or reported, with --reported) exactly what a file says: values that the file does
not have are removed. The file holds the section as a JSON object, in which null is no value.

Only differences are sent, for the version that was compared: if somebody else changes the shadow
meanwhile, replace compares again. With --if-version it gives up instead.`,
		Example: `  umbra replace lamp -f desired.json
  umbra replace lamp -f desired.json --dry-run
  umbra get lamp --path desired -o json | sed s/255/128/ | umbra replace lamp -f -`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeShadow,
	}
	updateFlags(cmd, &o)
	cmd.Flags().StringVarP(&file, "file", "f", "", "`FILE` with the whole section (- for stdin)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return usagef("nothing to replace it with; add -f FILE")
		}
		want, err := a.readObject(file)
		if err != nil {
			return err
		}
		return a.replace(cmd, args[0], withoutNulls(want), o)
	}
	return cmd
}

func (a *app) replace(cmd *cobra.Command, target string, want object, o updateOptions) error {
	f, err := outputFormat(cmd)
	if err != nil {
		return err
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
		doc, err := fetchIfAny(cmd.Context(), c, id)
		if err != nil {
			return err
		}
		return a.dryRun(cmd.Context(), c, id, mergePatch(doc.section(o.section()), want), o, f)
	}
	u := guardedUpdate{client: c, id: id, options: o, patch: func(doc *document) (object, error) {
		patch := mergePatch(doc.section(o.section()), want)
		switch {
		case doc != nil && len(patch) == 0:
			return nil, errUnchanged
		case len(want) == 0:
			return nil, nil // removes the section
		}
		return patch, nil
	}}
	accepted, err := u.run(cmd.Context())
	if err != nil {
		return err
	}
	if accepted == nil {
		a.note("%s: %s was so already", display(id), o.section())
		accepted = u.current.raw
	}
	return a.printUpdated(id, accepted, f)
}
