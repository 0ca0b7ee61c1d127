// Package bench measures what shadow updates, plain messages and idle
// connections cost a umbrad, over loopback and in the same run as the servers that
// it is compared with: a bare broker that moves the same number of messages, and
// Mosquitto. README.md tells how to read the numbers.
package bench
