package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// change is a change event of the native API.
type change struct {
	Thing     string `json:"thing"`
	Name      string `json:"name"`
	Version   uint64 `json:"version"`
	Timestamp int64  `json:"timestamp"` // ms
	Op        string `json:"op"`
	By        struct {
		Channel   string `json:"channel"`
		Principal string `json:"principal"`
		ClientID  string `json:"clientId"`
	} `json:"by"`
	State json.RawMessage `json:"state"`
	Token string          `json:"token"`

	event string // name of the event
	id    string
	raw   []byte
}

// changes reads the change events of a shadow after version from until it has the one of version to.
func changes(t *testing.T, base, thing string, from, to uint64) []change {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/things/"+thing+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", fmt.Sprint(from))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("events of %s: status %d", thing, res.StatusCode)
	}
	var all []change
	s := bufio.NewScanner(res.Body)
	s.Buffer(nil, 1<<20)
	for {
		e, err := readEvent(s)
		if err != nil {
			t.Fatalf("events of %s after %d of them: %v", thing, len(all), err)
		}
		all = append(all, e)
		if e.Version >= to {
			return all
		}
	}
}

// readEvent reads the next server-sent event, past comments.
func readEvent(s *bufio.Scanner) (change, error) {
	var e change
	for s.Scan() {
		field, value, _ := strings.Cut(s.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.event = value
		case "id":
			e.id = value
		case "data":
			e.raw = append(e.raw, value...)
		case "":
			if s.Text() == "" && e.raw != nil {
				return e, json.Unmarshal(e.raw, &e)
			}
		}
	}
	if err := s.Err(); err != nil {
		return e, err
	}
	return e, fmt.Errorf("end of stream")
}
