package client

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/shadow"
)

// Times of an event stream.
const (
	silence    = 45 * time.Second       // three missed keep-alives: the connection is taken for dead
	retryFirst = 250 * time.Millisecond // pause before the first attempt to reconnect, doubled up to retryMax
	retryMax   = 5 * time.Second
	maxLine    = 4 << 20 // longest line of a stream
)

// Reasons why a connection ended.
var (
	errSilent = fmt.Errorf("nothing came for %v", silence)
	errClosed = errors.New("the server closed the connection")
)

// Event is one event of a stream.
type Event struct {
	Type string          // "update", "delete", "document" or "reset"
	ID   string          // resumes the stream behind this event
	Data json.RawMessage // what happened
}

// Watch says what to watch and from where on.
type Watch struct {
	Shadow   shadow.ID // one shadow; without Thing, all things
	Prefix   string    // of thing names, when all things are watched
	After    string    // ID of the last event that was seen; "" starts with what happens next
	Snapshot bool      // begin with the document as it stands (one shadow, without After)

	// Lost is told why a connection ended and how long the pause is until the next attempt. May be nil.
	Lost func(err error, pause time.Duration)
}

// Watch calls fn for every event until ctx ends or fn fails, and returns that error. It reconnects
// when the connection is lost and goes on behind the last event. A refusal by the server, and a
// first attempt that does not reach it, end it.
func (c *Client) Watch(ctx context.Context, w Watch, fn func(Event) error) error {
	s := &stream{client: c, watch: w, last: w.After, fn: fn}
	s.request = s.watchCall
	pause := retryFirst
	for {
		before := s.opened
		err := s.run(ctx)
		if !s.retry(ctx, err) {
			return err
		}
		if s.opened > before {
			pause = retryFirst
		}
		if w.Lost != nil {
			w.Lost(err, pause)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMax)
	}
}

// stream is the state that outlives a connection.
type stream struct {
	client  *Client
	request func() call
	watch   Watch
	last    string // ID of the last event
	opened  int    // connections that were accepted
	fn      func(Event) error
	fnErr   error
}

// retry reports whether another connection may do better.
func (s *stream) retry(ctx context.Context, err error) bool {
	if s.fnErr != nil || ctx.Err() != nil || s.opened == 0 {
		return false
	}
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal.Status >= http.StatusInternalServerError || refusal.Status == http.StatusTooManyRequests
	}
	return true
}

// run is one connection.
func (s *stream) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := s.client.send(ctx, s.request())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !isEventStream(resp) {
		return fmt.Errorf("%s answers with something that is not an event stream", s.client.Server())
	}
	s.opened++

	alive := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer alive.Stop()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	var e partial
	for lines.Scan() {
		alive.Reset(silence)
		if err := s.line(&e, lines.Text()); err != nil {
			return err
		}
	}
	cause := context.Cause(ctx)
	if cause != nil && !errors.Is(cause, errSilent) {
		return cause
	}
	return &UnreachableError{Server: s.client.Server(), Err: cmp.Or(cause, lines.Err(), errClosed)}
}

func (s *stream) watchCall() call {
	r := call{method: http.MethodGet, path: "/v1/events", query: url.Values{}, header: http.Header{"Accept": {"text/event-stream"}}}
	if s.watch.Shadow.Thing != "" {
		r.path = shadowPath(s.watch.Shadow, "events")
		if s.watch.Shadow.Name != "" {
			r.query.Set("name", s.watch.Shadow.Name)
		}
	} else if s.watch.Prefix != "" {
		r.query.Set("prefix", s.watch.Prefix)
	}
	if s.last != "" {
		r.header.Set("Last-Event-ID", s.last)
	} else if s.watch.Snapshot {
		r.query.Set("snapshot", "true")
	}
	return r
}

// partial is an event of which not all lines have come.
type partial struct {
	kind, id string
	hasID    bool
	data     []string
}

// line takes one line of the stream, as the "event stream" section of the WHATWG HTML
// standard has it. An empty line ends an event.
func (s *stream) line(e *partial, line string) error {
	if line == "" {
		return s.dispatch(e)
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "event":
		e.kind = value
	case "id":
		e.id, e.hasID = value, true
	case "data":
		e.data = append(e.data, value)
	}
	return nil
}

// dispatch also takes an ID that comes without an event: it says where the stream stands.
func (s *stream) dispatch(e *partial) error {
	if e.hasID {
		s.last = e.id
	}
	event := Event{Type: e.kind, ID: s.last, Data: json.RawMessage(strings.Join(e.data, "\n"))}
	*e = partial{}
	if len(event.Data) == 0 {
		return nil
	}
	s.fnErr = s.fn(event)
	return s.fnErr
}

func isEventStream(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && kind == "text/event-stream"
}
