package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// TestKeysOfJWTAreWithdrawn has an issuer, whose keys are in a file or at a URL, withdraw one of two keys: the
// connections and event streams of its tokens end, those of the other key stay.
func TestKeysOfJWTAreWithdrawn(t *testing.T) {
	t.Parallel()
	first, second := newSigner(t, "first"), newSigner(t, "second")
	both, one := jwks(t, first, second), jwks(t, second)
	for name, issue := range map[string]func(t *testing.T) (source string, publish func(keys string)){
		"file": func(t *testing.T) (string, func(string)) {
			t.Helper()
			file := filepath.Join(t.TempDir(), "jwks.json")
			return file, func(keys string) {
				if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
					t.Error(err)
				}
			}
		},
		"url": func(t *testing.T) (string, func(string)) {
			t.Helper()
			var now atomic.Value
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, now.Load().(string)) }))
			t.Cleanup(s.Close)
			return s.URL, func(keys string) { now.Store(keys) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, publish := issue(t)
			publish(both)
			u := umbradtest.Start(t, "--store=memory:", "--jwt-keys="+source, "--jwt-issuer=https://issuer", "--jwt-audience=umbra",
				"--jwt-keys-interval=1h", "--default-policies=admin")
			l := &login{Umbrad: u}
			goes := dial(t, u.MQTT(), mqtttest.Options{ClientID: "goes", Username: "x", Password: first.token(t, "goes"), Version: mqtttest.V5})
			stays := dial(t, u.MQTT(), mqtttest.Options{ClientID: "stays", Username: "x", Password: second.token(t, "stays")})
			stream := l.events(t, first.token(t, "goes"))
			bySecond := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+second.token(t, "stays")) }
			publish("not JSON")
			u.Signal(syscall.SIGHUP)
			eventually(t, func() error {
				if _, text := l.do(t, http.MethodGet, "/readyz?verbose", "", bySecond); !strings.Contains(text, "keys for JWT cannot be read") {
					return fmt.Errorf("/readyz?verbose does not tell of the bad keys: %s", text)
				}
				return nil
			})
			publish(one)
			u.Signal(syscall.SIGHUP)
			select {
			case <-goes.Done():
			case <-wait(t).Done():
				t.Fatal("a connection outlives the key of its token")
			}
			if _, err := io.Copy(io.Discard, stream); err != nil {
				t.Errorf("an event stream outlives the key of its token: %v", err)
			}
			if _, err := stays.Publish(wait(t), mqtttest.Message{Topic: "a", QoS: 1}); err != nil {
				t.Errorf("the connection of another key: %v", err)
			}
			if c, err := mqtttest.Dial(wait(t), u.MQTT(), mqtttest.Options{Username: "x", Password: first.token(t, "goes")}); err == nil {
				c.Close()
				t.Error("a token of a withdrawn key is taken")
			}
		})
	}
}

// signer is a key of an issuer.
type signer struct {
	id  string
	key *ecdsa.PrivateKey
}

func newSigner(t *testing.T, id string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id, key}
}

// token returns a token for an hour.
func (s *signer) token(t *testing.T, sub string) string {
	t.Helper()
	return s.tokenOf(t, jwt.Claims{Subject: sub})
}

// tokenOf returns a token with claims, and with those without which it would not count.
func (s *signer) tokenOf(t *testing.T, claims jwt.Claims) string {
	t.Helper()
	by, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.key}, (&jose.SignerOptions{}).WithHeader("kid", s.id))
	if err != nil {
		t.Fatal(err)
	}
	claims.Issuer, claims.Audience, claims.Expiry = "https://issuer", jwt.Audience{"umbra"}, jwt.NewNumericDate(time.Now().Add(time.Hour))
	text, err := jwt.Signed(by).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func jwks(t *testing.T, signers ...*signer) string {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, s := range signers {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id})
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestNamesAreNoPaths lets somebody whose name is no thing's log in, and holds him to nothing of the thing that his name
// would be a path to.
func TestNamesAreNoPaths(t *testing.T) {
	t.Parallel()
	key := newSigner(t, "key")
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, []byte(jwks(t, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &login{Umbrad: umbradtest.Start(t, "--store=memory:", "--jwt-keys="+file, "--jwt-issuer=https://issuer", "--jwt-audience=umbra")}
	as := func(name string) mqtttest.Options {
		return mqtttest.Options{ClientID: name, Username: "x", Password: key.token(t, name), Version: mqtttest.V5}
	}
	lamp := dial(t, l.MQTT(), as("lamp"))
	for _, shadow := range []string{"secret", "shadow"} {
		topic := "$aws/things/lamp/shadow/name/" + shadow + "/update"
		if ack, err := lamp.Publish(wait(t), mqtttest.Message{Topic: topic, Payload: []byte(`{"state":{"desired":{"pin":1}}}`), QoS: 1}); err != nil || ack.Code >= 0x80 {
			t.Fatalf("publish: %v, code %#x", err, ack.Code)
		}
	}
	get := func(who, path string) int {
		status, _ := l.do(t, http.MethodGet, path, "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+key.token(t, who)) })
		return status
	}
	if status := get("lamp", "/things/lamp/shadow?name=secret"); status != http.StatusOK {
		t.Errorf("lamp gets its own shadow: %d", status)
	}
	if status := get("lamp/secret", "/things/lamp/shadow?name=secret"); status != http.StatusForbidden {
		t.Errorf("lamp/secret gets a shadow of lamp: %d", status)
	}
	path := dial(t, l.MQTT(), as("lamp/shadow/name"))
	topic := "$aws/things/lamp/shadow/name/shadow/update"
	if ack, err := path.Publish(wait(t), mqtttest.Message{Topic: topic, Payload: []byte(`{"state":{"desired":{"pin":2}}}`), QoS: 1}); err != nil || ack.Code != 0x87 {
		t.Errorf("lamp/shadow/name updates a shadow of lamp: %v, code %#x", err, ack.Code)
	}
}
