package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/shadow"
)

// errTimeUp is the cause of a context whose --timeout or --wait is over.
var errTimeUp = errors.New("time is up")

func newWait(a *app) *cobra.Command {
	var conditions []string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait THING[/NAME] --for CONDITION",
		Short: "Wait until a shadow meets a condition",
		Long: `Wait until a shadow meets a condition, all of them when there are several.

A condition is in-sync, exists, deleted, PATH (there is a value), or PATH and a value with
==, !=, <, <=, > or >= between them. The exit code is 7 when the time is up.`,
		Example: `  umbra wait lamp --for in-sync
  umbra wait lamp --for reported.fw==2.1 --timeout 10m
  umbra wait lamp --for 'reported.temp>=21' --for reported.on==true
  umbra wait lamp/config --for deleted`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeShadow,
	}
	cmd.Flags().StringArrayVar(&conditions, "for", nil, "`CONDITION` to wait for")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait; 0 only looks")
	mustComplete(cmd, "for", []cobra.Completion{"in-sync", "exists", "deleted", "reported.", "desired.", "version"})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(conditions) == 0 {
			return usagef("nothing to wait for; add --for in-sync, or another condition")
		}
		return a.wait(cmd.Context(), args[0], conditions, timeout)
	}
	return cmd
}

func (a *app) wait(ctx context.Context, target string, texts []string, timeout time.Duration) error {
	id, err := parseTarget(target)
	if err != nil {
		return err
	}
	conditions := make([]condition, len(texts))
	for i, text := range texts {
		if conditions[i], err = parseCondition(text); err != nil {
			return err
		}
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	doc, err := await(ctx, c, id, timeout, func(d *document) bool { return len(unmet(conditions, d)) == 0 })
	if errors.Is(err, errTimeUp) {
		return failf(exitUnreachable, "%s: after %v still not %s (%s)", display(id), timeout,
			strings.Join(unmet(conditions, doc), ", "), standing(doc))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s  %s  %s\n", display(id), standing(doc), strings.Join(texts, ", "))
	return err
}

func unmet(conditions []condition, d *document) []string {
	var texts []string
	for _, c := range conditions {
		if !c.met(d) {
			texts = append(texts, c.text)
		}
	}
	return texts
}

func standing(d *document) string {
	if d == nil {
		return "no shadow"
	}
	return fmt.Sprintf("version %d", d.version())
}

// await returns the first document that meets the condition, nil standing for no shadow. When time
// is up, it returns errTimeUp and the document as last seen.
func await(ctx context.Context, c *client.Client, id shadow.ID, timeout time.Duration, met func(*document) bool) (*document, error) {
	doc, err := fetchIfAny(ctx, c, id)
	if err != nil || met(doc) {
		return doc, err
	}
	if timeout <= 0 {
		return doc, errTimeUp
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeUp)
	defer cancel()
	errMet := errors.New("condition met")
	w := client.Watch{Shadow: id, After: strconv.FormatUint(doc.version(), 10)}
	err = c.Watch(ctx, w, func(e client.Event) error {
		if n, err := strconv.ParseUint(e.ID, 10, 64); err == nil && n <= doc.version() && e.Type != "reset" {
			return nil // the document that was read last has it already
		}
		now, err := fetchIfAny(ctx, c, id)
		if err != nil {
			return err
		}
		if doc = now; met(doc) {
			return errMet
		}
		return nil
	})
	if errors.Is(err, errMet) {
		err = nil
	}
	return doc, err
}

// awaitReported waits until a shadow reports what patch desires. A value that the patch removes asks for nothing.
func (a *app) awaitReported(ctx context.Context, s subject, patch object, timeout time.Duration) error {
	doc, err := await(ctx, s.client, s.id, timeout, func(d *document) bool {
		return len(missing(patch, d.section(sectionReported))) == 0
	})
	if !errors.Is(err, errTimeUp) {
		return err
	}
	var behind []string
	for _, l := range missing(patch, doc.section(sectionReported)) {
		shown := none
		if got, ok := lookup(doc.section(sectionReported), l.path); ok {
			shown = text(got)
		}
		behind = append(behind, fmt.Sprintf("%s is %s, not %s", l.path, shown, text(l.value)))
	}
	return failf(exitUnreachable, "%s: stored, but after %v the device does not report it: %s",
		display(s.id), timeout, strings.Join(behind, "; "))
}
