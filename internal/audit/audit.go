// Package audit is the record of who did what: changes of policies, users and
// keys, connections that an operator has ended, and what was denied. What
// happened to shadows is in their histories, with the principal.
//
// A record is a line of JSON in a file, which is rotated, and the last ones are
// in memory for the API. Records never hold secrets: whoever makes one gives
// names, and no passwords, tokens or documents.
package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Defaults of Options.
const (
	DefaultFileBytes = 16 << 20
	DefaultFiles     = 4
	DefaultRecent    = 1000
	DefaultDenials   = 20
)

// Outcomes of what was tried.
const (
	Done   = "done"
	Failed = "failed"
	Denied = "denied"
)

// Record is one thing that somebody did or tried.
type Record struct {
	Time      time.Time `json:"time"`
	Principal string    `json:"principal"` // ID, "anonymous" for nobody
	Action    string    `json:"action"`    // as in policies
	Resource  string    `json:"resource"`  // as in policies, after the account
	Outcome   string    `json:"outcome"`   // done, failed or denied
	Detail    string    `json:"detail,omitempty"`
	ClientID  string    `json:"clientId,omitempty"`
	Remote    string    `json:"remote,omitempty"`
	TraceID   string    `json:"traceId,omitempty"` // of the HTTP request
	Skipped   int       `json:"skipped,omitempty"` // denials before this one that were not recorded
}

// Options of a Log. The zero value keeps the last records in memory only.
type Options struct {
	File      string    // "" for none, "-" for Stdout
	Stdout    io.Writer // for File "-"; default os.Stdout
	FileBytes int64     // of a file, after which the next one begins; default 16 MiB
	Files     int       // that are kept: FILE, FILE.1, …; default 4
	Recent    int       // records in memory; default 1000
	Denials   int       // that are recorded per second, since who is denied can try as often as he likes; default 20
	Log       *slog.Logger
	Now       func() time.Time // default time.Now
}

// Log keeps records. A nil Log forgets them. Its methods may be called at the same time.
type Log struct {
	o Options

	mu      sync.Mutex // guards what follows
	out     io.Writer  // nil for none
	file    *os.File
	size    int64
	failed  bool
	recent  []Record // a ring: the next one goes to count % len
	count   int
	second  int64 // of the last denial
	denials int   // within it
	skipped int
}

// Open opens the file of a log, to which records are appended.
func Open(o Options) (*Log, error) {
	o.FileBytes, o.Files = cmp.Or(o.FileBytes, DefaultFileBytes), cmp.Or(o.Files, DefaultFiles)
	o.Recent, o.Denials = cmp.Or(o.Recent, DefaultRecent), cmp.Or(o.Denials, DefaultDenials)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Log{o: o, recent: make([]Record, o.Recent)}
	switch {
	case o.File == "-" && o.Stdout == nil:
		l.out = os.Stdout
	case o.File == "-":
		l.out = o.Stdout
	case o.File != "":
		if err := l.open(); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return l, nil
}

func (l *Log) open() error {
	const ownerOnly = 0o600
	f, err := os.OpenFile(l.o.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, ownerOnly)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.out, l.size = f, f, info.Size()
	return nil
}

// Add records r, whose Time it sets. Of many denials within a second the first ones are recorded.
func (l *Log) Add(r Record) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Time = l.o.Now().UTC()
	if r.Outcome == Denied {
		if now := r.Time.Unix(); now != l.second {
			l.second, l.denials = now, 0
		}
		if l.denials++; l.denials > l.o.Denials {
			l.skipped++
			return
		}
		r.Skipped, l.skipped = l.skipped, 0
	}
	l.recent[l.count%len(l.recent)] = r
	l.count++
	if err := l.write(r); (err != nil) != l.failed {
		if l.failed = err != nil; l.failed {
			l.o.Log.Error("audit records are lost", "error", err)
		}
	}
}

// write appends a line, and begins a new file when the old one is full. mu is held.
func (l *Log) write(r Record) error {
	if l.out == nil {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if l.file != nil && l.size > 0 && l.size+int64(len(line)) > l.o.FileBytes {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.out.Write(line)
	l.size += int64(n)
	return err
}

// rotate renames FILE to FILE.1, that to FILE.2, and so on. mu is held.
func (l *Log) rotate() error {
	l.file.Close()
	for n := l.o.Files - 1; n > 0; n-- {
		from := l.o.File
		if n > 1 {
			from = fmt.Sprintf("%s.%d", l.o.File, n-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", l.o.File, n)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if l.o.Files == 1 {
		if err := os.Remove(l.o.File); err != nil {
			return err
		}
	}
	return l.open()
}

// Recent returns up to limit records, the latest first.
func (l *Log) Recent(limit int) []Record {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	limit = min(limit, l.count, len(l.recent))
	list := make([]Record, 0, limit)
	for i := range limit {
		list = append(list, l.recent[(l.count-1-i)%len(l.recent)])
	}
	return slices.Clip(list)
}

// Close closes the file.
func (l *Log) Close() error {
	if l == nil || l.file == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}
