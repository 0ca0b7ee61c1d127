package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// authenticator is a webhook that lets everybody in, but not before it is told to.
type authenticator struct {
	*umbradtest.Umbrad
	asked    atomic.Int64
	now      atomic.Int64 // questions that have no answer yet
	most     atomic.Int64 // of them at a time
	answered chan struct{}
}

func startWebhook(t *testing.T, args ...string) *authenticator {
	t.Helper()
	a := &authenticator{answered: make(chan struct{})}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ ClientID string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		a.asked.Add(1)
		for now := a.now.Add(1); ; {
			if most := a.most.Load(); now <= most || a.most.CompareAndSwap(most, now) {
				break
			}
		}
		select {
		case <-a.answered:
		case <-r.Context().Done():
		}
		a.now.Add(-1)
		_, _ = io.WriteString(w, `{"allow":true,"name":"`+q.ClientID+`"}`)
	}))
	t.Cleanup(hook.Close)
	a.Umbrad = umbradtest.Start(t, append([]string{"--store=memory:", "--webhook-url=" + hook.URL, "--webhook-timeout=1m", "--connect-timeout=1m"}, args...)...)
	return a
}

// connect has a client log in, and returns what comes of it.
func connect(t *testing.T, u *umbradtest.Umbrad, client, user, password string) <-chan error {
	t.Helper()
	ctx, result := wait(t), make(chan error, 1)
	go func() {
		c, err := mqtttest.Dial(ctx, u.MQTT(), mqtttest.Options{ClientID: client, Username: user, Password: password, Version: mqtttest.V5})
		if err == nil {
			c.Close()
		}
		result <- err
	}()
	return result
}

// isBusy reports whether a client is told to come again later.
func isBusy(err error) bool {
	var refused *mqtttest.Refused
	return errors.As(err, &refused) && refused.Code == 0x88
}

// TestQuestionsToTheWebhookAreBounded has six clients log in while the webhook does not answer: as many wait, and are asked
// about at a time, as the settings say. Others are refused at once, and those who wait get in.
func TestQuestionsToTheWebhookAreBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args          []string
		refused, most int
	}{
		"none is too many": {nil, 0, 6},
		"at a time":        {[]string{"--webhook-requests=2"}, 0, 2},
		"that wait":        {[]string{"--webhook-requests=2", "--waiting-logins=3"}, 1, 2},
		"of an address":    {[]string{"--address-logins=4"}, 2, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startWebhook(t, tt.args...)
			results := make(chan error, 6)
			for i := range cap(results) {
				one := connect(t, a.Umbrad, fmt.Sprint("c", i), "u", "p")
				go func() { results <- <-one }()
			}
			for range tt.refused {
				if err := <-results; !isBusy(err) {
					t.Fatalf("a client that is one too many: %v, want 0x88", err)
				}
			}
			eventually(t, func() error {
				if now := a.now.Load(); now != int64(tt.most) {
					return fmt.Errorf("%d questions at a time, want %d", now, tt.most)
				}
				return nil
			})
			close(a.answered)
			for range cap(results) - tt.refused {
				if err := <-results; err != nil {
					t.Errorf("a client that has waited: %v", err)
				}
			}
			if most := a.most.Load(); most != int64(tt.most) {
				t.Errorf("%d questions at a time, want %d", most, tt.most)
			}
		})
	}
}

// TestAnswersThatAreRemembered logs in twice, and somebody else in between.
func TestAnswersThatAreRemembered(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]int64{"--remembered-logins=2": 2, "--remembered-logins=1": 3} {
		a := startWebhook(t, args)
		close(a.answered)
		for _, client := range []string{"a", "b", "a"} {
			if err := <-connect(t, a.Umbrad, client, "u", "p"); err != nil {
				t.Fatal(err)
			}
		}
		if asked := a.asked.Load(); asked != want {
			t.Errorf("%s: the webhook is asked %d times, want %d", args, asked, want)
		}
	}
}

// TestPasswordsOfAnAddressAreBounded has passwords of one address checked at the same time.
func TestPasswordsOfAnAddressAreBounded(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]bool{"--address-logins=1 --waiting-logins=100": true, "--address-logins=100 --waiting-logins=1": true, "--address-logins=100": false} {
		l := startLogin(t, append(strings.Fields(args), "--store=memory:", "--password-checks=1", "--connect-timeout=10m")...)
		var results []<-chan error
		for i := range 20 {
			results = append(results, connect(t, l.Umbrad, fmt.Sprint("c", i), "root", fmt.Sprint("guess", i)))
		}
		busy := false
		for _, r := range results {
			busy = isBusy(<-r) || busy
		}
		if busy != want {
			t.Errorf("%s: clients are told to come again later: %v, want %v", args, busy, want)
		}
	}
}

// TestLengthOfJWT shows a token that is longer than it may be, and one that is not.
func TestLengthOfJWT(t *testing.T) {
	t.Parallel()
	by := newSigner(t, "k")
	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, []byte(jwks(t, by)), 0o600); err != nil {
		t.Fatal(err)
	}
	short, long := by.token(t, "lamp"), by.tokenOf(t, jwt.Claims{Subject: "lamp", ID: strings.Repeat("x", 16<<10)})
	for args, want := range map[string][2]int{
		"--http-header-bytes=64KiB":                   {http.StatusNotFound, http.StatusUnauthorized},
		"--http-header-bytes=64KiB --jwt-bytes=32KiB": {http.StatusNotFound, http.StatusNotFound},
	} {
		u := umbradtest.Start(t, append(strings.Fields(args), "--store=memory:", "--jwt-keys="+keys, "--jwt-issuer=https://issuer", "--jwt-audience=umbra", "--default-policies=admin")...)
		for i, token := range []string{short, long} {
			if got := exchangeWith(t, u.HTTP()).do(t, "GET /things/lamp/shadow", "Authorization: Bearer "+token+"\r\n"); got != want[i] {
				t.Errorf("%s: a token of %d bytes is answered with %d, want %d", args, len(token), got, want[i])
			}
		}
	}
}
