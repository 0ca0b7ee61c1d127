package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newWhoami(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "whoami",
		Short:   "Show who you are to the server, and which policies count for you",
		Example: "  umbra whoami --user alice\n  umbra whoami -o json",
		Args:    arguments(0, 0),
	}
	formatFlag(cmd, formatTable, formatJSON, formatYAML, formatNDJSON, formatJSONPath, formatTemplate)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		answer, err := c.Whoami(cmd.Context())
		if err != nil {
			return err
		}
		if f.kind != formatTable {
			return f.document(a.stdout, answer)
		}
		return a.printWhoami(answer)
	}
	return cmd
}

func (a *app) printWhoami(answer []byte) error {
	var me struct {
		Principal, Expires       string
		Groups, Policies, Scopes []string
		Open                     bool
	}
	if err := json.Unmarshal(answer, &me); err != nil {
		return fmt.Errorf("the server does not say who you are: %w", err)
	}
	if me.Open {
		me.Policies = []string{"none: whoever comes may do everything"}
	}
	t := table{out: a.stdout, colour: a.colour, uncut: true}
	for _, line := range [][2]string{
		{"principal", me.Principal},
		{"groups", strings.Join(me.Groups, ", ")},
		{"policies", strings.Join(me.Policies, ", ")},
		{"scopes", strings.Join(me.Scopes, ", ")},
		{"expires", me.Expires},
	} {
		t.row(plainCells([]string{line[0], cmp.Or(line[1], "-")})...)
	}
	return t.flush()
}
