package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/test/mqtttest"
)

// patience bounds every single wait of these tests.
const patience = 60 * time.Second

// wait returns a context that ends with the test or with the patience of it.
func wait(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually calls try until it gives no error.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %v", patience, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}

// dial connects an MQTT client that is closed at the end of the test.
func dial(t *testing.T, addr string, o mqtttest.Options) *mqtttest.Client {
	t.Helper()
	c, err := mqtttest.Dial(wait(t), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// subscribe fails the test when a filter is refused.
func subscribe(t *testing.T, c *mqtttest.Client, filters ...string) {
	t.Helper()
	ack, err := c.Subscribe(wait(t), filters...)
	if err != nil || ack.Code != 0 {
		t.Fatalf("Subscribe(%q) = %+v, %v", filters, ack, err)
	}
}

// publish publishes with QoS 1 and fails the test when that is not acknowledged as done.
func publish(t *testing.T, c *mqtttest.Client, topic, payload string) {
	t.Helper()
	ack, err := c.Publish(wait(t), mqtttest.Message{Topic: topic, Payload: []byte(payload), QoS: 1})
	if err != nil || ack.Code >= 0x80 {
		t.Fatalf("Publish(%s, %s) = %+v, %v", topic, payload, ack, err)
	}
}

// receive returns the next message that came on a topic.
func receive(t *testing.T, c *mqtttest.Client, topic string) []byte {
	t.Helper()
	for {
		m, err := c.Receive(wait(t))
		if err != nil {
			t.Fatalf("waiting for a message on %s: %v", topic, err)
		}
		if m.Topic == topic {
			return m.Payload
		}
	}
}

// response is an HTTP answer.
type response struct {
	status int
	header http.Header
	body   []byte
}

// errorType returns the AWS class of an error.
func (r response) errorType() string {
	class, _, _ := strings.Cut(r.header.Get("x-amzn-ErrorType"), ":")
	return class
}

// call makes an HTTP request.
func call(ctx context.Context, method, url string, body []byte) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return response{}, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return response{status: res.StatusCode, header: res.Header, body: text}, err
}

// rest is call that fails the test when there is no answer.
func rest(t *testing.T, method, url, body string) response {
	t.Helper()
	res, err := call(wait(t), method, url, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// shadowURL is the AWS path of a classic shadow.
func shadowURL(base, thing string) string { return base + "/things/" + thing + "/shadow" }

// document is what the tests read of a shadow document or of a message about it.
type document struct {
	State struct {
		Desired  map[string]any `json:"desired"`
		Reported map[string]any `json:"reported"`
		Delta    map[string]any `json:"delta"`
	} `json:"state"`
	Version uint64 `json:"version"`
	Token   string `json:"clientToken"`
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func parse(text []byte) (document, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("%.300q: %w", text, err)
	}
	return d, nil
}

func mustParse(t *testing.T, text []byte) document {
	t.Helper()
	d, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// fetch returns a shadow over REST.
func fetch(t *testing.T, base, thing string) document {
	t.Helper()
	res := rest(t, http.MethodGet, shadowURL(base, thing), "")
	if res.status != http.StatusOK {
		t.Fatalf("GET %s = %d %s", thing, res.status, res.body)
	}
	return mustParse(t, res.body)
}

// ready reports why the service says that it is not ready.
func ready(ctx context.Context, base string) error {
	res, err := call(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	if res.status != http.StatusOK {
		return errors.New(http.StatusText(res.status))
	}
	return nil
}
