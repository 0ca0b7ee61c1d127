package audit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// file is lines of JSON in files that are rotated, or in a stream.
type file struct {
	name  string
	bytes int64 // of a file, after which the next one begins
	keep  int   // files

	out  io.Writer
	file *os.File // the same, nil for a stream
	size int64
	torn bool // its last line has no end: a write has failed in the middle
}

func openFile(name string, bytes int64, keep int) (*file, error) {
	f := &file{name: name, bytes: bytes, keep: keep}
	return f, f.open()
}

// open goes on with the file NAME, in place of the one that was open.
func (f *file) open() error {
	const ownerOnly = 0o600
	opened, err := os.OpenFile(f.name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, ownerOnly)
	if err != nil {
		return err //nolint:wrapcheck // it names the file
	}
	info, err := opened.Stat()
	if err != nil {
		opened.Close()
		return err //nolint:wrapcheck // it names the file
	}
	old := f.file
	f.file, f.out, f.size, f.torn = opened, opened, info.Size(), isTorn(f.name, info.Size())
	if old != nil {
		old.Close() // all of it is written
	}
	return nil
}

// isTorn reports whether a file of some size ends within a line, as far as it can be read.
func isTorn(name string, size int64) bool {
	if size == 0 {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	var last [1]byte
	_, err = f.ReadAt(last[:], size-1)
	return err == nil && last[0] != '\n'
}

// errGrows is in the error of a record that was kept, in a file that is full.
var errGrows = errors.New("audit: the file cannot be rotated, and grows")

// write appends a line, in one of its own whatever was written before, and begins a new file when the old one is full. As long as that fails, it goes on with the old one.
func (f *file) write(r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err //nolint:wrapcheck // never: it is strings and a time
	}
	line = append(line, '\n')
	var full error
	if f.file != nil && f.size > 0 && f.size+int64(len(line)) > f.bytes {
		if err := f.rotate(); err != nil {
			full = fmt.Errorf("%w: %w", errGrows, err)
		}
	}
	if f.torn {
		line = slices.Insert(line, 0, '\n')
	}
	n, err := f.out.Write(line)
	f.size += int64(n)
	if n > 0 {
		f.torn = line[n-1] != '\n'
	}
	return cmp.Or(err, full) //nolint:wrapcheck // it names the file
}

// rotate renames NAME to NAME.1, that to NAME.2, and so on, and opens NAME anew. After an error it can be called again,
// and goes on where it stopped.
func (f *file) rotate() error {
	if err := f.makeRoom(0); err != nil {
		return err
	}
	return f.open()
}

// makeRoom has no file be the n-th one, which becomes the next one. The last one goes. Where there is none, nothing is
// renamed: it may be that only the step after it has failed.
func (f *file) makeRoom(n int) error {
	if _, err := os.Lstat(f.nth(n)); os.IsNotExist(err) {
		return nil
	}
	if n == f.keep-1 {
		return os.Remove(f.nth(n)) //nolint:wrapcheck // it names the file
	}
	if err := f.makeRoom(n + 1); err != nil {
		return err
	}
	return os.Rename(f.nth(n), f.nth(n+1)) //nolint:wrapcheck // it names the files
}

// nth returns the name of the n-th file: NAME, NAME.1, and so on.
func (f *file) nth(n int) string {
	if n == 0 {
		return f.name
	}
	return fmt.Sprintf("%s.%d", f.name, n)
}

// tailBytes is how much is read at the end of a file: room for more records than are kept in memory by default.
const tailBytes = 1 << 20

// last returns the last n records of the files, the oldest first, as far as they are within the tails of the files. Lines
// that are no records are left out.
func (f *file) last(n int) ([]Record, error) {
	var list []Record
	for i := 0; i < f.keep && len(list) < n; i++ {
		text, err := tail(f.nth(i))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return list, err
		}
		list = append(decodeLines(text), list...)
	}
	return list[max(0, len(list)-n):], nil
}

// tail returns the end of a file, whole lines only.
func tail(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	from := max(0, info.Size()-tailBytes)
	text, err := io.ReadAll(io.NewSectionReader(f, from, tailBytes))
	if from > 0 {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return text, err //nolint:wrapcheck // it names the file
}

func decodeLines(text []byte) []Record {
	var list []Record
	for line := range bytes.Lines(text) {
		var r Record
		if json.Unmarshal(line, &r) == nil {
			list = append(list, r)
		}
	}
	return list
}

// close closes the file; a nil one and a stream need none.
func (f *file) close() error {
	if f == nil || f.file == nil {
		return nil
	}
	if err := f.file.Close(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}
