package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/shadow"
)

// eventBatch is how many changes are read at once.
const eventBatch = 128

// changeEvent is the data of an event.
type changeEvent struct {
	Thing     string          `json:"thing"`
	Name      string          `json:"name"`
	Version   uint64          `json:"version"`
	Timestamp int64           `json:"timestamp"` // ms since the epoch
	Op        string          `json:"op"`
	By        eventAuthor     `json:"by"`
	State     json.RawMessage `json:"state,omitempty"`
	Token     json.RawMessage `json:"token,omitempty"`
}

type eventAuthor struct {
	Channel   string `json:"channel"`
	Principal string `json:"principal,omitempty"`
	ClientID  string `json:"clientId,omitempty"`
}

// source is what an event stream tells about. It keeps its place.
type source interface {
	// position returns the event ID from which the stream would be resumed.
	position() string
	// advance sends what has happened since the position, and moves it.
	advance(ctx context.Context, out *eventWriter) error
}

// stream sends the events of src until the client leaves, the feed is closed, or something fails.
// What fails before the first event is answered as an error; later the connection is closed, and the
// client comes back with the last event ID.
func (a *api) stream(w http.ResponseWriter, r *http.Request, src source, l *listener) error {
	out := a.newEventWriter(w)
	alive := time.NewTicker(a.KeepAlive)
	defer alive.Stop()
	for {
		if !a.still(r, l) { // credentials or policies have changed
			if !out.begun {
				return errForbidden
			}
			return nil
		}
		if err := a.advance(r.Context(), src, out); err != nil {
			if !out.begun {
				return err
			}
			if r.Context().Err() == nil {
				a.Log.WarnContext(r.Context(), "event stream broken", "trace_id", traceID(r), "error", err)
			}
			return nil
		}
		if !out.begun {
			out.mark(src.position())
		}
		if out.flush() != nil {
			return nil // the client is gone
		}
		select {
		case <-l.wake:
		case <-alive.C: // looks again too: another process may have written to the store
			out.mark(src.position())
		case <-r.Context().Done():
			return nil
		case <-a.Feed.closed:
			return nil
		}
	}
}

func (a *api) advance(ctx context.Context, src source, out *eventWriter) error {
	ctx, cancel := context.WithTimeout(ctx, a.RequestTimeout)
	defer cancel()
	return src.advance(ctx, out)
}

// lastEventID returns what a client that comes back has seen; "" when it is new.
func lastEventID(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	return r.URL.Query().Get("lastEventId")
}

// shadowEvents streams the changes of one shadow. The event ID is the version, and 0 is before all that the
// history still has.
func (a *api) shadowEvents(w http.ResponseWriter, r *http.Request) error {
	id, err := shadowID(r)
	if err != nil {
		return err
	}
	snapshot, err := boolParam(r, "snapshot")
	if err != nil {
		return err
	}
	src := &shadowSource{api: a, id: id}
	l, stop := a.Feed.listen(&id, auth.FromContext(r.Context())) // before the first look: nothing is missed in between
	defer stop()
	if last := lastEventID(r); last != "" {
		if src.at, err = strconv.ParseUint(last, 10, 64); err != nil {
			return refusal(http.StatusBadRequest, "The last event ID of a shadow must be a version")
		}
		src.oldest = src.at == 0
	} else {
		src.starts, src.snapshot = true, snapshot
	}
	return a.stream(w, r, src, l)
}

// shadowSource is the history of one shadow.
type shadowSource struct {
	*api
	id               shadow.ID
	at               uint64 // version of the last event
	starts, snapshot bool   // begin where the shadow is, perhaps with its document
	oldest           bool   // begin with the oldest entry of the history, whatever its version is
}

func (s *shadowSource) position() string { return strconv.FormatUint(s.at, 10) }

func (s *shadowSource) advance(ctx context.Context, out *eventWriter) error {
	if s.starts {
		if err := s.start(ctx, out); err != nil {
			return err
		}
	}
	for {
		entries, err := s.Things.Changes(ctx, s.id, s.at, eventBatch)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return s.settle(ctx, out)
		}
		for _, e := range entries {
			if !s.follows(e) {
				return s.reset(ctx, out)
			}
			data, err := encodeChange(s.id, e)
			if err != nil {
				return err
			}
			s.at, s.oldest = e.Version, false
			out.event(e.Op.String(), s.position(), data)
		}
		if err := out.flush(); err != nil || len(entries) < eventBatch {
			return err
		}
	}
}

// follows reports whether an entry is the next one to tell.
func (s *shadowSource) follows(e *shadow.HistoryEntry) bool { return s.oldest || e.Version == s.at+1 }

// start takes the place where the shadow is.
func (s *shadowSource) start(ctx context.Context, out *eventWriter) error {
	doc, at, err := s.current(ctx)
	if err != nil {
		return err
	}
	s.at, s.starts = at, false
	if s.snapshot {
		out.event("document", s.position(), s.render(doc))
	}
	return nil
}

// settle makes sure that no change behind the position means that the shadow is there. It is not when
// the history has forgotten too much, or when the shadow was forgotten and its versions began again.
func (s *shadowSource) settle(ctx context.Context, out *eventWriter) error {
	_, at, err := s.current(ctx)
	if err != nil || at == s.at {
		return err
	}
	entries, err := s.Things.Changes(ctx, s.id, s.at, 1)
	if err != nil {
		return err
	}
	if len(entries) > 0 && s.follows(entries[0]) {
		return s.advance(ctx, out) // it happened between the two looks
	}
	return s.reset(ctx, out)
}

// reset sends the document as it is, where the history does not tell how it came to be, and goes on from there.
func (s *shadowSource) reset(ctx context.Context, out *eventWriter) error {
	doc, at, err := s.current(ctx)
	if err != nil {
		return err
	}
	s.at, s.oldest = at, false
	out.event("reset", s.position(), s.render(doc))
	return nil
}

// current returns the document, nil when there is none, and the version, which goes on after a delete.
func (s *shadowSource) current(ctx context.Context) (*shadow.Document, uint64, error) {
	doc, err := s.Things.Document(ctx, s.id)
	if err != nil || doc != nil {
		return doc, doc.Version(), err
	}
	var at uint64
	for {
		entries, err := s.Things.Changes(ctx, s.id, at, eventBatch)
		if err != nil || len(entries) == 0 {
			return nil, at, err
		}
		at = entries[len(entries)-1].Version
	}
}

// render returns the document as a get would, null for none.
func (s *shadowSource) render(doc *shadow.Document) []byte {
	if doc == nil {
		return []byte("null")
	}
	return doc.AppendGet(nil, s.Now().UnixMilli(), "")
}

// encodeChange returns the data of the event for an entry of the history.
func encodeChange(id shadow.ID, e *shadow.HistoryEntry) ([]byte, error) {
	return encode(changeEvent{
		Thing: id.Thing, Name: id.Name, Version: e.Version, Timestamp: e.Time, Op: e.Op.String(),
		By:    eventAuthor{Channel: e.Author.Channel, Principal: e.Author.Principal, ClientID: e.Author.ClientID},
		State: e.Patch, Token: json.RawMessage(e.Token),
	})
}

// allEvents streams the changes of all things that this process makes. The event ID is good for this process only.
func (a *api) allEvents(w http.ResponseWriter, r *http.Request) error {
	src := &feedSource{api: a, rights: rightsOf(r.Context()), prefix: r.URL.Query().Get("prefix"), at: a.Feed.head()}
	l, stop := a.Feed.listen(nil, auth.FromContext(r.Context()))
	defer stop()
	if last := lastEventID(r); last != "" {
		at, ok := a.Feed.number(last)
		src.at, src.lost = at, !ok
	}
	return a.stream(w, r, src, l)
}

// feedSource is what a Feed remembers, with the details from the history.
type feedSource struct {
	*api
	rights auth.Rights
	prefix string
	at     uint64 // number of the last change that was looked at
	lost   bool   // the place is not known
}

func (s *feedSource) position() string { return s.Feed.eventID(s.at) }

func (s *feedSource) advance(ctx context.Context, out *eventWriter) error {
	for {
		if s.lost {
			s.reset(out)
		}
		changes, ok := s.Feed.since(s.at, eventBatch)
		if ok && len(changes) == 0 {
			return nil
		}
		s.lost = !ok
		for _, c := range changes {
			s.at++
			if err := s.tell(ctx, out, c); err != nil {
				return err
			}
			if s.lost {
				break
			}
		}
		if err := out.flush(); err != nil {
			return err
		}
	}
}

// tell sends the event of one change, unless it is not asked for or the history has forgotten it.
func (s *feedSource) tell(ctx context.Context, out *eventWriter, c change) error {
	if !strings.HasPrefix(c.id.Thing, s.prefix) || !auth.Shown(s.rights, auth.GetThingShadow, resourceOf(c.id)) {
		return nil
	}
	entries, err := s.Things.Changes(ctx, c.id, c.version-1, 1)
	if err != nil {
		return err
	}
	if len(entries) == 0 || entries[0].Version != c.version {
		s.lost = true
		return nil
	}
	data, err := encodeChange(c.id, entries[0])
	if err != nil {
		return err
	}
	out.event(entries[0].Op.String(), s.position(), data)
	return nil
}

// reset says that changes were missed, and goes on with what happens next.
func (s *feedSource) reset(out *eventWriter) {
	s.at, s.lost = s.Feed.head(), false
	out.event("reset", s.position(), []byte("{}"))
}

// eventWriter writes an event stream, see "Server-sent events" of the WHATWG HTML standard.
type eventWriter struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	buf   []byte
	begun bool          // something was sent
	most  time.Duration // that the client may take for what is sent at once
}

func (a *api) newEventWriter(w http.ResponseWriter) *eventWriter {
	return &eventWriter{w: w, rc: http.NewResponseController(w), most: AnswerTimeouts * a.RequestTimeout}
}

// event adds an event. data has no line breaks, as compact JSON never has.
func (e *eventWriter) event(kind, id string, data []byte) {
	e.buf = append(e.buf, "event: "+kind+"\nid: "+id+"\ndata: "...)
	e.buf = append(e.buf, data...)
	e.buf = append(e.buf, "\n\n"...)
}

// mark adds a sign of life, which no program takes for an event, that tells from where to resume.
func (e *eventWriter) mark(id string) {
	e.buf = append(e.buf, ": alive\nid: "+id+"\n\n"...)
}

// flush sends what was added. When the client takes it too slowly the stream ends: what it missed
// is in the history.
func (e *eventWriter) flush() error {
	if len(e.buf) == 0 {
		return nil
	}
	if !e.begun {
		e.begun = true
		h := e.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no") // proxies that buffer would hold events back
	}
	// A writer without deadlines is no connection, and takes all at once.
	_ = e.rc.SetWriteDeadline(time.Now().Add(e.most))
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	if err != nil {
		return err
	}
	return e.rc.Flush()
}
