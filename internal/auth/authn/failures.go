package authn

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
)

// Bounds of the log: failed logins that are told of in a window of time, of one address and in all.
const (
	failureWindow      = 10 * time.Second
	failuresPerAddress = 5
	failuresInAll      = 100
)

// Failures counts failed logins since the start.
type Failures struct {
	None        int64 // nothing was shown that counts
	Denied      int64 // what was shown is wrong
	Unavailable int64 // nobody could tell
}

// failures counts failed logins, and logs them as far as that does not flood the log: guessing costs disk space else.
type failures struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex // guards what follows
	count  Failures
	began  time.Time          // the window
	told   int                // in it
	of     map[netip.Addr]int // the same for each address; no more than were told of
	silent int                // not told of since the last one that was
}

// add counts a failed login and perhaps logs it. The error says nothing that is secret.
func (f *failures) add(remote netip.Addr, err error, attrs ...any) {
	silent, tell := f.note(remote, err)
	if !tell {
		return
	}
	if silent > 0 {
		attrs = append(attrs, "not_logged_before", silent)
	}
	f.log.Warn("login failed", append(attrs, "error", err)...)
}

// note reports whether a failed login is to be told of, and how many were not since the last one.
func (f *failures) note(remote netip.Addr, err error) (silent int, tell bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, auth.ErrNoCredentials):
		f.count.None++
	case errors.Is(err, auth.ErrUnavailable):
		f.count.Unavailable++
	default:
		f.count.Denied++
	}
	if now := f.now(); now.Sub(f.began) >= failureWindow {
		f.began, f.told, f.of = now, 0, map[netip.Addr]int{}
	}
	if f.told >= failuresInAll || f.of[remote] >= failuresPerAddress {
		f.silent++
		return 0, false
	}
	f.told++
	f.of[remote]++
	silent, f.silent = f.silent, 0
	return silent, true
}

// Failures returns how many logins have failed.
func (a *Authenticator) Failures() Failures {
	a.failures.mu.Lock()
	defer a.failures.mu.Unlock()
	return a.failures.count
}
