// Package sigv4 signs and verifies requests with AWS Signature Version 4, in
// the header Authorization and in the query of presigned URLs, as clients of the
// AWS IoT data plane do it (services iotdata and iotdevicegateway).
//
// The canonical request is AWS's: method, path with each segment encoded once
// more than it was sent, sorted query, signed headers with their white space
// folded, SHA-256 of the body.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	dayFormat  = "20060102"

	maxExpires  = 7 * 24 * time.Hour // of a presigned URL
	serviceMQTT = "iotdevicegateway" // its presigned URLs get the session token after they are signed
	headerHash  = "X-Amz-Content-Sha256"
	headerDate  = "X-Amz-Date"
	headerToken = "X-Amz-Security-Token"
	paramSig    = "X-Amz-Signature"
	paramAlg    = "X-Amz-Algorithm"
)

// DefaultSkew is how far clocks may be apart, as at AWS.
const DefaultSkew = 5 * time.Minute

// Errors of requests that cannot be verified or are wrong.
var (
	ErrMissing   = errors.New("sigv4: request is not signed")
	ErrMalformed = errors.New("sigv4: signature is incomplete")
	ErrKey       = errors.New("sigv4: access key is not known")
	ErrTime      = errors.New("sigv4: signature is not of this time")
	ErrSignature = errors.New("sigv4: signature is wrong")
)

// IsSigned reports whether a request claims to be signed.
func IsSigned(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), algorithm) || r.URL.Query().Has(paramSig)
}

// signature is what a request says of how it was signed.
type signature struct {
	key, day, region, service string
	time                      time.Time
	headers                   []string      // names, in lower case
	sum                       string        // in hex
	expires                   time.Duration // of a presigned URL that says so, else 0
	presigned                 bool
}

// Key returns the id of the access key that a request claims to be signed with.
func Key(r *http.Request) (string, error) {
	s, err := parse(r)
	if err != nil {
		return "", err
	}
	return s.key, nil
}

// Verifier verifies requests. The zero value works.
type Verifier struct {
	Services []string      // default iotdata and iotdevicegateway
	Skew     time.Duration // and how long a signature counts that does not say so; default DefaultSkew
	Now      func() time.Time
}

// CheckTime looks, before the body is read, whether the request is of this
// time, and of one of the services.
func (v Verifier) CheckTime(r *http.Request) error {
	s, err := parse(r)
	if err != nil {
		return err
	}
	return v.check(s)
}

// check looks whether a signature is of this time, and for one of the services.
func (v Verifier) check(s *signature) error {
	services := v.Services
	if services == nil {
		services = []string{"iotdata", serviceMQTT}
	}
	if !slices.Contains(services, s.service) {
		return fmt.Errorf("%w: service %q", ErrMalformed, s.service)
	}
	now, skew := time.Now(), v.Skew
	if v.Now != nil {
		now = v.Now()
	}
	if skew == 0 {
		skew = DefaultSkew
	}
	until := s.time.Add(skew)
	if s.expires > 0 {
		until = s.time.Add(s.expires)
	}
	if s.time.After(now.Add(skew)) || now.After(until) {
		return fmt.Errorf("%w: signed at %v", ErrTime, s.time)
	}
	return nil
}

// Verify reports with nil that the request, with this body, was signed with the secret.
func (v Verifier) Verify(r *http.Request, body []byte, secret string) error {
	s, err := parse(r)
	if err != nil {
		return err
	}
	if err := v.check(s); err != nil {
		return err
	}
	hash := hexSum(body)
	if given := r.Header.Get(headerHash); given != "" && given != hash {
		return fmt.Errorf("%w: the body has another hash", ErrSignature)
	}
	canonical, err := canonicalRequest(r, s, hash)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(s.sign(secret, canonical)), []byte(s.sum)) != 1 {
		return ErrSignature
	}
	return nil
}

// parse reads the signature of a request, which is in one place: what was signed for a URL, with its time, would be right in
// a header too, and count for another time. A query that net/url does not read in full, though all of it is signed, may hide
// that.
func parse(r *http.Request) (*signature, error) {
	text, inHeader := strings.CutPrefix(r.Header.Get("Authorization"), algorithm)
	q, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case !inHeader && !q.Has(paramSig):
		return nil, ErrMissing
	case err != nil:
		return nil, fmt.Errorf("%w: query", ErrMalformed)
	case !inHeader:
		return parseQuery(q)
	case q.Has(paramAlg) || q.Has(paramSig):
		return nil, fmt.Errorf("%w: header and query", ErrMalformed)
	}
	return parseHeader(r, text)
}

// parseHeader reads Credential=…, SignedHeaders=…, Signature=….
func parseHeader(r *http.Request, text string) (*signature, error) {
	s := &signature{}
	field := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		field[name] = value
	}
	date := r.Header.Get(headerDate)
	if date == "" {
		if t, err := http.ParseTime(r.Header.Get("Date")); err == nil {
			date = t.UTC().Format(timeFormat)
		}
	}
	s.sum = field["Signature"]
	return s, s.fill(field["Credential"], date, field["SignedHeaders"])
}

func parseQuery(q url.Values) (*signature, error) {
	s := &signature{presigned: true, sum: q.Get(paramSig)}
	if q.Get(paramAlg) != algorithm {
		return nil, fmt.Errorf("%w: algorithm", ErrMalformed)
	}
	if q.Has("X-Amz-Expires") {
		n, err := strconv.ParseInt(q.Get("X-Amz-Expires"), 10, 32)
		if err != nil || n < 1 || n > int64(maxExpires/time.Second) {
			return nil, fmt.Errorf("%w: X-Amz-Expires", ErrMalformed)
		}
		s.expires = time.Duration(n) * time.Second
	}
	return s, s.fill(q.Get("X-Amz-Credential"), q.Get(headerDate), q.Get("X-Amz-SignedHeaders"))
}

// fill takes in what both forms have.
func (s *signature) fill(credential, date, headers string) error {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || slices.Contains(scope, "") || scope[4] != terminator {
		return fmt.Errorf("%w: credential", ErrMalformed)
	}
	s.key, s.day, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
	var err error
	if s.time, err = time.Parse(timeFormat, date); err != nil || s.time.Format(dayFormat) != s.day {
		return fmt.Errorf("%w: date", ErrMalformed)
	}
	s.headers = strings.Split(headers, ";")
	if !slices.Contains(s.headers, "host") || s.sum == "" {
		return fmt.Errorf("%w: host is not signed", ErrMalformed)
	}
	return nil
}

// canonicalRequest is the text that is signed, by its hash.
func canonicalRequest(r *http.Request, s *signature, bodyHash string) (string, error) {
	query, err := canonicalQuery(r.URL.RawQuery, s)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, canonicalPath(r.URL.EscapedPath()), query)
	for _, name := range s.headers {
		fmt.Fprintf(&b, "%s:%s\n", name, header(r, name))
	}
	fmt.Fprintf(&b, "\n%s\n%s", strings.Join(s.headers, ";"), bodyHash)
	return b.String(), nil
}

// header is the value of a signed header. Some of them net/http keeps elsewhere.
func header(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

// canonicalPath encodes the path, which is encoded already, once more, without empty and dot segments.
func canonicalPath(escaped string) string {
	if escaped == "" {
		return "/"
	}
	clean := path.Clean(escaped)
	if strings.HasSuffix(escaped, "/") && clean != "/" {
		clean += "/"
	}
	return encode(clean, true)
}

// canonicalQuery sorts the parameters by their encoded names and values.
func canonicalQuery(raw string, s *signature) (string, error) {
	var pairs []string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		n, err := url.PathUnescape(name)
		if err != nil {
			return "", fmt.Errorf("%w: query", ErrMalformed)
		}
		v, err := url.PathUnescape(value)
		if err != nil {
			return "", fmt.Errorf("%w: query", ErrMalformed)
		}
		if s.presigned && (n == paramSig || n == headerToken && s.service == serviceMQTT) {
			continue
		}
		pairs = append(pairs, encode(n, false)+"\x00"+encode(v, false)) // \x00 sorts before all else
	}
	slices.Sort(pairs)
	return strings.ReplaceAll(strings.Join(pairs, "&"), "\x00", "="), nil
}

// encode writes all but the unreserved characters of RFC 3986 as %XX.
func encode(s string, keepSlash bool) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 || keepSlash && c == '/' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// sign returns the signature of a canonical request in hex.
func (s *signature) sign(secret, canonical string) string {
	scope := strings.Join([]string{s.day, s.region, s.service, terminator}, "/")
	text := strings.Join([]string{algorithm, s.time.Format(timeFormat), scope, hexSum([]byte(canonical))}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.day, s.region, s.service, terminator, text} {
		key = mac(key, part)
	}
	return hex.EncodeToString(key)
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Credentials sign requests.
type Credentials struct {
	ID, Secret string
	Token      string // of a session, "" for none
	Region     string
	Service    string
}

// Sign sets the headers that sign a request with this body at a time.
func (c Credentials) Sign(r *http.Request, body []byte, now time.Time) {
	now = now.UTC()
	r.Header.Set(headerDate, now.Format(timeFormat))
	s := &signature{key: c.ID, day: now.Format(dayFormat), region: c.Region, service: c.Service, time: now, headers: []string{"host", "x-amz-date"}}
	if c.Token != "" {
		r.Header.Set(headerToken, c.Token)
		s.headers = append(s.headers, strings.ToLower(headerToken))
	}
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	canonical, err := canonicalRequest(r, s, hexSum(body))
	if err != nil { // a query that cannot be read is refused by every server
		canonical = ""
	}
	r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s/%s/%s/%s, SignedHeaders=%s, Signature=%s", algorithm,
		c.ID, s.day, c.Region, c.Service, terminator, strings.Join(s.headers, ";"), s.sign(c.Secret, canonical)))
}
