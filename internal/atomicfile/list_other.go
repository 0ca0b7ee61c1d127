//go:build !linux

package atomicfile

import "os"

// keepList does nothing: what Go does for this system knows no access control lists.
func keepList(*os.File, string) error { return nil }
