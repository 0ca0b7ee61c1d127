package authn

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/turns"
)

// Bounds of the webhook.
const (
	maxAnswer   = 64 << 10
	denialsLast = 5 * time.Second // at most as long as acceptances
	fewAnswers  = 8               // are looked at to forget one
)

// WebhookOptions of a custom authenticator.
type WebhookOptions struct {
	URL      string
	Timeout  time.Duration // default 3 s
	Remember time.Duration // the longest that an answer counts; default 1 min
	Entries  int           // answers that are remembered at most; default 10000
	Parallel int           // requests at a time; default 32
	Waiting  int           // further ones that wait for their turn; default 256
	Each     int           // of both together those of one address, of IPv6 of one network with 64 bits; default 32
	Now      func() time.Time
}

// Webhooks asks a server of the operator's who a client is: it POSTs what the
// client shows as JSON and gets an answer as JSON. Answers are remembered. What is
// no answer refuses. Its methods may be called at the same time.
type Webhooks struct {
	o      WebhookOptions
	client *http.Client
	turns  *turns.Turns
	salt   string // of the memory: who reads it learns no passwords

	mu      sync.Mutex // guards what follows
	answers map[[sha256.Size]byte]remembered
}

type remembered struct {
	principal *auth.Principal // nil for a refusal
	until     time.Time
}

// question is the body of the request.
type question struct {
	Listener string `json:"listener"`
	ClientID string `json:"clientId"` // "" over HTTP
	Username string `json:"username"`
	Remote   string `json:"remote"` // address of the client, "" when it is not known

	// The password is in the first of these, or in the second if it is not UTF-8.
	Password       *string `json:"password,omitempty"`
	PasswordBase64 []byte  `json:"passwordBase64,omitempty"`
}

// questionAbout returns what the webhook is asked.
func questionAbout(s shown) question {
	q := question{Listener: s.Listener, ClientID: s.ClientID, Username: s.Username}
	if s.Remote.IsValid() {
		q.Remote = s.Remote.String()
	}
	if utf8.ValidString(s.Secret) {
		q.Password = &s.Secret
	} else {
		q.PasswordBase64 = []byte(s.Secret)
	}
	return q
}

// answer is the body of the response.
type answer struct {
	Allow    bool     `json:"allow"`
	Name     string   `json:"name"` // of the principal; default: the username
	Groups   []string `json:"groups"`
	Policies []string `json:"policies"`
	TTL      *int     `json:"ttl"` // seconds that the answer counts at most, 0 for once; nil is as long as the settings say

	// DisconnectAfter is after how many seconds the connection ends, as of AWS IoT's custom authorizers; 0 is never.
	DisconnectAfter int `json:"disconnectAfterInSeconds"`
}

// NewWebhooks returns a webhook.
func NewWebhooks(o WebhookOptions) *Webhooks {
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Second
	}
	if o.Remember == 0 {
		o.Remember = time.Minute
	}
	if o.Entries == 0 {
		o.Entries = 10_000
	}
	if o.Parallel == 0 {
		o.Parallel = 32
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Webhooks{
		o: o, client: newClient(o.Timeout), salt: rand.Text(),
		turns:   turns.New(turns.Options{Parallel: o.Parallel, Waiting: o.Waiting, Each: o.Each}),
		answers: map[[sha256.Size]byte]remembered{},
	}
}

// ask returns the principal of a client.
func (w *Webhooks) ask(ctx context.Context, s shown) (*auth.Principal, error) {
	if !utf8.ValidString(s.Username) { // JSON would make another one of it
		return nil, fmt.Errorf("%w: webhook: user name is not UTF-8", auth.ErrDenied)
	}
	id := w.sum(s)
	if r, ok := w.recall(id); ok {
		return verdict(r.principal)
	}
	body, err := json.Marshal(questionAbout(s))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrDenied, err)
	}
	ctx, cancel := context.WithTimeout(ctx, w.o.Timeout)
	defer cancel()
	end, err := w.turns.Take(ctx, auth.Source(s.Remote).String())
	if err != nil {
		return nil, fmt.Errorf("%w: webhook: %w", auth.ErrUnavailable, err)
	}
	defer end()
	a, err := w.post(ctx, body)
	if err != nil {
		return nil, fmt.Errorf("%w: webhook: %w", auth.ErrUnavailable, err)
	}
	r, err := w.judge(a, s)
	if err != nil {
		return nil, fmt.Errorf("%w: webhook: %w", auth.ErrUnavailable, err)
	}
	if w.o.Now().Before(r.until) {
		w.note(id, r)
	}
	return verdict(r.principal)
}

func verdict(p *auth.Principal) (*auth.Principal, error) {
	if p == nil {
		return nil, fmt.Errorf("%w: by the webhook", auth.ErrDenied)
	}
	return p, nil
}

func (w *Webhooks) post(ctx context.Context, body []byte) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.o.URL, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return a, withoutURL(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return answer{}, nil
	default:
		return a, fmt.Errorf("answer %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, err
	}
	err = json.Unmarshal(data, &a)
	return a, err
}

// judge makes a principal of an answer.
func (w *Webhooks) judge(a answer, s shown) (remembered, error) {
	last := w.o.Remember
	if a.TTL != nil {
		last = min(last, seconds(*a.TTL))
	}
	if !a.Allow {
		return remembered{until: w.o.Now().Add(min(last, denialsLast))}, nil
	}
	if a.Name == "" {
		a.Name = s.Username
	}
	if err := credential.CheckName(a.Name); err != nil {
		return remembered{}, err
	}
	p := &auth.Principal{
		ID: auth.NewID(auth.Webhook, a.Name), Kind: auth.Webhook, Name: a.Name, Groups: a.Groups, Policies: a.Policies,
	}
	if end := seconds(a.DisconnectAfter); end > 0 {
		last = min(last, end)
		p.Expires = w.o.Now().Add(end)
	}
	return remembered{principal: p, until: w.o.Now().Add(last)}, nil
}

// seconds is n seconds, from none to decades.
func seconds(n int) time.Duration { return time.Duration(min(max(n, 0), math.MaxInt32)) * time.Second }

// sum is what an answer is remembered by: all that was shown, byte for byte.
func (w *Webhooks) sum(s shown) (id [sha256.Size]byte) {
	h := sha256.New()
	for _, text := range []string{w.salt, s.Listener, s.ClientID, s.Username, s.Secret, s.Remote.String()} {
		fmt.Fprintf(h, "%d:%s", len(text), text)
	}
	h.Sum(id[:0])
	return id
}

func (w *Webhooks) recall(id [sha256.Size]byte) (remembered, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.answers[id]
	return r, ok && w.o.Now().Before(r.until)
}

// note remembers an answer.
func (w *Webhooks) note(id [sha256.Size]byte, r remembered) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, again := w.answers[id]; !again && len(w.answers) >= w.o.Entries {
		w.forget()
	}
	w.answers[id] = r
}

// forget makes room for an answer: of a few, whichever they are, it forgets those that do not count any more, or else one.
func (w *Webhooks) forget() {
	var last [sha256.Size]byte
	now, left := w.o.Now(), fewAnswers
	for id, r := range w.answers {
		if last = id; !now.Before(r.until) {
			delete(w.answers, id)
		}
		if left--; left == 0 {
			break
		}
	}
	if len(w.answers) >= w.o.Entries {
		delete(w.answers, last)
	}
}
