// Package quiet is a log of what clients can bring about as often as they like:
// of each message it gets some lines of each source, some in all, and how many it
// did not get. Long texts in it are cut. Who attacks the server cannot fill its disk,
// nor keep out of the log, or of other records, what others do: see [Share].
package quiet

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Bounds of a message within a window of time.
const (
	Window    = 10 * time.Second
	PerSource = 5
	InAll     = 100
)

// TextBytes is how much of a text in an attribute is logged.
const TextBytes = 256

// Log is a log that is not flooded. Its methods may be called at the same time.
type Log struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex        // guards what follows
	messages map[string]*Share // there are as many as the program has messages
}

// New returns a log that passes lines on to log, by the clock now.
func New(log *slog.Logger, now func() time.Time) *Log {
	return &Log{log: log, now: now, messages: map[string]*Share{}}
}

// Log logs a message, perhaps. The message is a constant; source is who brings it about, such as an address. The line
// tells in the attribute "not_logged_before" how many of this message were left out before it.
func (l *Log) Log(ctx context.Context, level slog.Level, source, text string, attrs ...any) {
	if !l.log.Enabled(ctx, level) {
		return
	}
	silent, tell := l.note(source, text)
	if !tell {
		return
	}
	for i, a := range attrs {
		if s, ok := a.(string); ok && len(s) > TextBytes {
			attrs[i] = s[:TextBytes] + "…"
		}
	}
	if silent > 0 {
		attrs = append(attrs, "not_logged_before", silent)
	}
	l.log.Log(ctx, level, text, attrs...) //nolint:sloglint // the callers have constants
}

// note reports whether a message is to be told, and how many were not since the last one.
func (l *Log) note(source, text string) (silent int, tell bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.messages[text]
	if m == nil {
		m = &Share{Window: Window, PerSource: PerSource, InAll: InAll}
		l.messages[text] = m
	}
	return m.Take(l.now(), source)
}
