//go:build !unix

package config

// isReadOnly knows nothing of file systems here.
func isReadOnly(string) bool { return false }
