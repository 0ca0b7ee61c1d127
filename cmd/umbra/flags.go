package main

import (
	"errors"
	"strconv"

	"github.com/umbra-iot/umbra/shadow"
)

// versionFlag is a flag that holds the version of a shadow.
type versionFlag struct {
	given bool
	n     uint64
}

// Set, String and Type make it a pflag.Value.
func (v *versionFlag) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return errors.New("want a version, which is a whole number")
	}
	*v = versionFlag{given: true, n: n}
	return nil
}

func (v *versionFlag) String() string {
	if !v.given {
		return ""
	}
	return strconv.FormatUint(v.n, 10)
}

// Type is what help shows in place of a value.
func (v *versionFlag) Type() string { return "N" }

// check is the conflict that the server would report for doc, which may be nil.
func (v *versionFlag) check(id shadow.ID, doc *document) error {
	if v.given && v.n != doc.version() {
		return failf(exitConflict, "%s: version is %d, not %d", display(id), doc.version(), v.n)
	}
	return nil
}
