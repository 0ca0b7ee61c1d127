package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

// TestFlagsHaveOneMeaning: no command has a flag of its own with the name of one of all commands. What says who the
// operator is would be taken for something else, and sent to others.
func TestFlagsHaveOneMeaning(t *testing.T) {
	t.Parallel()
	root := newRoot(&app{})
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			check(sub)
			sub.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if other := root.PersistentFlags().Lookup(f.Name); other != nil && other != f {
					t.Errorf("%s: --%s is a flag of all commands", sub.CommandPath(), f.Name)
				}
			})
		}
	}
	check(root)
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

// TestReference holds docs/cli.md to the commands, their flags and their output formats.
func TestReference(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	reference := string(text)
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		name := strings.TrimPrefix(cmd.CommandPath(), "umbra ")
		if row := tableRow(reference, "| `umbra "+name); cmd.HasParent() && cmd.Parent() == cmd.Root() {
			if row == "" {
				t.Errorf("docs/cli.md has no row for %q", name)
			}
			cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
				if f.Name != "output" && !strings.Contains(row, "`--"+f.Name+"`") {
					t.Errorf("docs/cli.md: row of %q = %q, want --%s in it", name, row, f.Name)
				}
			})
		}
		if formats, ok := cmd.Annotations[annotationFormats]; ok {
			want := "| `" + name + "` | " + strings.ReplaceAll(formats, " ", ", ") + " |"
			if !strings.Contains(reference, want) {
				t.Errorf("docs/cli.md lacks the line %s", want)
			}
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	root := newRoot(&app{})
	check(root)
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(reference, "`--"+f.Name) {
			t.Errorf("docs/cli.md lacks the flag --%s", f.Name)
		}
	})
}

// tableRow returns the line that begins with prefix, "" when there is none.
func tableRow(text, prefix string) string {
	_, row, found := strings.Cut(text, "\n"+prefix)
	if !found {
		return ""
	}
	row, _, _ = strings.Cut(row, "\n")
	return prefix + row
}
