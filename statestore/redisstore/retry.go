package redisstore

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	firstPause = 10 * time.Millisecond
	maxPause   = 250 * time.Millisecond
	// maxRetry bounds how long an operation waits for Redis to come back.
	maxRetry = 4 * time.Second
)

// retry calls attempt until it succeeds, fails for good, or the time of ctx, at
// most maxRetry, is used up. When Redis was away for as long as that, further
// operations get one attempt each, until one succeeds: nothing piles up.
func (s *Store) retry(ctx context.Context, attempt func() error) error {
	giveUp := time.Now().Add(maxRetry)
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := attempt()
		switch {
		case err == nil:
			s.down.Store(false)
			return nil
		case isReply(err) && !temporary(err) || ctx.Err() != nil:
			return err
		case !temporary(err) || s.down.Load() || !sleep(ctx, pause, giveUp):
			s.down.Store(true)
			return err
		}
	}
}

// sleep waits for d, unless ctx or the time giveUp ends before.
func sleep(ctx context.Context, d time.Duration, giveUp time.Time) bool {
	if time.Until(giveUp) < d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// isReply reports whether err is what Redis answered, which means that it did
// not do what it was asked to.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// IsLoading reports whether Open failed because Redis answers that it is still loading its data, which passes.
func IsLoading(err error) bool { return redis.IsLoadingError(err) }

// isDial reports whether err happened before anything was sent.
func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout)
}

// temporary reports whether another attempt soon may succeed: the connection
// broke, or Redis says that it is on its way up. A timeout is not: waiting for
// it took its time.
func temporary(err error) bool {
	if isReply(err) {
		return redis.IsLoadingError(err) || redis.IsReadOnlyError(err) || redis.IsMasterDownError(err) ||
			redis.IsClusterDownError(err) || redis.IsTryAgainError(err) || redis.IsMaxClientsError(err) ||
			redis.HasErrorPrefix(err, "BUSY")
	}
	var timeout net.Error
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) &&
		!errors.Is(err, redis.ErrPoolTimeout) && !errors.Is(err, redis.ErrClosed) &&
		(!errors.As(err, &timeout) || !timeout.Timeout())
}
