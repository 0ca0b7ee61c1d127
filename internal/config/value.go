package config

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/broker/topic"
)

// value is a field of Config that is set from text. The types below are its kinds.
type value interface {
	Set(text string) error
}

type text struct{ p *string }

func (v text) Set(s string) error {
	*v.p = s
	return nil
}

// filters is a list of topic filters with commas between them, none of which has a comma.
type filters struct{ p *[]string }

func (v filters) String() string { return strings.Join(*v.p, ",") }

func (v filters) Set(s string) error {
	*v.p = nil
	if s == "" {
		return nil
	}
	for f := range strings.SplitSeq(s, ",") {
		if err := topic.ValidFilter(f); err != nil {
			return fmt.Errorf("%q is not a topic filter: %w", f, err)
		}
		*v.p = append(*v.p, f)
	}
	return nil
}

// names is a list of names with commas between them.
type names struct{ p *[]string }

func (v names) Set(s string) error {
	*v.p = nil
	for name := range strings.SplitSeq(s, ",") {
		if name = strings.TrimSpace(name); name != "" {
			*v.p = append(*v.p, name)
		}
	}
	return nil
}

type boolean struct{ p *bool }

func (v boolean) Set(s string) error {
	b, err := strconv.ParseBool(s)
	switch {
	case s == "on" || s == "off":
		b = s == "on"
	case err != nil:
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*v.p = b
	return nil
}

type choice struct {
	p   *string
	all []string
}

func (v choice) Set(s string) error {
	if !slices.Contains(v.all, s) {
		return fmt.Errorf("%q is not one of %s", s, strings.Join(v.all, ", "))
	}
	*v.p = s
	return nil
}

type level struct{ p *slog.Level }

func (v level) Set(s string) error {
	if err := v.p.UnmarshalText([]byte(s)); err != nil {
		return fmt.Errorf("%q is not one of debug, info, warn, error", s)
	}
	return nil
}

type duration struct {
	p           *time.Duration
	least, most time.Duration
}

func (v duration) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 500ms, 10s or 48h", s)
	}
	if d < v.least || d > v.most {
		return fmt.Errorf("%q is not from %v to %v", s, v.least, v.most)
	}
	*v.p = d
	return nil
}

// seconds is a duration that MQTT counts in whole seconds.
type seconds duration

func (v seconds) Set(s string) error {
	if d, err := time.ParseDuration(s); err == nil && d%time.Second != 0 {
		return fmt.Errorf("%q is not in whole seconds, which is how MQTT counts", s)
	}
	return duration(v).Set(s)
}

type integer[T int | uint16] struct {
	p           *T
	least, most T
}

func (v integer[T]) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < int64(v.least) || n > int64(v.most) {
		return fmt.Errorf("%q is not a whole number from %d to %d", s, v.least, v.most)
	}
	*v.p = T(n)
	return nil
}

// size is a number of bytes: 8192 or 8KiB.
type size[T int | int64] struct {
	p           *T
	least, most T
}

func (v size[T]) Set(s string) error {
	n, err := parseSize(s)
	if err != nil || n < int64(v.least) || n > int64(v.most) {
		return fmt.Errorf("%q is not a size from %d to %d bytes such as 8192, 8KiB or 1MiB", s, v.least, v.most)
	}
	*v.p = T(n)
	return nil
}

func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	shift, ok := map[string]uint{"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[s[len(digits):]]
	if !ok {
		return 0, errors.New("unknown unit")
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > 1<<50>>shift {
		return 0, errors.New("out of range")
	}
	return n << shift, nil
}
