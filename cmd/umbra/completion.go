package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/shadow"
)

// Limits of what the completion of names asks of the server.
const (
	completionTime  = time.Second
	completionCount = 200
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands, flags and names in a shell",
		Long:  "Print a script for a shell. It completes commands, flags and, by asking the server, the names of shadows.",
		Example: `  source <(umbra completion bash)
  umbra completion zsh > "${fpath[1]}/_umbra"
  umbra completion fish > ~/.config/fish/completions/umbra.fish
  umbra completion powershell | Out-String | Invoke-Expression`,
		Args:      arguments(1, 1),
		ValidArgs: []cobra.Completion{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usagef("shell %q is not one of bash, zsh, fish, powershell", args[0])
		},
	}
}

// completeShadow completes the first argument, completeShadows each.
func (a *app) completeShadow(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeShadows(cmd, args, begun)
}

func (a *app) completeShadows(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	if strings.HasPrefix(begun, "@") {
		return nil, cobra.ShellCompDirectiveDefault // a file
	}
	a.stdinTerminal = false // nobody would see that a password is asked for
	c, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	thing, _, _ := strings.Cut(begun, "/")
	page, err := c.Things(ctx, thing, "", completionCount)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []cobra.Completion
	for _, t := range page.Things {
		for _, s := range t.Shadows {
			if name := display(shadow.ID{Thing: t.Thing, Name: s.Name}); strings.HasPrefix(name, begun) {
				names = append(names, name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeContext(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	c, err := a.loadConfig()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(c.Contexts)), cobra.ShellCompDirectiveNoFileComp
}
