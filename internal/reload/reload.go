// Package reload says when files have to be read again, so that what was made of
// them stays as they are.
//
// Files are read again when they do not look as they did when they were read
// last, and as long as that has failed. So what an operator takes away counts,
// also when the process could not open the file in the second in which it changed.
package reload

import (
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Silence is the time after which the same failure is told again.
const Silence = time.Minute

// Stamp tells one state of files from another.
type Stamp string

// StampOf returns the stamp of files, by what stat says of them. That a file cannot be looked at is a state, too. On Linux
// a file in the place of another one has a stamp of its own also where both have the same size and time, as tools make
// them that keep or fix the times of files.
func StampOf(stat func(name string) (fs.FileInfo, error), names ...string) Stamp {
	var b strings.Builder
	for _, name := range names {
		if info, err := stat(name); err == nil {
			fmt.Fprintf(&b, "%q %d %d %d\n", name, info.ModTime().UnixNano(), changedAt(info), info.Size())
		} else {
			fmt.Fprintf(&b, "%q\n", name)
		}
	}
	return Stamp(b.String())
}

// State is what is known of files that are read again and again. The zero value is that of files that were never read.
// Its methods may not be called at the same time.
type State struct {
	stamp   Stamp // of the files when they were read last
	problem error // why that has failed
	told    time.Time
}

// Changed reports whether files with a stamp look other than they did when they were read last.
func (s *State) Changed(now Stamp) bool { return now != s.stamp }

// Due reports whether files with a stamp have to be read.
func (s *State) Due(now Stamp) bool { return s.problem != nil || s.Changed(now) }

// Done notes how a read has ended. stamp is that of the files before it, err why it has failed; nil when it has not.
// It reports whether a failure is to be told: one after a success, of files that look other than before, and one that
// was told last a minute ago.
func (s *State) Done(stamp Stamp, err error) (tell bool) {
	tell = err != nil && (s.problem == nil || s.Changed(stamp) || time.Since(s.told) >= Silence)
	if tell {
		s.told = time.Now()
	}
	s.stamp, s.problem = stamp, err
	return tell
}

// Problem returns why the files could not be read last; nil when they could.
func (s *State) Problem() error { return s.problem }
