package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/shadow"
)

type deleteOptions struct {
	yes            bool
	ifVersion      versionFlag
	ignoreNotFound bool
}

func newDelete(a *app) *cobra.Command {
	var o deleteOptions
	cmd := &cobra.Command{
		Use:   "delete THING[/NAME]...",
		Short: "Delete shadows",
		Long: `Delete shadows, each after a confirmation. Without a terminal, --yes is needed.

A deleted shadow's version goes on counting if it is made again within 48 hours.`,
		Example: `  umbra delete lamp
  umbra delete lamp/config --yes --if-version 7
  umbra delete lamp lamp/config --yes --ignore-not-found`,
		Args:              arguments(1, -1),
		ValidArgsFunction: a.completeShadows,
	}
	formatFlag(cmd, formatTable, formatJSON, formatNDJSON, formatYAML, formatName, formatRaw)
	flags := cmd.Flags()
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.Var(&o.ifVersion, "if-version", "only if the shadow's version is `N`")
	flags.BoolVar(&o.ignoreNotFound, "ignore-not-found", false, "a shadow that does not exist is no error")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.delete(cmd, args, o)
	}
	return cmd
}

func (a *app) delete(cmd *cobra.Command, targets []string, o deleteOptions) error {
	f, err := outputFormat(cmd)
	if err != nil {
		return err
	}
	ids := make([]shadow.ID, len(targets))
	for i, target := range targets {
		if ids[i], err = parseTarget(target); err != nil {
			return err
		}
	}
	if o.ifVersion.given && (len(ids) > 1 || o.ifVersion.n == 0) {
		return usagef("--if-version goes with one shadow, and is above 0")
	}
	if !o.yes && !a.stdinTerminal {
		return usagef("delete asks before it deletes, but stdin is no terminal; add --yes")
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	d := deletion{app: a, client: c, options: o, format: f, answers: bufio.NewScanner(a.stdin)}
	var failed []error
	for _, id := range ids {
		if err := d.delete(cmd.Context(), id); err != nil {
			failed = append(failed, err)
		}
	}
	if len(ids) == 1 || len(failed) == 0 || cmd.Context().Err() != nil {
		return errors.Join(failed...)
	}
	for _, err := range failed {
		a.note("%s", oneLine(err.Error()))
	}
	if len(failed) == len(ids) {
		return failf(exitCode(cmd.Context(), failed[0]), "none of %d shadows deleted", len(ids))
	}
	return failf(exitPartly, "%d of %d shadows not deleted", len(failed), len(ids))
}

// deletion is one run of delete.
type deletion struct {
	*app

	client  *client.Client
	options deleteOptions
	format  format
	answers *bufio.Scanner
}

func (d *deletion) delete(ctx context.Context, id shadow.ID) error {
	guard := d.options.ifVersion.n
	if !d.options.yes {
		version, err := d.confirm(ctx, id)
		if isNotFound(err) && d.options.ignoreNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		guard = cmp.Or(guard, version) // what was confirmed, and nothing newer
	}
	accepted, err := d.client.Delete(ctx, id, guard)
	if isNotFound(err) && d.options.ignoreNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", display(id), err)
	}
	switch d.format.kind {
	case formatTable:
		_, err = fmt.Fprintf(d.stdout, "%s  deleted\n", display(id))
	case formatName:
		_, err = fmt.Fprintln(d.stdout, display(id))
	default:
		err = d.format.document(d.stdout, accepted)
	}
	return err
}

// confirm asks on stderr, and returns the version that it asked about. Everything but yes is no.
func (d *deletion) confirm(ctx context.Context, id shadow.ID) (version uint64, err error) {
	doc, err := fetch(ctx, d.client, id)
	if err != nil {
		return 0, err
	}
	desired, reported := len(leavesWithin(doc.section(sectionDesired))), len(leavesWithin(doc.section(sectionReported)))
	fmt.Fprintf(d.stderr, "Delete %s (version %d, %d desired and %d reported values)? [y/N] ",
		display(id), doc.version(), desired, reported)
	if !d.answers.Scan() {
		fmt.Fprintln(d.stderr)
	}
	switch strings.ToLower(strings.TrimSpace(d.answers.Text())) {
	case "y", "yes":
		return doc.version(), nil
	}
	return 0, failf(exitOther, "%s: not deleted", display(id))
}
