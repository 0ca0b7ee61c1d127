// Package filelock keeps processes from changing a file at the same time, so that none of them undoes what another one
// has done.
package filelock

import (
	"fmt"
	"os"
)

// Suffix is what the name of a lock file has behind that of the file whose changes it orders.
const Suffix = ".lock"

// Lock waits until nobody else has the lock of the file called name, and takes it. It is a file beside it, which is made
// when there is none, and stays. The lock ends with unlock, or with the process.
func Lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name+Suffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("filelock: %w", err)
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("filelock: %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}
