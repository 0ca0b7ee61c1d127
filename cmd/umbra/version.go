package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/version"
)

func newVersion(a *app) *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show the versions of this program and of the server",
		Example: "  umbra version\n  umbra version --client\n  umbra version -o json",
		Args:    arguments(0, 0),
	}
	formatFlag(cmd, formatTable, formatJSON, formatYAML, formatNDJSON, formatJSONPath, formatTemplate)
	cmd.Flags().BoolVar(&clientOnly, "client", false, "do not ask the server")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		versions := []programVersion{{Program: "umbra", Info: version.Get()}}
		var serverErr error
		if !clientOnly {
			var server *programVersion
			if server, serverErr = a.serverVersion(cmd); serverErr == nil {
				versions = append(versions, *server)
			}
		}
		if err := a.printVersions(versions, f); err != nil {
			return err
		}
		return serverErr
	}
	return cmd
}

// programVersion is the version of this program or of the server.
type programVersion struct {
	Program string
	Address string
	version.Info
}

func (a *app) serverVersion(cmd *cobra.Command) (*programVersion, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	answer, err := c.Version(cmd.Context())
	if err != nil {
		return nil, err
	}
	v := &programVersion{Program: "umbrad", Address: c.Server()}
	if err := json.Unmarshal(answer, &v.Info); err != nil {
		return nil, fmt.Errorf("%s says no version: %w", c.Server(), err)
	}
	return v, nil
}

func (a *app) printVersions(versions []programVersion, f format) error {
	if f.kind != formatTable {
		all := object{}
		for _, v := range versions {
			key := "client"
			if v.Address != "" {
				key = "server"
			}
			all[key] = v.Info
		}
		return f.document(a.stdout, encodeJSON(all))
	}
	t := table{out: a.stdout, colour: a.colour, uncut: true}
	for _, v := range versions {
		t.row(cell{text: v.Program}, cell{text: v.String()}, cell{text: v.Go + " " + v.Platform}, cell{text: v.Address})
	}
	return t.flush()
}
