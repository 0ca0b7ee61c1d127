package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp holds every command to a help text with an example that begins with a way to call it.
func TestHelp(t *testing.T) {
	t.Parallel()
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			check(sub)
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q, want a phrase", cmd.CommandPath(), cmd.Short)
		}
		if !strings.Contains(cmd.Example, cmd.CommandPath()+" ") && !strings.HasSuffix(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: example %q does not call it", cmd.CommandPath(), cmd.Example)
		}
		for line := range strings.Lines(cmd.Long) {
			if len(line) > 110 {
				t.Errorf("%s: line of %d characters in its help, want at most 110", cmd.CommandPath(), len(line))
			}
		}
	}
	check(newRoot(&app{}))
}

// TestExamplesParse parses every example: its command, its flags and its number of arguments exist.
func TestExamplesParse(t *testing.T) {
	t.Parallel()
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			check(sub)
		}
		for line := range strings.Lines(cmd.Example) {
			for _, call := range calls(line) {
				target, args, err := newRoot(&app{}).Find(call)
				if err == nil {
					err = target.ParseFlags(args)
				}
				if err == nil {
					err = target.ValidateArgs(target.Flags().Args())
				}
				if err != nil {
					t.Errorf("%s: example %q: %v", cmd.CommandPath(), strings.TrimSpace(line), err)
				}
			}
		}
	}
	check(newRoot(&app{}))
}

// calls returns the arguments of each call of umbra in a line of shell.
func calls(line string) [][]string {
	var out [][]string
	line, _, _ = strings.Cut(line, "  #")
	for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune("|()>", r) }) {
		words := strings.Fields(strings.NewReplacer("'", "", "Living room", "x", "xargs -n 1 umbra delta", "").Replace(part))
		if i := slices.Index(words, "umbra"); i >= 0 {
			out = append(out, words[i+1:])
		}
	}
	return out
}
