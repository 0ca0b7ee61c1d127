package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
)

func newThing(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "thing", Short: "Manage registered things, for the thing variables of policies",
		Long: `Manage registered things. A thing needs no registration to have shadows, which 'umbra ls' lists.
Registered, it has a type, attributes, and principals that are attached to it, as in the registry of
AWS IoT: the policy variables iot:Connection.Thing.* of a connection whose client id is its name.
Changes count at once, also for those who are connected.`,
		Example: "  umbra thing add pump --type big --attribute site=berlin --principal group:pumps\n  umbra thing ls\n  umbra thing rm pump",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newThingAdd(), a.newThingLs(), a.newThingRm())
	return cmd
}

func (a *app) newThingAdd() *cobra.Command {
	var t client.RegisteredThing
	var attributes []string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Register a thing, or say anew what it is",
		Long: `Register a thing, or say anew what it is: what no flag names is gone afterwards. Doing so again
changes nothing.`,
		Example: "  umbra thing add pump\n" +
			"  umbra thing add pump --type big --attribute site=berlin --attribute floor=2 --principal group:pumps",
		Args: arguments(1, 1),
	}
	formatFlag(cmd, formatTable, formatJSON, formatYAML)
	f := cmd.Flags()
	f.StringVar(&t.Type, "type", "", "thing `type`")
	f.StringArrayVar(&attributes, "attribute", nil, "attribute as `NAME=VALUE`; may be given several times")
	f.StringSliceVar(&t.Principals, "principal", nil, "`principal` that is attached, such as cert:ID or group:NAME; may be given several times")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		t.Name, t.Attributes = args[0], map[string]string{}
		for _, text := range attributes {
			name, value, found := strings.Cut(text, "=")
			if !found {
				return usagef("--attribute %s: write NAME=VALUE", text)
			}
			t.Attributes[name] = value
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		stored, err := c.PutRegisteredThing(cmd.Context(), t)
		if err != nil {
			return err
		}
		if out.kind == formatTable {
			return registeredThings.write(a, out, []client.RegisteredThing{*stored})
		}
		return out.document(a.stdout, encodeJSON(registered(*stored).doc))
	}
	return cmd
}

func (a *app) newThingLs() *cobra.Command {
	cmd := &cobra.Command{Use: "ls [PREFIX]", Short: "List registered things", Example: "  umbra thing ls pump -o json", Args: arguments(0, 1)}
	l := registeredThings
	l.entries = clientList("list registered things", a, func(ctx context.Context, c *client.Client, args []string) ([]client.RegisteredThing, error) {
		return c.RegisteredThings(ctx, strings.Join(args, ""))
	})
	return lists(a, cmd, l)
}

// registeredThings is how they are shown.
var registeredThings = listing[client.RegisteredThing]{
	titles: []string{"THING", "TYPE", "ATTRIBUTES", "PRINCIPALS", "ORIGIN"},
	fields: []string{"thing", "type", "attributes", "principals", "origin"},
	item:   registered,
}

// registered is a registered thing as an item of a list.
func registered(t client.RegisteredThing) item {
	attributes, pairs := object{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(t.Attributes)) {
		attributes[name] = t.Attributes[name]
		pairs = append(pairs, name+"="+t.Attributes[name])
	}
	fields := []string{t.Name, t.Type, strings.Join(pairs, ","), strings.Join(t.Principals, ","), t.Origin}
	doc := object{"thing": t.Name, "type": t.Type, "attributes": attributes, "principals": anys(t.Principals), "origin": t.Origin}
	return item{name: t.Name, doc: doc, cells: plainCells(fields), fields: fields}
}

func (a *app) newThingRm() *cobra.Command {
	ignoreNotFound := false
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "Remove a registered thing; its shadows stay", Example: "  umbra thing rm pump --ignore-not-found",
		Args: arguments(1, 1),
	}
	cmd.Flags().BoolVar(&ignoreNotFound, "ignore-not-found", false, "a thing that is not registered is no error")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		err = c.DeleteRegisteredThing(cmd.Context(), args[0])
		if isNotFound(err) && ignoreNotFound {
			return nil
		}
		return explained(err, "")
	}
	return cmd
}
