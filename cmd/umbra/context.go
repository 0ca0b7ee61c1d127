package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/internal/filelock"
)

func newContext(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "context",
		Short: "Choose between servers",
		Long: `Choose between servers by name. Contexts are kept in $XDG_CONFIG_HOME/umbra/config.yaml
($HOME/.config/umbra/config.yaml without XDG_CONFIG_HOME).

The server is taken from --server, --context, UMBRA_SERVER, UMBRA_CONTEXT, the current
context, and else is ` + client.DefaultServer + `; the first that is given counts.`,
		Example: `  umbra context add plant http://plant.example:8080 --use
  umbra context ls
  umbra context previous
  umbra --context plant get lamp`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newContextAdd(a), newContextUse(a), newContextLs(a), newContextRm(a), newContextShow(a), newContextPrevious(a))
	return cmd
}

func newContextAdd(a *app) *cobra.Command {
	var use, force bool
	cmd := &cobra.Command{
		Use:   "add NAME SERVER",
		Short: "Add a context",
		Long: `Add a context. The flags that say who you are (--user, --token, --cert and so on) are kept in it.
Without any, a context that is there keeps its own, unless --force makes it anew.`,
		Example: "  umbra context add plant http://plant.example:8080 --use\n  umbra context add plant http://plant.example:8081 --force   # changes its server",
		Args:    arguments(2, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			name, server := args[0], args[1]
			if !bare(name) || name[0] == '-' || strings.ContainsFunc(name, unicode.IsSpace) {
				return usagef("%q is no name for a context; it must be one word that is not a number", name)
			}
			if _, err := client.ParseServer(server); err != nil {
				return failf(exitUsage, "%w", err)
			}
			entry := serverEntry{Server: server, Who: a.who}
			if err := entry.Who.absolute(); err != nil {
				return err
			}
			return a.editConfig(func(c *config) error {
				if err := c.add(name, entry, force); err != nil {
					return err
				}
				if use {
					c.use(name)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "change the server of a context that there is already, and who you are")
	cmd.Flags().BoolVar(&use, "use", false, "make it the current context")
	return cmd
}

// add sets a context. One that is there keeps its server, and who the operator is where entry does not say, unless it is
// forced.
func (c *config) add(name string, entry serverEntry, force bool) error {
	if old, ok := c.Contexts[name]; ok && !force {
		if old.Server != entry.Server {
			return usagef("context %s is %s already; --force changes it", name, redacted(old.Server))
		}
		if entry.Who == (who{}) {
			entry.Who = old.Who
		}
	}
	if c.Contexts == nil {
		c.Contexts = map[string]serverEntry{}
	}
	c.Contexts[name] = entry
	return nil
}

func newContextUse(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "use NAME",
		Short:             "Make a context the current one",
		Example:           "  umbra context use plant",
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeContext,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.editConfig(func(c *config) error {
				if err := c.known(args[0]); err != nil {
					return err
				}
				c.use(args[0])
				return nil
			})
		},
	}
}

func newContextPrevious(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "previous",
		Short:   "Go back to the context before this one",
		Example: "  umbra context previous",
		Args:    arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			return a.editConfig(func(c *config) error {
				if c.Previous == "" {
					return failf(exitNotFound, "there is no previous context")
				}
				c.use(c.Previous)
				a.note("context %s", c.Current)
				return nil
			})
		},
	}
}

func newContextRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME",
		Short:             "Remove a context",
		Example:           "  umbra context rm plant",
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeContext,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.editConfig(func(c *config) error {
				if err := c.known(args[0]); err != nil {
					return err
				}
				delete(c.Contexts, args[0])
				if c.Current == args[0] {
					c.Current = ""
				}
				if c.Previous == args[0] {
					c.Previous = ""
				}
				return nil
			})
		},
	}
}

func newContextLs(a *app) *cobra.Command {
	var c *config
	return lists(a, &cobra.Command{
		Use:     "ls",
		Short:   "List contexts",
		Example: "  umbra context ls\n  umbra context ls -o name",
		Args:    arguments(0, 0),
	}, listing[string]{
		titles: []string{"CURRENT", "NAME", "SERVER"},
		fields: []string{"current", "name", "server"},
		entries: func(context.Context, []string) (_ []string, err error) {
			if c, err = a.loadConfig(); err != nil {
				return nil, err
			}
			return slices.Sorted(maps.Keys(c.Contexts)), nil
		},
		item: func(name string) item {
			server, mark := redacted(c.Contexts[name].Server), ""
			if name == c.Current {
				mark = "*"
			}
			return item{
				name:   name,
				doc:    object{"name": name, "server": server, "current": name == c.Current},
				cells:  plainCells([]string{mark, name, server}),
				fields: []string{fmt.Sprint(name == c.Current), name, server},
			}
		},
	})
}

func newContextShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show the server in use, and what chose it",
		Example: "  umbra context show\n  UMBRA_SERVER=http://127.0.0.1:8081 umbra context show",
		Args:    arguments(0, 0),
	}
	formatFlag(cmd, formatTable, formatJSON, formatYAML, formatNDJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		chosen, err := a.chooseServer()
		if err != nil {
			return err
		}
		l := a.newList(f, []string{"SERVER", "CONTEXT", "CHOSEN BY"}, nil, nil)
		if f.kind != formatTable {
			return f.document(a.stdout, encodeJSON(object{
				"server": redacted(chosen.server), "context": chosen.context, "chosenBy": chosen.from,
			}))
		}
		name := chosen.context
		if name == "" {
			name = none
		}
		if err := l.add(item{cells: []cell{{text: redacted(chosen.server)}, {text: name}, {text: chosen.from}}}); err != nil {
			return err
		}
		return l.end()
	}
	return cmd
}

// redacted hides the password of a server's URL.
func redacted(server string) string {
	u, err := client.ParseServer(server)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}

// editConfig changes the file unless edit fails. It waits for other processes that change it.
func (a *app) editConfig(edit func(*config) error) error {
	name, err := a.configFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	unlock, err := filelock.Lock(name)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	if err := edit(c); err != nil {
		return err
	}
	return a.saveConfig(c)
}

func (c *config) known(name string) error {
	if _, ok := c.Contexts[name]; !ok {
		return failf(exitNotFound, "there is no context %q; 'umbra context ls' lists them", name)
	}
	return nil
}

// use makes name the current context and remembers the one before.
func (c *config) use(name string) {
	if name != c.Current {
		c.Current, c.Previous = name, c.Current
	}
}
