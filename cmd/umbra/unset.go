package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/shadow"
)

type unsetOptions struct {
	updateOptions

	ignoreNotFound bool
}

func newUnset(a *app) *cobra.Command {
	var o unsetOptions
	cmd := &cobra.Command{
		Use:   "unset THING[/NAME] PATH...",
		Short: "Remove values from desired",
		Long: `Remove values from desired (or reported, with --reported).

A path without a value is told on stderr, and is an error when no path has one: then nothing is sent.
The removal holds for the version that was looked at: if somebody else changes the shadow meanwhile,
unset looks again. With --if-version it gives up instead.`,
		Example: `  umbra unset lamp color
  umbra unset lamp color.r color.g --reported
  umbra unset lamp 'a\.b'                     # the key a.b`,
		Args:              arguments(2, -1),
		ValidArgsFunction: a.completeShadow,
	}
	updateFlags(cmd, &o.updateOptions)
	cmd.Flags().BoolVar(&o.ignoreNotFound, "ignore-not-found", false, "values, and a shadow, that do not exist are no error")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		paths, err := parseUnset(args[1:])
		if err != nil {
			return err
		}
		return a.unset(cmd, args[0], paths, o)
	}
	return cmd
}

// parseUnset reads paths of which none leads to or through another.
func parseUnset(args []string) ([]path, error) {
	paths := make([]path, len(args))
	together := object{}
	for i, arg := range args {
		p, err := parsePath(arg)
		if err != nil {
			return nil, err
		}
		if err := put(together, p, nil); err != nil {
			return nil, failf(exitUsage, "%q: %w", arg, err)
		}
		paths[i] = p
	}
	return paths, nil
}

func (a *app) unset(cmd *cobra.Command, target string, paths []path, o unsetOptions) error {
	s, err := a.subject(cmd, target)
	if err != nil {
		return err
	}
	r := removal{id: s.id, paths: paths, options: o}
	return a.updateGuarded(cmd.Context(), &guardedUpdate{
		subject: s, options: o.updateOptions, patch: r.patch,
		remark: func(bool) { r.tell(a) },
	})
}

// removal is one run of unset.
type removal struct {
	id      shadow.ID
	paths   []path
	options unsetOptions
	absent  []string // paths without a value in the document that was looked at last
}

// patch returns the update that removes the values which doc has.
func (r *removal) patch(doc *document) (object, error) {
	if doc == nil {
		return nil, r.nothing("there is no such shadow")
	}
	if err := r.options.ifVersion.check(r.id, doc); err != nil {
		return nil, err
	}
	patch := object{}
	r.absent = nil
	for _, p := range r.paths {
		if _, ok := lookup(doc.section(r.options.section()), p); !ok {
			r.absent = append(r.absent, append(path{r.options.section()}, p...).String())
			continue
		}
		if err := put(patch, p, nil); err != nil {
			return nil, err
		}
	}
	if len(patch) == 0 {
		return nil, r.nothing("no such value: " + strings.Join(r.absent, ", "))
	}
	return patch, nil
}

// nothing is the outcome when there is nothing to remove.
func (r *removal) nothing(reason string) error {
	if r.options.ignoreNotFound {
		return errUnchanged
	}
	return failf(exitNotFound, "%s: %s", display(r.id), reason)
}

// tell names the paths that were left out.
func (r *removal) tell(a *app) {
	if len(r.absent) > 0 && !r.options.ignoreNotFound {
		a.note("%s: no such value: %s", display(r.id), strings.Join(r.absent, ", "))
	}
}
