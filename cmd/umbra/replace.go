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
	s, err := a.subject(cmd, target)
	if err != nil {
		return err
	}
	return a.updateGuarded(cmd.Context(), &guardedUpdate{
		subject: s, options: o,
		patch: func(doc *document) (object, error) {
			patch := mergePatch(doc.section(o.section()), want)
			switch {
			case doc != nil && len(patch) == 0:
				return nil, errUnchanged
			case len(want) == 0:
				return nil, nil // removes the section
			}
			return patch, nil
		},
		remark: func(changed bool) {
			if !changed {
				a.note("%s: %s was so already", display(s.id), o.section())
			}
		},
	})
}
