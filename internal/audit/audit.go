// Package audit is the record of who did what: changes of policies, users and
// keys, connections that an operator has ended, what was denied, and who could
// not log in. What happened to shadows is in their histories, with the principal.
//
// A record is a line of JSON in a file, which is rotated, and the last ones are
// in memory for the API, those of earlier runs too. Denials and failed logins are
// kept apart from the rest and from each other, in files and memory of their own:
// everybody can bring them about, and however many there are they push out nothing
// of what was changed. For the same reason so many of them are recorded per second, of
// each source some, and their texts are cut. Records never hold secrets: whoever makes one gives
// names, and no passwords, tokens or documents.
package audit

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/umbra-iot/umbra/internal/quiet"
)

// Defaults of Options.
const (
	DefaultFileBytes = 16 << 20
	DefaultFiles     = 4
	DefaultRecent    = 1000
	DefaultDenials   = 20
	DefaultPerSource = 5
)

// textBytes is how much is kept of each text of a record that anybody can bring about.
const textBytes = 256

// Outcomes of what was tried.
const (
	Done            = "done"
	Failed          = "failed"
	Denied          = "denied"          // the principal may not do it
	Unauthenticated = "unauthenticated" // nobody knows whether the principal is who it claims to be
)

// Outcomes returns all outcomes.
func Outcomes() []string { return []string{Done, Failed, Denied, Unauthenticated} }

// Actions that are not those of policies alone.
const (
	UpdateShadow = "iot:UpdateThingShadow"
	DeleteShadow = "iot:DeleteThingShadow"
	Login        = "umbra:Login" // a login that has failed
)

// Record is one thing that somebody did or tried.
type Record struct {
	Time      time.Time `json:"time"`
	Principal string    `json:"principal"` // ID, "anonymous" for nobody; of a login the one that was claimed
	Action    string    `json:"action"`    // as in policies, or Login
	Resource  string    `json:"resource"`  // as in policies, after the account; of a login the listener
	Outcome   string    `json:"outcome"`   // one of Outcomes
	Detail    string    `json:"detail,omitempty"`
	ClientID  string    `json:"clientId,omitempty"`
	Remote    string    `json:"remote,omitempty"`
	TraceID   string    `json:"traceId,omitempty"` // of the HTTP request
	Skipped   int       `json:"skipped,omitempty"` // denials, or logins, before this one that were not recorded

	// Source is who has a share of what is recorded per second, such as a principal or an address.
	Source string `json:"-"`
}

// Options of a Log. The zero value keeps the last records in memory only.
type Options struct {
	File      string    // of changes, those of the other sorts have ".denied", ".logins" and ".shadows" behind it; "" for none, "-" for Stdout
	Stdout    io.Writer // for File "-"; default os.Stdout
	FileBytes int64     // of a file, after which the next one begins; default 16 MiB
	Files     int       // that are kept of each sort: FILE, FILE.1, …; default 4
	Recent    int       // records of each sort in memory; default 1000
	Denials   int       // that are recorded per second, and as many logins, since everybody can try as often as he likes; default 20
	PerSource int       // of them those of one Source; default 5
	Log       *slog.Logger
	Now       func() time.Time // default time.Now
}

// Log keeps records. A nil Log forgets them. Its methods may be called at the same time.
type Log struct {
	o Options

	mu    sync.Mutex // guards what follows
	books [sorts]book
	count uint64 // of all records
}

// The sorts of records, and what the names of their files end with.
const (
	changes = iota
	denials
	logins
	shadows
	sorts
)

var endings = [sorts]string{denials: ".denied", logins: ".logins", shadows: ".shadows"}

// book is the records of one sort: the last ones in memory, and a file.
type book struct {
	recent []entry // a ring: the next one goes to count % len
	count  int
	file   *file // nil for none
	failed bool  // the last record is not in the file, or the file is too large

	share *quiet.Share // of what is recorded; nil for all
}

// entry is a record, and how many there were before it of any sort.
type entry struct {
	Record
	order uint64
}

// Open opens the files of a log, to which records are appended.
func Open(o Options) (*Log, error) {
	o.FileBytes, o.Files = cmp.Or(o.FileBytes, DefaultFileBytes), cmp.Or(o.Files, DefaultFiles)
	o.Recent, o.Denials, o.PerSource = cmp.Or(o.Recent, DefaultRecent), cmp.Or(o.Denials, DefaultDenials), cmp.Or(o.PerSource, DefaultPerSource)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Log{o: o}
	for n := range l.books {
		l.books[n].recent = make([]entry, o.Recent)
	}
	for _, sort := range []int{denials, logins} {
		l.books[sort].share = &quiet.Share{Window: time.Second, PerSource: o.PerSource, InAll: o.Denials}
	}
	switch o.File {
	case "":
		return l, nil
	case "-":
		out := &file{out: o.Stdout}
		if o.Stdout == nil {
			out.out = os.Stdout
		}
		for n := range l.books {
			l.books[n].file = out
		}
		return l, nil
	}
	for n := range l.books {
		var err error
		if l.books[n].file, err = openFile(o.File+endings[n], o.FileBytes, o.Files); err != nil {
			return nil, errors.Join(fmt.Errorf("audit: %w", err), l.Close())
		}
	}
	if err := l.recall(); err != nil {
		o.Log.Warn("audit records of earlier runs cannot be read", "error", err)
	}
	return l, nil
}

// recall takes the last records of the files into memory.
func (l *Log) recall() error {
	var (
		all  []Record
		errs []error
	)
	for n := range l.books {
		list, err := l.books[n].file.last(l.o.Recent)
		all, errs = append(all, list...), append(errs, err)
	}
	slices.SortStableFunc(all, func(a, b Record) int { return a.Time.Compare(b.Time) })
	for _, r := range all {
		l.book(&r).remember(entry{r, l.count})
		l.count++
	}
	return errors.Join(errs...)
}

// book returns where a record belongs.
func (l *Log) book(r *Record) *book {
	switch {
	case r.Outcome == Denied:
		return &l.books[denials]
	case r.Outcome == Unauthenticated:
		return &l.books[logins]
	case r.Action == UpdateShadow || r.Action == DeleteShadow:
		return &l.books[shadows]
	default:
		return &l.books[changes]
	}
}

// Add records r, whose Time it sets. Of many denials within a second the first ones of each source are recorded, and so of logins.
func (l *Log) Add(r Record) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Time = l.o.Now().UTC()
	b := l.book(&r)
	if b.share != nil {
		skipped, ok := b.share.Take(r.Time, r.Source)
		if !ok {
			return
		}
		r.Skipped = skipped
		for _, text := range []*string{&r.Principal, &r.Resource, &r.Detail, &r.ClientID} {
			*text = cut(*text)
		}
	}
	l.tell(b, b.add(entry{r, l.count}))
	l.count++
}

// tell logs when a file begins and ends to fail.
func (l *Log) tell(b *book, err error) {
	if b.failed == (err != nil) {
		return
	}
	switch b.failed = err != nil; {
	case err == nil:
		l.o.Log.Info("audit records are kept again")
	case errors.Is(err, errGrows):
		l.o.Log.Error("audit file cannot be rotated: it grows", "error", err)
	default:
		l.o.Log.Error("audit records are lost", "error", err)
	}
}

// cut is a text of bounded length.
func cut(s string) string {
	if len(s) <= textBytes {
		return s
	}
	return strings.ToValidUTF8(s[:textBytes], "") + "…"
}

func (b *book) remember(e entry) {
	b.recent[b.count%len(b.recent)] = e
	b.count++
}

func (b *book) add(e entry) error {
	b.remember(e)
	if b.file == nil {
		return nil
	}
	return b.file.write(e.Record)
}

// latest returns the i-th last entry, from 0; nil when there is none, or it is not in memory any more.
func (b *book) latest(i int) *entry {
	if i >= min(b.count, len(b.recent)) {
		return nil
	}
	return &b.recent[(b.count-1-i)%len(b.recent)]
}

// Query says which records are wanted. Empty strings are for all.
type Query struct {
	Limit     int // at most so many
	Outcome   string
	Principal string
	Action    string
}

func (q *Query) wants(r *Record) bool {
	return (q.Outcome == "" || q.Outcome == r.Outcome) && (q.Principal == "" || q.Principal == r.Principal) &&
		(q.Action == "" || q.Action == r.Action)
}

// Recent returns records that are in memory, the latest first.
func (l *Log) Recent(q Query) []Record {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var (
		list []Record
		seen [sorts]int
	)
	for len(list) < q.Limit {
		var next *entry
		sort := 0
		for n := range l.books {
			if e := l.books[n].latest(seen[n]); e != nil && (next == nil || e.order > next.order) {
				next, sort = e, n
			}
		}
		if next == nil {
			return list
		}
		seen[sort]++
		if q.wants(&next.Record) {
			list = append(list, next.Record)
		}
	}
	return list
}

// Close closes the files.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for n := range l.books {
		errs = append(errs, l.books[n].file.close())
	}
	return errors.Join(errs...)
}
