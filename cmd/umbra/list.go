package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
)

// item is one entry of a list, in every form in which it may be asked for.
type item struct {
	name   string
	doc    object   // json, ndjson, yaml, jsonpath, template
	cells  []cell   // table
	more   []cell   // wide, besides cells
	fields []string // csv
}

// list writes items as they come; only the rows of a table wait for page.
type list struct {
	format format
	out    io.Writer
	table  table
	csv    *csv.Writer
	count  int
	titles [3][]string // of the table, more of wide, csv
}

// newList returns a list of items with these titles of the table, of what wide has besides, and of csv.
func (a *app) newList(f format, titles, more, fields []string) *list {
	return &list{
		format: f, out: a.stdout,
		table:  table{out: a.stdout, colour: a.colour, uncut: f.kind == formatWide},
		csv:    csv.NewWriter(a.stdout),
		titles: [3][]string{titles, more, fields},
	}
}

func (l *list) add(it item) error {
	l.count++
	switch l.format.kind {
	case formatTable:
		if l.count == 1 {
			l.table.header(l.titles[0]...)
		}
		l.table.row(it.cells...)
	case formatWide:
		if l.count == 1 {
			l.table.header(append(l.titles[0], l.titles[1]...)...)
		}
		l.table.row(append(it.cells, it.more...)...)
	case formatCSV:
		if l.count == 1 {
			_ = l.csv.Write(l.titles[2]) // csv.Writer keeps the error for page
		}
		_ = l.csv.Write(it.fields)
	case formatName:
		_, err := fmt.Fprintln(l.out, visible(it.name))
		return err
	case formatJSON:
		return l.addJSON(it)
	case formatYAML:
		return l.format.value(l.out, []any{it.doc})
	default:
		return l.format.document(l.out, encodeJSON(it.doc))
	}
	return nil
}

func (l *list) addJSON(it item) error {
	var b strings.Builder
	if err := l.format.document(&b, encodeJSON(it.doc)); err != nil {
		return err
	}
	before := ",\n  "
	if l.count == 1 {
		before = "[\n  "
	}
	_, err := io.WriteString(l.out, before+strings.ReplaceAll(strings.TrimSpace(b.String()), "\n", "\n  "))
	return err
}

// page writes what waits.
func (l *list) page() error {
	l.csv.Flush()
	if err := l.csv.Error(); err != nil {
		return err
	}
	return l.table.flush()
}

// end completes the list.
func (l *list) end() error {
	if err := l.page(); err != nil {
		return err
	}
	closing := ""
	switch {
	case l.format.kind == formatJSON && l.count > 0:
		closing = "\n]\n"
	case l.format.kind == formatJSON || l.format.kind == formatYAML && l.count == 0:
		closing = "[]\n"
	case l.format.kind == formatCSV && l.count == 0:
		closing = strings.Join(l.titles[2], ",") + "\n"
	}
	_, err := io.WriteString(l.out, closing)
	return err
}
