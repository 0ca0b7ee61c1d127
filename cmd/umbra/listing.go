package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
)

// listing is what a command that lists things of one kind has of its own.
type listing[T any] struct {
	titles  []string // of the table
	fields  []string // of csv
	entries func(ctx context.Context, args []string) ([]T, error)
	item    func(T) item
}

// lists gives cmd the output formats of lists and has it list.
func lists[T any](a *app, cmd *cobra.Command, l listing[T]) *cobra.Command {
	formatFlag(cmd, formatTable, formatJSON, formatYAML, formatNDJSON, formatCSV, formatName)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		entries, err := l.entries(cmd.Context(), args)
		if err != nil {
			return err
		}
		return l.write(a, f, entries)
	}
	return cmd
}

// write writes entries.
func (l *listing[T]) write(a *app, f format, entries []T) error {
	out := a.newList(f, l.titles, nil, l.fields)
	for _, e := range entries {
		if err := out.add(l.item(e)); err != nil {
			return err
		}
	}
	return out.end()
}

// clientList asks the server for entries. what is for the error.
func clientList[T any](what string, a *app, get func(context.Context, *client.Client, []string) ([]T, error)) func(context.Context, []string) ([]T, error) {
	return func(ctx context.Context, args []string) ([]T, error) {
		c, err := a.client()
		if err != nil {
			return nil, err
		}
		entries, err := get(ctx, c, args)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return entries, nil
	}
}
