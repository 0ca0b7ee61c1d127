//go:build race

package umbradtest

const race = true
