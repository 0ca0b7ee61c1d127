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
}

// BeginScan notes that the retained messages for the subscription to filter are to be delivered, from the first on.
// It keeps the string.
func (s *Session) BeginScan(filter string) {
	s.EndScan(filter)
	s.scans = append(s.scans, Scan{Filter: filter})
	s.rec.scans(filter)
}

// EndScan gives up what is left of a scan, if there is one. So does [Session.Unsubscribe].
func (s *Session) EndScan(filter string) {
	i := slices.IndexFunc(s.scans, func(sc Scan) bool { return sc.Filter == filter })
	if i >= 0 {
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
