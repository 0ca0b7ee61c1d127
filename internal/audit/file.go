package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// file is lines of JSON in files that are rotated, or in a stream.
type file struct {
	name  string
	bytes int64 // of a file, after which the next one begins
	keep  int   // files

	out  io.Writer
	file *os.File // the same, nil for a stream
	size int64
}

func openFile(name string, bytes int64, keep int) (*file, error) {
	f := &file{name: name, bytes: bytes, keep: keep}
	return f, f.open()
}

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
	f.file, f.out, f.size = opened, opened, info.Size()
	return nil
}

// write appends a line, and begins a new file when the old one is full.
func (f *file) write(r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err //nolint:wrapcheck // never: it is strings and a time
	}
	line = append(line, '\n')
	if f.file != nil && f.size > 0 && f.size+int64(len(line)) > f.bytes {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	n, err := f.out.Write(line)
	f.size += int64(n)
	return err //nolint:wrapcheck // it names the file
}

// rotate renames NAME to NAME.1, that to NAME.2, and so on.
func (f *file) rotate() error {
	f.file.Close()
	for n := f.keep - 1; n > 0; n-- {
		from := f.name
		if n > 1 {
			from = fmt.Sprintf("%s.%d", f.name, n-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", f.name, n)); err != nil && !os.IsNotExist(err) {
			return err //nolint:wrapcheck // it names the file
		}
	}
	if f.keep == 1 {
		if err := os.Remove(f.name); err != nil {
			return err //nolint:wrapcheck // it names the file
		}
	}
	return f.open()
}

// tailBytes is how much is read at the end of a file: room for more records than are kept in memory by default.
const tailBytes = 1 << 20

// last returns the last n records of the files, the oldest first, as far as they are within the tails of the files. Lines
// that are no records are left out.
func (f *file) last(n int) ([]Record, error) {
	var list []Record
	for i := 0; i < f.keep && len(list) < n; i++ {
		name := f.name
		if i > 0 {
			name = fmt.Sprintf("%s.%d", f.name, i)
		}
		text, err := tail(name)
		if os.IsNotExist(err) {
			break
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
