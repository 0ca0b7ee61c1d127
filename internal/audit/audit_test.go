package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/internal/audit"
)

func open(t *testing.T, o audit.Options) *audit.Log {
	t.Helper()
	l, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestRecordsAreLinesOfJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := open(t, audit.Options{File: "-", Stdout: &out, Recent: 2, Now: func() time.Time { return time.Unix(1, 0) }})
	for i := range 3 {
		l.Add(audit.Record{Principal: "user:a\nb", Action: "umbra:PutPolicy", Resource: fmt.Sprint("policy/", i), Outcome: audit.Done})
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("there are %d lines: %s", len(lines), out.String())
	}
	var r audit.Record
	if err := json.Unmarshal([]byte(lines[2]), &r); err != nil || r.Principal != "user:a\nb" || !r.Time.Equal(time.Unix(1, 0)) {
		t.Errorf("the record is %+v, %v", r, err)
	}
	recent := l.Recent(audit.Query{Limit: 10})
	if len(recent) != 2 || recent[0].Resource != "policy/2" || recent[1].Resource != "policy/1" {
		t.Errorf("the recent ones are %+v", recent)
	}
	if got := l.Recent(audit.Query{Limit: 1}); len(got) != 1 || got[0].Resource != "policy/2" {
		t.Errorf("the last one is %+v", got)
	}
	var none *audit.Log
	none.Add(r)
	if none.Recent(audit.Query{Limit: 1}) != nil || none.Close() != nil {
		t.Error("a nil log is not silent")
	}
}

// full is a disk that takes no more than so many bytes of what is written next.
type full struct {
	bytes.Buffer
	room int
}

func (f *full) Write(b []byte) (int, error) {
	if f.room < len(b) {
		n, _ := f.Buffer.Write(b[:f.room])
		f.room -= n
		return n, errors.New("no space left on device")
	}
	return f.Buffer.Write(b)
}

// A line that could not be written whole spoils no other one.
func TestRecordsAfterAFullDisk(t *testing.T) {
	t.Parallel()
	records := func(text string) (list []string) {
		for line := range strings.Lines(text) {
			var r audit.Record
			if json.Unmarshal([]byte(line), &r) == nil {
				list = append(list, r.Resource)
			}
		}
		return list
	}
	disk := &full{room: 1 << 20}
	l := open(t, audit.Options{File: "-", Stdout: disk})
	for i, room := range []int{1 << 20, 10, 0, 1, 1 << 20, 1 << 20} {
		disk.room = room
		l.Add(audit.Record{Resource: fmt.Sprint(i), Outcome: audit.Done})
	}
	if got := records(disk.String()); !slices.Equal(got, []string{"0", "4", "5"}) {
		t.Errorf("the records are %q of\n%s", got, disk.String())
	}
	file := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(file, []byte(disk.String()[:disk.Len()-10]), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, resource := range []string{"next", "last"} {
		open(t, audit.Options{File: file}).Add(audit.Record{Resource: resource, Outcome: audit.Done})
	}
	text, err := os.ReadFile(file)
	if got := records(string(text)); err != nil || !slices.Equal(got, []string{"0", "4", "next", "last"}) {
		t.Errorf("the records of the next runs are %q, %v of\n%s", got, err, text)
	}
}

func TestFilesAreRotated(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	const records = 20
	for range 2 { // a second run goes on with the file
		l, err := audit.Open(audit.Options{File: file, FileBytes: 600, Files: 3})
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			l.Add(audit.Record{Principal: "user:alice", Action: "umbra:PutPolicy", Resource: fmt.Sprint("policy/", i), Outcome: audit.Done})
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{file, file + ".1", file + ".2"}
	if _, err := os.Stat(file + ".3"); !os.IsNotExist(err) {
		t.Fatalf("a file more is kept: %v", err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 600 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(data), fmt.Sprint("policy/", records-1)) {
		t.Errorf("the last record is not in %s, %v", data, err)
	}
}

// After a restart the last records are there again, changes and denials in their order, out of all files.
func TestRecordsOfEarlierRuns(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "audit.jsonl")
	now := time.Unix(0, 0)
	o := audit.Options{File: name, FileBytes: 600, Recent: 10, Now: func() time.Time { now = now.Add(time.Second); return now }}
	add := func(l *audit.Log, from, to int) {
		for i := from; i < to; i++ {
			l.Add(audit.Record{Principal: "user:a", Action: "x", Resource: fmt.Sprint(i), Outcome: []string{audit.Done, audit.Denied, audit.Failed}[i%3]})
		}
	}
	resources := func(l *audit.Log) (list []string) {
		for _, r := range l.Recent(audit.Query{Limit: 8}) {
			list = append(list, r.Resource)
		}
		return list
	}
	l, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	add(l, 0, 20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("no record\n"); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	again := open(t, o)
	if got, want := fmt.Sprint(resources(again)), "[19 18 17 16 15 14 13 12]"; got != want {
		t.Errorf("after a restart the latest are %s, want %s", got, want)
	}
	add(again, 20, 22)
	if got, want := fmt.Sprint(resources(again)), "[21 20 19 18 17 16 15 14]"; got != want {
		t.Errorf("the latest are %s, want %s", got, want)
	}
}

// Who is denied again and again does not fill the disk, and does not keep out what others do.
func TestDenialsAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1, 0)
	l := open(t, audit.Options{Denials: 3, Now: func() time.Time { return now }})
	for range 10 {
		l.Add(audit.Record{Outcome: audit.Denied})
	}
	l.Add(audit.Record{Outcome: audit.Done})
	if n := len(l.Recent(audit.Query{Limit: 100})); n != 4 {
		t.Errorf("%d records, want 4", n)
	}
	now = now.Add(time.Second)
	l.Add(audit.Record{Outcome: audit.Denied})
	if r := l.Recent(audit.Query{Limit: 1})[0]; r.Skipped != 7 {
		t.Errorf("%d denials are told to be skipped, want 7", r.Skipped)
	}
}

// Who is denied again and again keeps nobody else's denials and failed logins out of the records.
func TestEachSourceHasItsShare(t *testing.T) {
	t.Parallel()
	for _, outcome := range []string{audit.Denied, audit.Unauthenticated} {
		now := time.Unix(1, 0)
		l := open(t, audit.Options{Now: func() time.Time { return now }})
		add := func(n int, source string) {
			for range n {
				l.Add(audit.Record{Principal: source, Outcome: outcome, Source: source})
			}
		}
		add(100, "eve")
		add(1, "alice")
		add(100, "eve")
		now = now.Add(time.Second)
		add(1, "eve")
		got := ""
		for _, r := range l.Recent(audit.Query{Limit: 100}) {
			got += fmt.Sprintf(" %s%d", r.Principal, r.Skipped)
		}
		if want := " eve100 alice95 eve0 eve0 eve0 eve0 eve0"; got != want {
			t.Errorf("of those who are %s the latest are%s, want%s", outcome, got, want)
		}
		for i := range 100 {
			add(1, fmt.Sprint("user", i))
		}
		if n := len(l.Recent(audit.Query{Limit: 100})); n != 7+audit.DefaultDenials-1 {
			t.Errorf("of a hundred sources there are %d records", n)
		}
	}
}

// However often somebody is denied, or changes shadows, what operators have changed stays on record, in memory and in the files.
func TestDenialsPushOutNoChanges(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "audit.jsonl")
	l := open(t, audit.Options{File: name, FileBytes: 600, Files: 2, Recent: 3, Denials: 1000, PerSource: 1000})
	change := audit.Record{Principal: "user:root", Action: "umbra:PutPolicy", Resource: "policy/p", Outcome: audit.Done}
	l.Add(change)
	for range 50 {
		l.Add(audit.Record{Principal: "user:eve", Action: "iot:Publish", Resource: "topic/t", Outcome: audit.Denied})
	}
	for range 50 {
		l.Add(audit.Record{Principal: "user:eve", Action: audit.UpdateShadow, Resource: "thing/t", Outcome: audit.Done})
	}
	change.Resource = "policy/q"
	l.Add(change)
	var got []string
	for _, r := range l.Recent(audit.Query{Limit: 10}) {
		got = append(got, r.Resource)
	}
	if want := "[policy/q thing/t thing/t thing/t topic/t topic/t topic/t policy/p]"; fmt.Sprint(got) != want {
		t.Errorf("the latest are %v, want %s", got, want)
	}
	data, err := os.ReadFile(name)
	if err != nil || strings.Count(string(data), "\n") != 2 || !strings.Contains(string(data), "policy/p") {
		t.Errorf("the file of changes is %s, %v", data, err)
	}
	for _, others := range []string{".denied", ".shadows"} {
		if names, err := filepath.Glob(name + others + "*"); err != nil || len(names) != 2 {
			t.Errorf("the files %s are %q, %v", others, names, err)
		}
	}
}

// Failed logins push out no denials, and denials no logins; their texts are cut, as everybody may choose them.
func TestLoginsAreApart(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "audit.jsonl")
	now := time.Unix(1, 0)
	l := open(t, audit.Options{File: name, Recent: 2, Denials: 2, Now: func() time.Time { return now }})
	login := audit.Record{Principal: "user:" + strings.Repeat("ä", 1<<15), Action: audit.Login, Resource: "listener/l", Outcome: audit.Unauthenticated}
	l.Add(audit.Record{Principal: "user:root", Action: "umbra:PutPolicy", Resource: "policy/p", Outcome: audit.Done})
	for range 10 {
		l.Add(login)
	}
	for range 3 {
		l.Add(audit.Record{Principal: "user:eve", Action: "iot:Publish", Resource: "topic/t", Outcome: audit.Denied})
	}
	now = now.Add(time.Second)
	l.Add(login)
	var got []string
	for _, r := range l.Recent(audit.Query{Limit: 10}) {
		got = append(got, fmt.Sprint(r.Resource, r.Skipped))
		if len(r.Principal) > 300 {
			t.Errorf("a principal has %d bytes", len(r.Principal))
		}
	}
	if want := "[listener/l8 topic/t0 topic/t0 listener/l0 policy/p0]"; fmt.Sprint(got) != want {
		t.Errorf("the latest are %v, want %s", got, want)
	}
	for ending, lines := range map[string]int{"": 1, ".denied": 2, ".logins": 3} {
		if data, err := os.ReadFile(name + ending); err != nil || bytes.Count(data, []byte("\n")) != lines || !utf8.Valid(data) {
			t.Errorf("the file %q is %s, %v; want %d lines", ending, data, err, lines)
		}
	}
	if got := l.Recent(audit.Query{Limit: 10, Outcome: audit.Unauthenticated}); len(got) != 2 {
		t.Errorf("there are %d logins, want 2", len(got))
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	l := open(t, audit.Options{})
	for _, r := range []audit.Record{
		{Principal: "user:a", Action: "x", Resource: "1", Outcome: audit.Done},
		{Principal: "user:a", Action: "y", Resource: "2", Outcome: audit.Denied},
		{Principal: "user:b", Action: "x", Resource: "3", Outcome: audit.Failed},
		{Principal: "user:b", Action: "y", Resource: "4", Outcome: audit.Denied},
	} {
		l.Add(r)
	}
	for want, q := range map[string]audit.Query{
		"4321": {Limit: 9}, "43": {Limit: 2}, "42": {Limit: 9, Outcome: audit.Denied}, "3": {Limit: 9, Outcome: audit.Failed},
		"21": {Limit: 9, Principal: "user:a"}, "31": {Limit: 9, Action: "x"}, "2": {Limit: 9, Principal: "user:a", Action: "y"},
		"": {Limit: 9, Principal: "user"},
	} {
		got := ""
		for _, r := range l.Recent(q) {
			got += r.Resource
		}
		if got != want {
			t.Errorf("%+v gives %q, want %q", q, got, want)
		}
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	if _, err := audit.Open(audit.Options{File: t.TempDir()}); err == nil {
		t.Error("a directory is a file")
	}
}
