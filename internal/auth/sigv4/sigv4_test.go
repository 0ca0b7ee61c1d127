package sigv4_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth/sigv4"
)

const (
	keyID  = "AKIAEXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

func signedAt() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func verifier(after time.Duration) sigv4.Verifier {
	return sigv4.Verifier{Now: func() time.Time { return signedAt().Add(after) }}
}

// recorded is a request that botocore, the library of the AWS CLI, has signed: see testdata/record.py.
type recorded struct {
	Method, URL string
	Headers     map[string]string
	Body        string // in hex
}

// request is what a server gets.
func (c recorded) request(t *testing.T) (*http.Request, []byte) {
	t.Helper()
	body, err := hex.DecodeString(c.Body)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), c.Method, u.RequestURI(), bytes.NewReader(body))
	r.Host = u.Host
	for name, value := range c.Headers {
		r.Header.Set(name, value)
	}
	return r, body
}

func recordings(t *testing.T) []recorded {
	t.Helper()
	data, err := os.ReadFile("testdata/botocore.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []recorded
	if err := json.Unmarshal(data, &list); err != nil || len(list) < 40 {
		t.Fatalf("%d recordings, %v", len(list), err)
	}
	return list
}

func TestBotocore(t *testing.T) {
	t.Parallel()
	for _, c := range recordings(t) {
		r, body := c.request(t)
		if key, err := sigv4.Key(r); key != keyID || err != nil || !sigv4.IsSigned(r) {
			t.Errorf("Key(%s %s) = %q, %v", c.Method, c.URL, key, err)
		}
		if err := verifier(time.Second).Verify(r, body, secret); err != nil {
			t.Errorf("Verify(%s %s): %v", c.Method, c.URL, err)
		}
		if err := verifier(time.Second).Verify(r, append(body, 'x'), secret); !errors.Is(err, sigv4.ErrSignature) {
			t.Errorf("Verify(%s %s) with another body: %v", c.Method, c.URL, err)
		}
		if err := verifier(time.Second).Verify(r, body, secret+"x"); !errors.Is(err, sigv4.ErrSignature) {
			t.Errorf("Verify(%s %s) with another secret: %v", c.Method, c.URL, err)
		}
		hash := sha256.Sum256(body)
		r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(hash[:]))
		if err := verifier(time.Second).Verify(r, append(body, 'x'), secret); !errors.Is(err, sigv4.ErrSignature) {
			t.Errorf("Verify(%s %s) with another body than a header says: %v", c.Method, c.URL, err)
		}
	}
}

// TestChangedRequests changes what a signature covers.
func TestChangedRequests(t *testing.T) {
	t.Parallel()
	list := recordings(t)
	for name, change := range map[string]func(*http.Request){
		"method":    func(r *http.Request) { r.Method = http.MethodPut },
		"path":      func(r *http.Request) { r.URL.Path += "x"; r.URL.RawPath = "" },
		"query":     func(r *http.Request) { r.URL.RawQuery = "x=1&" + r.URL.RawQuery },
		"host":      func(r *http.Request) { r.Host = "elsewhere" },
		"signature": func(r *http.Request) { replace(r, "Signature=", "Signature=0") },
		"region":    func(r *http.Request) { replace(r, "eu-central-1", "us-east-1") },
		"hash":      func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", strings.Repeat("0", 64)) },
	} {
		for _, c := range list {
			r, body := c.request(t)
			change(r)
			if err := verifier(0).Verify(r, body, secret); !errors.Is(err, sigv4.ErrSignature) {
				t.Errorf("Verify(%s %s) with another %s: %v, want ErrSignature", c.Method, c.URL, name, err)
			}
		}
	}
}

func replace(r *http.Request, from, to string) {
	r.URL.RawQuery = strings.Replace(r.URL.RawQuery, from, to, 1)
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
}

func TestTime(t *testing.T) {
	t.Parallel()
	for _, c := range recordings(t) {
		r, body := c.request(t)
		late := 6 * time.Minute
		if r.URL.Query().Has("X-Amz-Expires") {
			late = 61 * time.Second
		}
		for after, want := range map[time.Duration]error{late - 2*time.Minute: nil, late: sigv4.ErrTime, -4 * time.Minute: nil, -6 * time.Minute: sigv4.ErrTime} {
			if err := verifier(after).Verify(r, body, secret); !errors.Is(err, want) {
				t.Errorf("Verify(%s %s) %v after it was signed: %v, want %v", c.Method, c.URL, after, err, want)
			}
		}
	}
}

// A presigned URL that does not say how long it counts, as SDKs make them for MQTT, counts no longer than a signed request.
func TestPresignedWithoutEnd(t *testing.T) {
	t.Parallel()
	const url = "/mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAEXAMPLE%2F20261123%2Feu-central-1%2Fiotdevicegateway%2Faws4_request" +
		"&X-Amz-Date=20261123T120000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
	at := func(after time.Duration) sigv4.Verifier {
		return sigv4.Verifier{Now: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).Add(after) }}
	}
	for _, test := range []struct {
		url   string
		after time.Duration
		want  error
	}{
		{url, 4 * time.Minute, nil},
		{url, 6 * time.Minute, sigv4.ErrTime},
		{url + "&X-Amz-Expires=3600", 59 * time.Minute, nil},
		{url + "&X-Amz-Expires=3600", 61 * time.Minute, sigv4.ErrTime},
		{url + "&X-Amz-Expires=", 0, sigv4.ErrMalformed},
		{url + "&X-Amz-Expires=0", 0, sigv4.ErrMalformed},
		{url + "&X-Amz-Expires=604801", 0, sigv4.ErrMalformed},
	} {
		if err := at(test.after).CheckTime(httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.url, nil)); !errors.Is(err, test.want) {
			t.Errorf("%s, %v after it was signed: %v, want %v", test.url, test.after, err, test.want)
		}
	}
}

// The signature of a presigned URL that does not count any more is none for the header, where it would for longer.
func TestPresignedInTheHeader(t *testing.T) {
	t.Parallel()
	moved := 0
	for _, c := range recordings(t) {
		r, body := c.request(t)
		q := r.URL.Query()
		if !q.Has("X-Amz-Expires") {
			continue
		}
		moved++
		at := verifier(2 * time.Minute)
		if err := at.Verify(r, body, secret); !errors.Is(err, sigv4.ErrTime) {
			t.Errorf("Verify(%s %s) after its time: %v", c.Method, c.URL, err)
		}
		replace(r, "&X-Amz-Signature="+q.Get("X-Amz-Signature"), "")
		r.Header.Set("X-Amz-Date", q.Get("X-Amz-Date"))
		r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s, SignedHeaders=%s, Signature=%s",
			q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature")))
		if err := at.Verify(r, body, secret); !errors.Is(err, sigv4.ErrMalformed) {
			t.Errorf("Verify(%s %s) of what was moved to the header: %v", c.Method, c.URL, err)
		}
		r.URL.RawQuery += strings.Repeat("&", 10_000) // more than net/url takes apart, and nothing that is signed
		if err := at.Verify(r, body, secret); !errors.Is(err, sigv4.ErrMalformed) {
			t.Errorf("Verify(%s %s) of the same with a query that cannot be read: %v", c.Method, c.URL, err)
		}
	}
	if moved == 0 {
		t.Error("no presigned URL was recorded")
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	const credential = "Credential=AKIAEXAMPLE/20261123/eu-central-1/iotdata/aws4_request"
	for _, header := range []string{
		"AWS4-HMAC-SHA256",
		"AWS4-HMAC-SHA256 " + credential,
		"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=x-amz-date, Signature=00",
		"AWS4-HMAC-SHA256 " + credential + ", SignedHeaders=host",
		"AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261122/eu-central-1/iotdata/aws4_request, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261123/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=/20261123/eu-central-1/iotdata/aws4_request, SignedHeaders=host, Signature=00",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		r.Header.Set("X-Amz-Date", "20261123T120000Z")
		if err := verifier(0).Verify(r, nil, secret); !errors.Is(err, sigv4.ErrMalformed) {
			t.Errorf("Verify(%s): %v, want ErrMalformed", header, err)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if err := verifier(0).Verify(r, nil, secret); !errors.Is(err, sigv4.ErrMissing) || sigv4.IsSigned(r) {
		t.Errorf("Verify of a request without a signature: %v", err)
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	c := sigv4.Credentials{ID: keyID, Secret: secret, Token: "session", Region: "eu-central-1", Service: "iotdata"}
	body := []byte(`{"state":{}}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/v1/things/a%3Ab/shadow?name=x%20y&b", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	c.Sign(r, body, signedAt())
	if err := verifier(0).Verify(r, body, secret); err != nil {
		t.Errorf("Verify of what Sign has signed: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20261123/r/iotdata/aws4_request, SignedHeaders=host, Signature=00", "X-Amz-Signature=0&a=%41")
	f.Fuzz(func(t *testing.T, header, query string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/", RawQuery: query}, Header: http.Header{"Authorization": {header}, "X-Amz-Date": {"20261123T120000Z"}}}
		if err := verifier(0).Verify(r, nil, secret); err == nil {
			t.Errorf("Verify(%q, %q) takes a signature that nobody has made", header, query)
		}
	})
}
