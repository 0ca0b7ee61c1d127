package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/shadow"
)

// maxAttempts bounds how often replace starts again because somebody else was faster.
const maxAttempts = 10

func newReplace(a *app) *cobra.Command {
	var o updateOptions
	var file string
	cmd := &cobra.Command{
		Use:   "replace THING[/NAME] -f FILE",
		Short: "Make desired exactly what a file says",
		Long: `Make desired (or reported, with --reported) exactly what a file says: values that the file does
not have are removed. The file holds the section as a JSON object.

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
	r := replacement{client: c, id: id, want: want, options: o}
	if o.dryRun {
		doc, err := fetchIfAny(cmd.Context(), c, id)
		if err != nil {
			return err
		}
		return a.dryRun(cmd.Context(), c, id, mergePatch(doc.section(o.section()), want), o)
	}
	accepted, err := r.run(cmd.Context())
	if err != nil {
		return err
	}
	if accepted == nil {
		a.note("%s: %s was so already", display(id), o.section())
		accepted = r.current.raw
	}
	return a.printUpdated(id, accepted, f)
}

// replacement is one replace that may take several attempts.
type replacement struct {
	client  *client.Client
	id      shadow.ID
	want    object
	options updateOptions
	current *document // as last read
}

// run returns the accepted update, nil when there was nothing to do.
func (r *replacement) run(ctx context.Context) (accepted []byte, err error) {
	for range maxAttempts {
		if r.current, err = fetchIfAny(ctx, r.client, r.id); err != nil {
			return nil, err
		}
		patch := mergePatch(r.current.section(r.options.section()), r.want)
		if r.current != nil && len(patch) == 0 {
			return accepted, r.options.ifVersion.check(r.id, r.current)
		}
		answer, err := r.attempt(ctx, patch)
		switch {
		case err == nil && r.current != nil:
			return answer, nil
		case err == nil:
			accepted = answer // made anew and without a guard: look whether somebody else did so too
		case !isConflict(err) || r.options.ifVersion.given:
			return nil, fmt.Errorf("%s: %w", display(r.id), err)
		}
	}
	return nil, failf(exitConflict, "%s: others kept changing it during %d attempts", display(r.id), maxAttempts)
}

func (r *replacement) attempt(ctx context.Context, patch object) ([]byte, error) {
	o := r.options
	if !o.ifVersion.given && r.current != nil {
		o.ifVersion = versionFlag{given: true, n: r.current.version()}
	}
	if len(r.want) == 0 {
		patch = nil
	}
	return r.client.Update(ctx, r.id, updateRequest(o, patch))
}

func isConflict(err error) bool {
	refusal, ok := errors.AsType[*client.Error](err)
	return ok && statusExitCode(refusal.Status) == exitConflict
}
