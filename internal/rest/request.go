package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/shadow"
)

// eagerBytes is how much memory is taken for a body before it has come: with room for all of it, most of it comes at once.
const eagerBytes = 16 << 10

// drainBytes is how much of a body that is too large is read and thrown away, so that a client which
// sends all before it reads gets to see the answer.
const drainBytes = 16 << 20

// shadowID returns the shadow that a request is about. An empty name= is the classic one.
func shadowID(r *http.Request) (shadow.ID, error) {
	id := shadow.ID{Thing: r.PathValue("thing"), Name: r.URL.Query().Get("name")}
	return id, id.Validate()
}

// readBody returns the body of a request, within PayloadBytes.
func (a *api) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := int64(a.PayloadBytes)
	if r.ContentLength > limit && r.Header.Get("Expect") != "" {
		return nil, errTooLarge // the client waits for leave to send it
	}
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), eagerBytes)) + bytes.MinRead)
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		return body.Bytes(), nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		_, _ = io.CopyN(io.Discard, r.Body, drainBytes)
		return nil, errTooLarge
	}
	return nil, refusal(http.StatusBadRequest, "The request body did not come to its end")
}

// checkQuery refuses a query that cannot be read, or that has a known parameter twice or not in UTF-8. With strict it
// refuses all parameters but the known ones.
func checkQuery(r *http.Request, known []string, strict bool) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refusal(http.StatusBadRequest, "Invalid query: %v", err)
	}
	for name, values := range query {
		switch {
		case !slices.Contains(known, name):
			if strict {
				return refusal(http.StatusBadRequest, "Query parameter '%s' is not known to this operation", name)
			}
		case len(values) > 1:
			return refusal(http.StatusBadRequest, "Query parameter '%s' is given more than once", name)
		case !utf8.ValidString(values[0]):
			return refusal(http.StatusBadRequest, "Query parameter '%s' is not UTF-8", name)
		}
	}
	return nil
}

// intParam returns a query parameter between low and high, byDefault when it is absent.
func intParam(r *http.Request, name string, low, high, byDefault int) (int, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return byDefault, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, refusal(http.StatusBadRequest, "%s must be a number from %d to %d", name, low, high)
	}
	return n, nil
}

// decodeStrict takes one JSON value without unknown members out of a body: one that is misspelt is not passed over.
func decodeStrict(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the document")
	}
	return nil
}

// boolParam returns a query parameter that is true or false, in any case; false when it is absent.
func boolParam(r *http.Request, name string) (bool, error) {
	switch s := r.URL.Query().Get(name); strings.ToLower(s) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, refusal(http.StatusBadRequest, "%s must be true or false", name)
	}
}

// A page token is the last name of the page before, in a form that nobody will be tempted to make up.
// Its first byte is the kind of list, so that the token of one is not taken by another.
const (
	tokenShadows       = 's'
	tokenThings        = 't'
	tokenRegistry      = 'g'
	tokenRetained      = 'r'
	tokenSubscriptions = 'u'
)

func pageToken(kind byte, last string) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{kind}, last...))
}

// pageParam returns the name after which a page begins; "" is the first page.
func pageParam(r *http.Request, param string, kind byte) (string, error) {
	token := r.URL.Query().Get(param)
	if token == "" {
		return "", nil
	}
	name, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(name) < 2 || name[0] != kind || !utf8.Valid(name) {
		return "", refusal(http.StatusBadRequest, "Invalid %s", param)
	}
	return string(name[1:]), nil
}

// page cuts a list that was asked for with one element too many, and tells the last one of the page when there is another page.
func page[T any](list []T, limit int) (cut []T, last T, more bool) {
	if len(list) <= limit {
		return list, last, false
	}
	return list[:limit], list[limit-1], true
}
