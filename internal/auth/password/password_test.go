package password_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth/password"
	"github.com/umbra-iot/umbra/internal/turns"
)

func TestHash(t *testing.T) {
	t.Parallel()
	hash := password.Hash([]byte("correct horse"))
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") || hash == password.Hash([]byte("correct horse")) {
		t.Errorf("Hash() = %s", hash)
	}
	for text, want := range map[string]bool{"correct horse": true, "correct hors": false, "": false} {
		if ok, err := password.Verify(hash, []byte(text)); ok != want || err != nil {
			t.Errorf("Verify(%q) = %v, %v", text, ok, err)
		}
	}
}

// TestKnownHash holds to what the reference implementation makes:
// echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32.
func TestKnownHash(t *testing.T) {
	t.Parallel()
	const hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := password.Verify(hash, []byte("password")); !ok || err != nil {
		t.Errorf("Verify() = %v, %v", ok, err)
	}
}

func TestBadHashes(t *testing.T) {
	t.Parallel()
	for _, hash := range []string{
		"", "secret", "$2y$10$abcdefghijklmnopqrstuv", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=99999999,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=65536,t=999999,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=65536,t=2,p=0$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$", "$argon2id$v=19$m=65536,t=2,p=1$!$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
	} {
		if _, err := password.Verify(hash, []byte("password")); !errors.Is(err, password.ErrHash) {
			t.Errorf("Verify(%q): %v, want ErrHash", hash, err)
		}
		if err := password.Check(hash); !errors.Is(err, password.ErrHash) {
			t.Errorf("Check(%q): %v, want ErrHash", hash, err)
		}
	}
}

func TestRightPasswordsAreRemembered(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	c := password.NewChecker(password.Options{Now: func() time.Time { return now }, Entries: 1})
	hash, other := password.Hash([]byte("secret")), password.Hash([]byte("other"))
	took := func(hash, text string, want bool) time.Duration {
		began := time.Now()
		if ok, err := c.Verify(t.Context(), "", hash, []byte(text)); ok != want || err != nil {
			t.Fatalf("Verify(%s) = %v, %v", text, ok, err)
		}
		return time.Since(began)
	}
	took(hash, "secret", true)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 1000 { // no turn is waited for, no memory is filled
		if ok, err := c.Verify(ended, "", hash, []byte("secret")); !ok || err != nil {
			t.Fatalf("a password that was right is checked again: %v, %v", ok, err)
		}
	}
	took(hash, "wrong", false)
	took(other, "secret", false)
	if unknown := took("", "secret", false); unknown < time.Millisecond {
		t.Errorf("the time tells that there is no such user: the check took %v", unknown)
	}
	now = now.Add(6 * time.Minute)
	if first := took(hash, "secret", true); first < time.Millisecond {
		t.Errorf("a password is remembered for ever: the check took %v", first)
	}
	took(other, "other", true)
	if again := took(hash, "secret", true); again < time.Millisecond {
		t.Errorf("more is remembered than one entry: the check took %v", again)
	}
}

// TestFlood asks for far more checks than there is room for: those that are too many fail at once.
func TestFlood(t *testing.T) {
	t.Parallel()
	c := password.NewChecker(password.Options{Parallel: 1, Waiting: 2})
	hash := password.Hash([]byte("secret"))
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		busy int
	)
	for i := range 50 {
		all.Go(func() {
			_, err := c.Verify(t.Context(), fmt.Sprint(i), hash, []byte("wrong"))
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, turns.ErrBusy) {
				busy++
			} else if err != nil {
				t.Errorf("Verify: %v", err)
			}
		})
	}
	all.Wait()
	if busy == 0 || busy > 47 {
		t.Errorf("%d of 50 checks were refused, want most but not the three that there is room for", busy)
	}
	if ok, err := c.Verify(t.Context(), "", hash, []byte("secret")); !ok || err != nil {
		t.Errorf("after the flood Verify() = %v, %v", ok, err)
	}
}

// TestFloodOfOneSource has one source guess as fast as it can: another one gets in.
func TestFloodOfOneSource(t *testing.T) {
	t.Parallel()
	c := password.NewChecker(password.Options{Parallel: 1, Waiting: 8, Each: 2})
	hash := password.Hash([]byte("secret"))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for ctx.Err() == nil {
				_, _ = c.Verify(ctx, "flood", hash, []byte("wrong"))
			}
		})
	}
	for range 3 {
		if ok, err := c.Verify(ctx, "other", hash, []byte("secret")); !ok || err != nil {
			t.Errorf("beside the flood Verify() = %v, %v", ok, err)
		}
		if _, err := c.Verify(ctx, "other", hash, []byte("not remembered")); err != nil {
			t.Errorf("beside the flood Verify() = %v", err)
		}
	}
	cancel()
	all.Wait()
}
