package filelock_test

import (
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/umbra-iot/umbra/internal/filelock"
)

func TestLock(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	var (
		wg     sync.WaitGroup
		inside atomic.Int32
	)
	for range 20 {
		wg.Go(func() {
			unlock, err := filelock.Lock(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d have the lock", n)
			}
			runtime.Gosched()
			inside.Add(-1)
		})
	}
	wg.Wait()
	if _, err := filelock.Lock(filepath.Join(name, "nowhere", "file")); err == nil {
		t.Error("a lock in a directory that is not there")
	}
}
