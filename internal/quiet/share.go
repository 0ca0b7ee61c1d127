package quiet

import "time"

// Share lets so many things pass within a window of time, and so many of each source, so that nobody uses up what is there
// for all. It is for one goroutine at a time.
type Share struct {
	Window    time.Duration
	PerSource int
	InAll     int

	began time.Time      // the window
	told  int            // that have passed in it
	of    map[string]int // of each source; no more than have passed
	left  int            // that have not passed since the last one that has
}

// Take reports whether one more thing of a source passes, and how many before it have not since the last one that has.
func (s *Share) Take(now time.Time, source string) (left int, ok bool) {
	if s.of == nil || now.Sub(s.began) >= s.Window || now.Before(s.began) {
		s.began, s.told, s.of = now, 0, map[string]int{}
	}
	if s.told >= s.InAll || s.of[source] >= s.PerSource {
		s.left++
		return 0, false
	}
	s.told++
	s.of[source]++
	left, s.left = s.left, 0
	return left, true
}
