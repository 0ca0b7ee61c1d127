package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/umbra-iot/umbra/internal/auth/sigv4"
)

// Credentials say who a client is. At most one of User, Token and AccessKey is
// given; a certificate may be given beside it.
type Credentials struct {
	User, Password string // HTTP Basic
	Token          string // bearer token of Umbra, or a JWT

	AccessKey, SecretKey, SessionToken string // AWS Signature Version 4
	Region                             string // default us-east-1

	CertFile, KeyFile string // PEM: client certificate
	CAFile            string // PEM: authorities of the server; default those of the system
}

// tls returns the TLS settings.
func (c *Credentials) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		data, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("authorities of the server: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("authorities of the server: %s has no certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// check refuses credentials that contradict each other.
func (c *Credentials) check() error {
	n := 0
	for _, s := range []string{c.User, c.Token, c.AccessKey} {
		if s != "" {
			n++
		}
	}
	if n > 1 {
		return errors.New("user, token and access key exclude each other")
	}
	if c.AccessKey != "" && c.SecretKey == "" {
		return errors.New("an access key needs its secret")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("a client certificate needs its key, and a key its certificate")
	}
	return nil
}

// apply adds to a request who makes it.
func (c *Credentials) apply(r *http.Request, body []byte, now time.Time) {
	switch {
	case c.AccessKey != "":
		region := c.Region
		if region == "" {
			region = "us-east-1"
		}
		k := sigv4.Credentials{ID: c.AccessKey, Secret: c.SecretKey, Token: c.SessionToken, Region: region, Service: "iotdata"}
		k.Sign(r, body, now)
	case c.Token != "":
		r.Header.Set("Authorization", "Bearer "+c.Token)
	case c.User != "":
		r.SetBasicAuth(c.User, c.Password)
	}
}

type secretKey struct{}

// withSecretBody marks a request whose body, and whose answer's, is not shown.
func withSecretBody(ctx context.Context) context.Context {
	return context.WithValue(ctx, secretKey{}, true)
}

func hasSecretBody(ctx context.Context) bool { return ctx.Value(secretKey{}) != nil }

// hidden is shown in the place of a body with a secret.
func hidden() *bytes.Reader { return bytes.NewReader([]byte("[hidden]")) }
