package authn

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/quiet"
)

// Failures counts failed logins since the start.
type Failures struct {
	None        int64 // nothing was shown that counts
	Denied      int64 // what was shown is wrong
	Unavailable int64 // nobody could tell
}

// failures counts failed logins, and logs them as far as that does not flood the log: guessing costs disk space else.
type failures struct {
	log *quiet.Log

	mu    sync.Mutex // guards what follows
	count Failures
}

// add counts a failed login and perhaps logs it. The error says nothing that is secret.
func (f *failures) add(ctx context.Context, remote netip.Addr, err error, attrs ...any) {
	f.mu.Lock()
	switch {
	case errors.Is(err, auth.ErrNoCredentials):
		f.count.None++
	case errors.Is(err, auth.ErrUnavailable):
		f.count.Unavailable++
	default:
		f.count.Denied++
	}
	f.mu.Unlock()
	f.log.Log(ctx, slog.LevelWarn, remote.String(), "login failed", append(attrs, "remote", remote.String(), "error", err)...)
}

// Failures returns how many logins have failed.
func (a *Authenticator) Failures() Failures {
	a.failures.mu.Lock()
	defer a.failures.mu.Unlock()
	return a.failures.count
}
