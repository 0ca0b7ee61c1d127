package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/spf13/cobra"
)

// none stands in a table where a section has no value.
const none = "-"

type getOptions struct {
	path   string
	noMeta bool
}

func newGet(a *app) *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get THING[/NAME]",
		Short: "Show a shadow",
		Long: `Show a shadow: desired and reported side by side, what the device has still to do, and
how long ago each value was written. -o json and -o raw give the document of the server.`,
		Example: `  umbra get lamp
  umbra get lamp/config -o json --no-meta
  umbra get lamp --path reported.color.r
  umbra get lamp -o 'jsonpath=$.state.reported.on'`,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeShadow,
	}
	formatFlag(cmd, formatTable, formatWide, formatJSON, formatYAML, formatNDJSON, formatCSV, formatName,
		formatRaw, formatJSONPath, formatTemplate)
	cmd.Flags().StringVar(&o.path, "path", "", "only the value at `PATH`, such as reported.color.r")
	cmd.Flags().BoolVar(&o.noMeta, "no-meta", false, "leave out when each value was written")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		return a.get(cmd.Context(), args[0], o, f)
	}
	return cmd
}

func (a *app) get(ctx context.Context, target string, o getOptions, f format) error {
	id, err := parseTarget(target)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	var p path
	if o.path != "" {
		if p, err = documentPath(o.path); err != nil {
			return err
		}
	}
	doc, err := fetch(ctx, c, id)
	if err != nil {
		return err
	}
	switch {
	case f.kind == formatName:
		_, err = fmt.Fprintln(a.stdout, display(id))
		return err
	case o.path != "":
		return a.getPath(doc, p, o.path, f, display(id))
	case f.kind == formatTable, f.kind == formatWide, f.kind == formatCSV:
		return a.getTable(doc, display(id), o.noMeta, f)
	case o.noMeta:
		return f.document(a.stdout, withoutMetadata(doc))
	}
	return f.document(a.stdout, doc.raw)
}

func withoutMetadata(doc *document) []byte {
	members := maps.Clone(doc.members)
	delete(members, "metadata")
	return encodeJSON(members)
}

// getPath prints one value: a string without quotes, unless the format has its own way.
func (a *app) getPath(doc *document, p path, asked string, f format, name string) error {
	value, ok := lookup(doc.members, p)
	if !ok {
		return failf(exitNotFound, "%s has no %s at version %d", name, asked, doc.version())
	}
	switch f.kind {
	case formatTable, formatWide:
		_, err := fmt.Fprintln(a.stdout, visible(plain(value)))
		return err
	case formatCSV, formatRaw:
		_, err := fmt.Fprintln(a.stdout, plain(value))
		return err
	}
	return f.document(a.stdout, encodeJSON(value))
}

func (a *app) getTable(doc *document, name string, noMeta bool, f format) error {
	if f.kind != formatCSV {
		if err := a.getHeadline(doc, name); err != nil {
			return err
		}
	}
	v := shadowTable{doc: doc, now: integer(doc.members["timestamp"]), location: a.location(), noMeta: noMeta}
	titles, more, fields := v.titles()
	l := a.newList(f, titles, more, fields)
	for _, p := range allPaths(doc.section(sectionDesired), doc.section(sectionReported)) {
		if err := l.add(v.item(p)); err != nil {
			return err
		}
	}
	return l.end()
}

func (a *app) getHeadline(doc *document, name string) error {
	state := cell{text: "in sync", tint: tintGreen}
	if n := len(leavesWithin(doc.section(sectionDelta))); !doc.inSync() {
		state = cell{text: fmt.Sprintf("waits for the device: %d %s", n, plural(n, "value")), tint: tintYellow}
	}
	line := fmt.Sprintf("%s  version %d  %s", tintBold.paint(name, a.colour), doc.version(), state.tint.paint(state.text, a.colour))
	if p := a.presence(doc); p.text != "" {
		line += "  " + p.tint.paint(visible(p.text), a.colour)
	}
	_, err := fmt.Fprintln(a.stdout, line)
	return err
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// shadowTable makes a row of each path of a shadow.
type shadowTable struct {
	doc      *document
	now      int64 // time of the server, s
	location *time.Location
	noMeta   bool
}

func (v shadowTable) titles() (table, wide, csv []string) {
	table = []string{"PATH", "DESIRED", "REPORTED", "DELTA", "AGE"}
	wide = []string{"DESIRED AT", "REPORTED AT"}
	csv = []string{"path", "desired", "reported", "delta", "desired_at", "reported_at"}
	if v.noMeta {
		return table[:4], nil, csv[:4]
	}
	return table, wide, csv
}

func (v shadowTable) item(p path) item {
	var texts, fields []string
	for _, section := range []string{sectionDesired, sectionReported, sectionDelta} {
		value, ok := lookup(v.doc.section(section), p)
		shown, field := none, ""
		if ok {
			shown, field = text(value), string(encodeJSON(value))
		}
		if _, inner := value.(object); inner && len(value.(object)) > 0 {
			shown = "{…}" // its values have rows of their own
		}
		texts, fields = append(texts, shown), append(fields, field)
	}
	it := item{
		cells:  []cell{{text: p.String()}, {text: texts[0], long: true}, {text: texts[1], long: true}, {text: texts[2], tint: tintYellow, long: true}},
		fields: append([]string{p.String()}, fields...),
	}
	if texts[2] == none {
		it.cells[3].tint = tintDim
	}
	if v.noMeta {
		return it
	}
	desired, reported := v.doc.written(sectionDesired, p), v.doc.written(sectionReported, p)
	it.cells = append(it.cells, cell{text: v.age(max(desired, reported)), tint: tintDim})
	for _, at := range []int64{desired, reported} {
		shown, field := none, ""
		if at > 0 {
			shown, field = clock(at*1000, v.location), stamp(at*1000, v.location)
		}
		it.more = append(it.more, cell{text: shown})
		it.fields = append(it.fields, field)
	}
	return it
}

func (v shadowTable) age(at int64) string {
	if at == 0 {
		return none
	}
	return age(time.Duration(v.now-at) * time.Second)
}
