//go:build !torture

package main

import "github.com/cockroachdb/pebble/v2/vfs"

// disk is the file system of the store, nil for that of the operating system.
func disk() vfs.FS { return nil }
