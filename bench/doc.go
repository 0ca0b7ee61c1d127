// Package bench measures what a stored and acknowledged shadow update costs a
// umbrad, over loopback and against a bare broker that moves the same number of
// messages in the same run. README.md tells how to read the numbers.
package bench
