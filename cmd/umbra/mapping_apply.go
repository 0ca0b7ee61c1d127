package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/client"
)

func newMappingApply(a *app) *cobra.Command {
	var dryRun bool
	var ifVersion versionFlag
	cmd := &cobra.Command{
		Use: "apply FILE", Short: "Store the mappings of a file, in force at once on all servers",
		Long: `Store the mappings of a file, or of stdin with "-". Each is made or replaced by its name, and is in force
at once; servers that share the store follow within a second. A mapping of the store takes the place
of one of the same name in the settings of umbrad. What changes is shown: "-" is what the store has, "+" what
the file has. Devices and the states of their commands are kept.`,
		Example: "  umbra mapping apply mine.yaml --dry-run\n  umbra mapping apply mine.yaml --if-version 3", Args: arguments(1, 1),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	cmd.Flags().Var(&ifVersion, "if-version", "only if the stored version is `N`; 0: only if there is none")
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		texts, err := a.readDocuments(args[0])
		if err != nil {
			return err
		}
		if ifVersion.given && len(texts) != 1 {
			return usagef("--if-version goes with one mapping, and %s has %d", args[0], len(texts))
		}
		for _, d := range texts {
			if err := a.applyMapping(ctx, c, d, ifVersion, dryRun); err != nil {
				return err
			}
		}
		return nil
	})
	return cmd
}

// mappingText is one mapping of a file.
type mappingText struct{ name, text string }

// readDocuments checks the mappings of a file and takes it apart.
func (a *app) readDocuments(file string) ([]mappingText, error) {
	text, err := a.readFile(file)
	if err != nil {
		return nil, err
	}
	all, _, err := mapping.Load(file, text)
	if err != nil {
		return nil, failf(exitInvalid, "%w", err)
	}
	if len(all) == 1 {
		return []mappingText{{all[0].Name(), string(text)}}, nil
	}
	var list []mappingText
	for _, part := range splitDocuments(string(text)) {
		one, _, err := mapping.Load(file, []byte(part))
		if err != nil || len(one) != 1 {
			continue // comments alone, as the file is valid
		}
		list = append(list, mappingText{one[0].Name(), part})
	}
	return list, nil
}

// splitDocuments takes a YAML file apart at its document markers.
func splitDocuments(text string) []string {
	var parts []string
	var part strings.Builder
	for line := range strings.Lines(text) {
		if marker := strings.TrimRight(line, " \r\n"); marker == "---" {
			parts = append(parts, part.String())
			part.Reset()
			continue
		}
		part.WriteString(line)
	}
	return append(parts, part.String())
}

func (a *app) applyMapping(ctx context.Context, c *client.Client, m mappingText, want versionFlag, dryRun bool) error {
	if m.name == "errors" || m.name == "orphans" { // /v1/mappings has something else there
		return failf(exitUsage, "mapping %s: a mapping of the store cannot have this name", m.name)
	}
	old, err := c.StoredMapping(ctx, m.name)
	if isNotFound(err) {
		old, err = &client.StoredMapping{}, nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("mapping %s: %w", m.name, err)
	case want.given && want.n != old.Version:
		return failf(exitConflict, "mapping %s: version is %d, not %d", m.name, old.Version, want.n)
	case old.Version > 0 && old.Text == m.text:
		_, err = fmt.Fprintf(a.stdout, "mapping %s unchanged (version %d)\n", m.name, old.Version)
		return err
	}
	stored, err := c.PutMapping(ctx, m.name, m.text, old.Version, dryRun)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", m.name, err)
	}
	for _, w := range stored.Warnings {
		fmt.Fprintln(a.stderr, w)
	}
	printLineDiff(a.stdout, old.Text, m.text)
	verb := "created"
	if old.Version > 0 {
		verb = "replaced"
	}
	if dryRun {
		_, err = fmt.Fprintf(a.stdout, "mapping %s would be %s\n", m.name, verb)
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "mapping %s %s (version %d)\n", m.name, verb, stored.Version)
	return err
}

// printLineDiff prints the lines between what two texts have in common at their beginnings and ends.
func printLineDiff(w io.Writer, before, after string) {
	old, now := strings.Split(strings.TrimSuffix(before, "\n"), "\n"), strings.Split(strings.TrimSuffix(after, "\n"), "\n")
	if before == "" {
		old = nil
	}
	for len(old) > 0 && len(now) > 0 && old[0] == now[0] {
		old, now = old[1:], now[1:]
	}
	for len(old) > 0 && len(now) > 0 && old[len(old)-1] == now[len(now)-1] {
		old, now = old[:len(old)-1], now[:len(now)-1]
	}
	for _, line := range old {
		fmt.Fprintln(w, "-"+line)
	}
	for _, line := range now {
		fmt.Fprintln(w, "+"+line)
	}
}

func newMappingRm(a *app) *cobra.Command {
	var ifVersion versionFlag
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "Remove a mapping from the store",
		Long: `Remove a mapping from the store. Its devices are forgotten; their shadows stay. A mapping of the settings
of umbrad that has the name is in force again.`,
		Example: "  umbra mapping rm plug", Args: arguments(1, 1),
	}
	cmd.Flags().Var(&ifVersion, "if-version", "only if the stored version is `N`")
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		if ifVersion.given && ifVersion.n == 0 {
			return usagef("--if-version of rm is above 0")
		}
		if err := c.DeleteMapping(ctx, args[0], ifVersion.n); err != nil {
			return fmt.Errorf("mapping %s: %w", args[0], err)
		}
		_, err := fmt.Fprintf(a.stdout, "mapping %s removed\n", args[0])
		return err
	})
	return cmd
}
