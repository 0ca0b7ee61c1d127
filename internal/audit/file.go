package audit

import (
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
