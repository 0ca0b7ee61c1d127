package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/shadow"
)

// pageSize is how many things one request of ls asks for.
const pageSize = 500

func newLs(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List shadows",
		Long: `List the shadows of the things whose names begin with PREFIX, in order of their names. All are
listed unless --limit says otherwise; when it cuts the list, a line on stderr says so.`,
		Example: `  umbra ls
  umbra ls lamp- -o wide
  umbra ls -o name | xargs -n 1 umbra delta
  umbra ls -o 'template={{.thing}} {{.version}}'`,
		Args:              arguments(0, 1),
		ValidArgsFunction: a.completeShadow,
	}
	formatFlag(cmd, formatTable, formatWide, formatJSON, formatYAML, formatNDJSON, formatCSV, formatName,
		formatJSONPath, formatTemplate)
	cmd.Flags().IntVar(&limit, "limit", 0, "list at most `N` shadows (default all)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		if limit < 0 {
			return usagef("--limit must not be negative")
		}
		prefix := ""
		if len(args) > 0 {
			prefix = args[0]
		}
		return a.ls(cmd.Context(), prefix, limit, f)
	}
	return cmd
}

func (a *app) ls(ctx context.Context, prefix string, limit int, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	var l *list
	size := pageSize
	if limit > 0 {
		size = min(size, limit)
	}
	for page := ""; ; {
		p, err := c.Things(ctx, prefix, page, size)
		if err != nil {
			return fmt.Errorf("list things: %w", err)
		}
		if l == nil {
			l = a.newShadowList(f, p.Things)
		}
		cut, err := a.addThings(l, p.Things, limit)
		if err != nil {
			return err
		}
		if page = p.Next; !cut && page != "" && (limit == 0 || l.count < limit) {
			if err := l.page(); err != nil {
				return err
			}
			continue
		}
		return a.endShadowList(l, prefix, cut || page != "")
	}
}

// endShadowList completes a list of shadows and says on stderr if it was cut, or is empty.
func (a *app) endShadowList(l *list, prefix string, cut bool) error {
	if err := l.end(); err != nil {
		return err
	}
	if cut {
		a.note("stopped after %d %s because of --limit; there are more", l.count, plural(l.count, "shadow"))
	} else if l.count == 0 {
		a.note("no shadows%s", beginning(prefix))
	}
	return nil
}

// newShadowList has columns of presence if the server keeps it, which the first things show.
func (a *app) newShadowList(f format, first []client.ThingInfo) *list {
	titles, more := []string{"SHADOW", "VERSION", "SYNC", "AGE"}, []string{"MODIFIED"}
	fields := []string{"thing", "name", "version", "in_sync", "modified"}
	if len(first) > 0 && first[0].Connectivity != nil {
		titles, more = append(titles, "PRESENCE"), append([]string{"SINCE", "REASON"}, more...)
		fields = append(fields, "connected", "since", "reason")
	}
	return a.newList(f, titles, more, fields)
}

func beginning(prefix string) string {
	if prefix == "" {
		return ""
	}
	return fmt.Sprintf(" of things whose names begin with %q", prefix)
}

// addThings reports whether limit left something out.
func (a *app) addThings(l *list, things []client.ThingInfo, limit int) (cut bool, err error) {
	for _, t := range things {
		for _, s := range t.Shadows {
			if limit > 0 && l.count == limit {
				return true, nil
			}
			if err := l.add(a.withPresence(a.shadowItem(t.Thing, s), t.Connectivity)); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

func (a *app) shadowItem(thing string, s client.ShadowInfo) item {
	name := display(shadow.ID{Thing: thing, Name: s.Name})
	modified := stamp(s.Modified, a.location())
	version := strconv.FormatUint(s.Version, 10)
	state := cell{text: "delta", tint: tintYellow}
	if s.InSync {
		state = cell{text: "in sync", tint: tintGreen}
	}
	return item{
		name:   name,
		doc:    object{"thing": thing, "name": s.Name, "version": s.Version, "inSync": s.InSync, "modified": modified},
		cells:  []cell{{text: name}, {text: version}, state, {text: age(a.now().Sub(time.UnixMilli(s.Modified))), tint: tintDim}},
		more:   []cell{{text: clock(s.Modified, a.location())}},
		fields: []string{thing, s.Name, version, strconv.FormatBool(s.InSync), modified},
	}
}
