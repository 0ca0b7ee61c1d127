package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/internal/auth"
)

const (
	liveSecondsMax  = 24 * 60 * 60
	liveTopics      = 100      // that no rule takes, in a summary
	liveBufferBytes = 64 << 10 // of events that are sent together
)

// mappingEvent is what mappings would do because of something that has happened.
type mappingEvent struct {
	Timestamp int64                `json:"timestamp"` // ms since the epoch
	Kind      broker.HappeningKind `json:"kind"`
	*mappingMessage
	Thing  string `json:"thing,omitempty"` // that has changed
	Shadow string `json:"shadow,omitempty"`
	mapping.View
}

type mappingMessage struct {
	Topic string `json:"topic"`
	mapping.PayloadView
	Retain bool   `json:"retain,omitempty"`
	Will   bool   `json:"will,omitempty"`
	Client string `json:"client,omitempty"`
}

// mappingSummary is what a stream has seen.
type mappingSummary struct {
	Kind      string         `json:"kind"`      // summary
	Messages  int            `json:"messages"`  // all that were published
	Unmatched int            `json:"unmatched"` // of them those that no rule is about
	Topics    map[string]int `json:"topics"`    // of those, up to 100
	Dropped   int64          `json:"dropped"`   // that came too fast to look at
}

// watchMappings streams what the mappings in force, or those in the body of a POST, would do with what happens.
func (a *api) watchMappings(w http.ResponseWriter, r *http.Request) error {
	if a.Mappings == nil {
		return notFound(w, r)
	}
	s, err := a.newLiveStream(w, r)
	if err == nil {
		err = s.begin(r)
	}
	a.record(r, auth.Administer, "mapping-events", err)
	if err != nil {
		return err
	}
	defer s.rehearsal.Close()
	l, stop := a.Feed.attend(auth.FromContext(r.Context()))
	defer stop()
	s.run(r, l)
	return nil
}

// liveStream is one stream of what mappings would do.
type liveStream struct {
	*api
	rehearsal *broker.Rehearsal
	out       *eventWriter
	set       *mapping.Set  // nil for those in force
	match     string        // topic filter of the messages that are shown, "" for all
	all       bool          // also messages that no rule is about
	ends      time.Duration // 0 for never
	sent      int
	seen      mappingSummary
}

func (a *api) newLiveStream(w http.ResponseWriter, r *http.Request) (*liveStream, error) {
	s := &liveStream{api: a, out: a.newEventWriter(w), seen: mappingSummary{Kind: "summary", Topics: map[string]int{}}}
	seconds, err := intParam(r, "seconds", 1, liveSecondsMax, 0)
	if err != nil {
		return nil, err
	}
	s.ends = time.Duration(seconds) * time.Second
	if s.all, err = boolParam(r, "all"); err != nil {
		return nil, err
	}
	if s.match = r.URL.Query().Get("match"); s.match != "" && topic.ValidFilter(s.match) != nil {
		return nil, refusal(http.StatusBadRequest, "match must be a topic filter")
	}
	if r.Method != http.MethodPost {
		return s, nil
	}
	text, err := a.readBody(w, r)
	if err != nil {
		return nil, err
	}
	if s.set, err = a.Mappings.Candidate(text); err != nil {
		return nil, refusal(http.StatusBadRequest, "%s", strings.TrimPrefix(err.Error(), "mappings: "))
	}
	return s, nil
}

func (s *liveStream) begin(r *http.Request) (err error) {
	ctx, cancel := context.WithTimeout(r.Context(), s.RequestTimeout)
	defer cancel()
	if s.rehearsal, err = s.Broker.Rehearse(ctx, s.set); errors.Is(err, broker.ErrRehearsals) {
		return refusal(http.StatusTooManyRequests, "Too many such streams are open")
	}
	return err
}

// run sends events until the time is over, the client leaves, or the server stops.
func (s *liveStream) run(r *http.Request, l *listener) {
	alive := time.NewTicker(s.KeepAlive)
	defer alive.Stop()
	var over <-chan time.Time
	if s.ends > 0 {
		over = time.After(s.ends)
	}
	s.out.mark("0") // so that the client knows that it begins
	for s.flush() && s.still(r, l) {
		var did broker.Rehearsed
		var err error
		select {
		case h := <-s.rehearsal.C:
			did, err = s.rehearsal.Tell(h)
		case <-s.rehearsal.Due():
			did, err = s.rehearsal.Tick()
		case <-alive.C:
			s.out.mark(strconv.Itoa(s.sent))
			continue
		case <-l.wake: // permissions may have changed
			continue
		case <-over:
			s.summarize()
			return
		case <-r.Context().Done():
			return
		case <-s.Feed.closed:
			return
		}
		if err != nil {
			s.Log.WarnContext(r.Context(), "stream of mappings broken", "trace_id", traceID(r), "error", err)
			return
		}
		s.tell(did)
	}
}

// flush sends what waits, when there is nothing more to add to it; false says that the client is gone.
func (s *liveStream) flush() bool {
	if len(s.rehearsal.C) > 0 && len(s.out.buf) < liveBufferBytes {
		return true
	}
	return s.out.flush() == nil
}

// tell adds the event of something that has happened, when it is asked for.
func (s *liveStream) tell(did broker.Rehearsed) {
	if did.Message != nil {
		s.seen.Messages++
		if len(did.Matches) == 0 {
			s.seen.Unmatched++
			if _, known := s.seen.Topics[did.Message.Topic]; known || len(s.seen.Topics) < liveTopics {
				s.seen.Topics[did.Message.Topic]++
			}
		}
	}
	if s.wants(&did) {
		s.event("mapping", eventOf(&did))
	}
}

func (s *liveStream) wants(did *broker.Rehearsed) bool {
	if did.Empty() && (did.Message == nil || !s.all) {
		return false
	}
	if s.match == "" {
		return true
	}
	if did.Message != nil && topic.Match(s.match, did.Message.Topic) {
		return true
	}
	return slices.ContainsFunc(did.Publish, func(p mapping.Publish) bool { return topic.Match(s.match, p.Topic) })
}

func (s *liveStream) summarize() {
	s.seen.Dropped = s.rehearsal.Dropped()
	s.event("summary", &s.seen)
	_ = s.out.flush() // nothing comes after it
}

func (s *liveStream) event(kind string, v any) {
	data, err := encode(v)
	if err != nil {
		panic(err) // only structs of this package come here
	}
	s.sent++
	s.out.event(kind, strconv.Itoa(s.sent), data)
}

func eventOf(did *broker.Rehearsed) *mappingEvent {
	e := &mappingEvent{Timestamp: did.Time, Kind: did.Kind, Thing: did.Shadow.Thing, Shadow: did.Shadow.Name, View: did.View()}
	if m := did.Message; m != nil {
		e.mappingMessage = &mappingMessage{Topic: m.Topic, PayloadView: mapping.ViewPayload(m.Payload), Retain: m.Retain, Will: m.Will, Client: m.Client}
	}
	return e
}
