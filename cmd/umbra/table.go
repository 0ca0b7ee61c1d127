package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// cell is a piece of a line with the colour it has on a terminal.
type cell struct {
	text string
	tint tint
	long bool // a value of a shadow, or text to read: a table cuts it. Names and secrets are typed again: they are never cut
}

// tint is an SGR parameter of a terminal, "" for none.
type tint string

// The colours that are used.
const (
	tintBold   tint = "1"
	tintDim    tint = "2"
	tintRed    tint = "31"
	tintGreen  tint = "32"
	tintYellow tint = "33"
)

func (t tint) paint(s string, colour bool) string {
	if !colour || t == "" || s == "" {
		return s
	}
	return "\x1b[" + string(t) + "m" + s + "\x1b[0m"
}

// maxCell is the width at which a table cuts what is long, with an ellipsis; wide does not cut.
const maxCell = 40

// table aligns rows. It can be flushed in parts: a column never gets narrower again.
type table struct {
	out     io.Writer
	colour  bool
	uncut   bool
	widths  []int
	pending [][]cell
}

func (t *table) row(cells ...cell) {
	for i := range cells {
		cells[i].text = visible(cells[i].text)
		if cells[i].long && !t.uncut {
			cells[i].text = cut(cells[i].text)
		}
		if i == len(t.widths) {
			t.widths = append(t.widths, 0)
		}
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cells[i].text))
	}
	t.pending = append(t.pending, cells)
}

func (t *table) header(titles ...string) {
	cells := make([]cell, len(titles))
	for i, title := range titles {
		cells[i] = cell{text: title, tint: tintBold}
	}
	t.row(cells...)
}

// flush writes the rows that came since the last time.
func (t *table) flush() error {
	var b strings.Builder
	for _, cells := range t.pending {
		gap := ""
		for i, c := range cells {
			if c.text != "" {
				b.WriteString(gap + c.tint.paint(c.text, t.colour))
				gap = ""
			}
			gap += strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(c.text)+2)
		}
		b.WriteByte('\n')
	}
	t.pending = t.pending[:0]
	_, err := io.WriteString(t.out, b.String())
	return err
}

func cut(s string) string {
	if utf8.RuneCountInString(s) <= maxCell {
		return s
	}
	return string([]rune(s)[:maxCell-1]) + "…"
}

// visible returns text that others have chosen with its control characters escaped, so that it neither drives the terminal
// nor looks like a line of its own.
func visible(s string) string {
	if !strings.ContainsFunc(s, moves) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if moves(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// screen passes on text that others have chosen, see visible: only its line feeds act.
type screen struct{ w io.Writer }

// Write is [io.Writer].
func (s screen) Write(p []byte) (int, error) {
	var b strings.Builder
	for line := range strings.Lines(strings.ToValidUTF8(string(p), "\uFFFD")) {
		text, end := strings.CutSuffix(line, "\n")
		b.WriteString(visible(text))
		if end {
			b.WriteByte('\n')
		}
	}
	if _, err := io.WriteString(s.w, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// moves reports whether a character acts on the terminal or on the order of a line.
func moves(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// age says how long ago something was, in the largest unit that fits.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// stamp is a point in time as JSON-like formats carry it: RFC 3339 with milliseconds.
func stamp(ms int64, in *time.Location) string {
	return time.UnixMilli(ms).In(in).Format("2006-01-02T15:04:05.000Z07:00")
}

// clock is a point in time as a person reads it.
func clock(ms int64, in *time.Location) string {
	return time.UnixMilli(ms).In(in).Format("2006-01-02 15:04:05 MST")
}
