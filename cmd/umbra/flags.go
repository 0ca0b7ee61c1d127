package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

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

// lifetime is a flag that says how long something counts: more than no time, so that nobody who computes it makes
// what never ends. Zero, the value of a flag that is not given, is no end.
type lifetime time.Duration

// Set, String and Type make it a pflag.Value.
func (l *lifetime) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return errors.New("want a duration above 0, such as 720h")
	}
	*l = lifetime(d)
	return nil
}

func (l *lifetime) String() string {
	if *l == 0 {
		return ""
	}
	return time.Duration(*l).String()
}

// Type is what help shows in place of a value.
func (l *lifetime) Type() string { return "duration" }

// lifetimeFlag adds --valid to a command, with a value for when it is not given.
func lifetimeFlag(cmd *cobra.Command, l *lifetime, otherwise time.Duration, usage string) {
	*l = lifetime(otherwise)
	cmd.Flags().Var(l, "valid", usage)
}
