package session

import (
	"slices"

	"github.com/umbra-iot/umbra/broker/topic"
)

// Scan is the delivery of the retained messages for a subscription, which goes on in steps, in the order of topics, as
// the client takes them. It is a part of the session: what the SUBACK has promised comes, also over the end of a
// connection or of the process.
type Scan struct {
	Filter string
	After  string // topic of the last message that was looked at
	again  int    // how many times the messages are delivered once more after that
}

// BeginScan notes that the retained messages for the subscription to filter are to be delivered, from the first on; what
// is left of a scan that goes on is a part of that. It keeps the string.
func (s *Session) BeginScan(filter string) {
	s.EndScan(filter)
	s.scans = append(s.scans, Scan{Filter: filter})
	s.rec.scans(filter)
}

// RepeatScan notes that the retained messages for the subscription to filter are to be delivered once more after the scan
// that goes on, or, when there is none, is BeginScan. It keeps the string.
func (s *Session) RepeatScan(filter string) {
	i := s.scan(filter)
	if i < 0 {
		s.BeginScan(filter)
		return
	}
	s.scans[i].again++
	s.rec.scans(filter)
}

// scan finds the scan for filter; -1 when there is none.
func (s *Session) scan(filter string) int {
	return slices.IndexFunc(s.scans, func(sc Scan) bool { return sc.Filter == filter })
}

// EndScan gives up what is left of the scans for filter, if there are any. So does [Session.Unsubscribe].
func (s *Session) EndScan(filter string) {
	if i := s.scan(filter); i >= 0 {
		s.rec.scans(s.scans[i].Filter)
		s.scans = slices.Delete(s.scans, i, i+1)
	}
}

// Scan returns the scan that is to go on, and the options of its subscription; ok is false when there is none.
func (s *Session) Scan() (sc Scan, o topic.Options, ok bool) {
	if len(s.scans) == 0 {
		return sc, o, false
	}
	o, _ = s.Subscription(s.scans[0].Filter)
	return s.scans[0], o, true
}

// Scanned notes that the messages up to the topic after were looked at, and enqueued where they had to be, in the scan
// that [Session.Scan] returned. The one is stored with the other.
func (s *Session) Scanned(after string) {
	s.scans[0].After = after
	s.rec.scans(s.scans[0].Filter)
}

// ScannedAll notes that the scan that [Session.Scan] returned has come to its end.
func (s *Session) ScannedAll() {
	sc := s.scans[0]
	s.scans = slices.Delete(s.scans, 0, 1)
	if sc.again > 0 {
		s.scans = append(s.scans, Scan{Filter: sc.Filter, again: sc.again - 1})
	}
	s.rec.scans(sc.Filter)
}
