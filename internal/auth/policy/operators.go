package policy

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// operator is a condition operator without set operator and IfExists.
type operator struct {
	negates   bool // its name has "Not": it is true where match is false
	null      bool
	wildcards bool // in values of the condition
	parse     func(c compiler, text string) (operand, error)
	match     func(o *operand, v string, values []value) bool
}

// operand is a value of a condition; which fields count depends on the operator.
type operand struct {
	pattern    pattern
	components []pattern // of an ARN; nil for any ARN
	number     float64
	time       time.Time
	bytes      string
	truth      bool
	prefix     netip.Prefix
}

// operatorOf returns an operator by its name, nil for none.
func operatorOf(name string) *operator {
	positive := strings.Replace(name, "Not", "", 1)
	o := positiveOperator(positive)
	if o == nil || positive == name {
		return o
	}
	switch name {
	case "StringNotEquals", "StringNotEqualsIgnoreCase", "StringNotLike", "NumericNotEquals", "DateNotEquals",
		"ArnNotEquals", "ArnNotLike", "NotIpAddress":
		o.negates = true
		return o
	}
	return nil
}

func positiveOperator(name string) *operator {
	switch name {
	case "StringEquals":
		return &operator{parse: parseText, match: func(o *operand, v string, values []value) bool { return o.is(v, values) }}
	case "StringEqualsIgnoreCase":
		return &operator{parse: parseText, match: func(o *operand, v string, values []value) bool {
			text, ok := o.pattern.appendText(nil, values)
			return ok && strings.EqualFold(string(text), v)
		}}
	case "StringLike":
		return &operator{wildcards: true, parse: parseText, match: func(o *operand, v string, values []value) bool {
			return o.pattern.match([]byte(v), values)
		}}
	case "ArnEquals", "ArnLike":
		return &operator{wildcards: true, parse: parseARN, match: func(o *operand, v string, values []value) bool {
			return o.components == nil || matchARN(o.components, v, values)
		}}
	case "Bool":
		return &operator{parse: parseBool, match: func(o *operand, v string, values []value) bool {
			text, ok := o.pattern.appendText(nil, values)
			return ok && strings.EqualFold(string(text), v)
		}}
	case "BinaryEquals":
		return &operator{parse: parseBinary, match: func(o *operand, v string, _ []value) bool { return o.bytes == v }}
	case "IpAddress":
		return &operator{parse: parsePrefix, match: func(o *operand, v string, _ []value) bool {
			addr, err := netip.ParseAddr(v)
			return err == nil && o.prefix.Contains(addr.Unmap())
		}}
	case "Null":
		return &operator{null: true, parse: parseTruth}
	}
	if kind, ok := strings.CutPrefix(name, "Numeric"); ok {
		return numericOperator(comparison(kind))
	}
	if kind, ok := strings.CutPrefix(name, "Date"); ok {
		return dateOperator(comparison(kind))
	}
	return nil
}

// comparison returns what an order of a value and an operand has to be, nil for an unknown name.
func comparison(name string) func(order int) bool {
	switch name {
	case "Equals":
		return func(order int) bool { return order == 0 }
	case "LessThan":
		return func(order int) bool { return order < 0 }
	case "LessThanEquals":
		return func(order int) bool { return order <= 0 }
	case "GreaterThan":
		return func(order int) bool { return order > 0 }
	case "GreaterThanEquals":
		return func(order int) bool { return order >= 0 }
	}
	return nil
}

func numericOperator(fits func(int) bool) *operator {
	if fits == nil {
		return nil
	}
	return &operator{
		parse: func(_ compiler, text string) (o operand, err error) {
			o.number, err = strconv.ParseFloat(text, 64)
			if err != nil {
				return o, errors.New("not a number")
			}
			return o, nil
		},
		match: func(o *operand, v string, _ []value) bool {
			n, err := strconv.ParseFloat(v, 64)
			if err != nil {
				return false
			}
			switch {
			case n < o.number:
				return fits(-1)
			case n > o.number:
				return fits(1)
			}
			return n == o.number && fits(0) // not for NaN
		},
	}
}

func dateOperator(fits func(int) bool) *operator {
	if fits == nil {
		return nil
	}
	return &operator{
		parse: func(_ compiler, text string) (o operand, err error) {
			o.time, err = parseTime(text)
			return o, err
		},
		match: func(o *operand, v string, _ []value) bool {
			t, err := parseTime(v)
			return err == nil && fits(t.Compare(o.time))
		},
	}
}

// parseTime parses a date of ISO 8601 in one of the forms of the W3C, or seconds since the epoch.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{
		"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", // the first one takes fractions
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	const year = 4
	if t, err := time.Parse("2006", s); err == nil && len(s) == year {
		return t, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	return time.Time{}, errors.New("neither a date such as 2026-01-31T12:00:00Z nor seconds since 1970")
}

// is reports whether v is the text of the operand.
func (o *operand) is(v string, values []value) bool {
	for i := range o.pattern.parts {
		text, ok := o.pattern.parts[i].resolve(values)
		if !ok {
			return false
		}
		if v, ok = strings.CutPrefix(v, text); !ok {
			return false
		}
	}
	return v == ""
}

func parseText(c compiler, text string) (o operand, err error) {
	o.pattern, err = c.compile(text)
	return o, err
}

func parseARN(c compiler, text string) (o operand, err error) {
	if o.pattern, err = c.compile(text); err != nil || text == "*" {
		return o, err
	}
	if o.components = o.pattern.splitARN(); o.components == nil {
		return o, errors.New("not an ARN, which has six parts with colons between them")
	}
	return o, nil
}

func parseBool(c compiler, text string) (o operand, err error) {
	if o.pattern, err = c.compile(text); err != nil {
		return o, err
	}
	if len(o.pattern.parts) == 1 && o.pattern.parts[0].kind == partVariable {
		return o, nil
	}
	_, err = parseTruth(c, text)
	return o, err
}

func parseTruth(_ compiler, text string) (o operand, err error) {
	switch {
	case strings.EqualFold(text, "true"):
		o.truth = true
	case !strings.EqualFold(text, "false"):
		return o, errors.New("neither true nor false")
	}
	return o, nil
}

func parseBinary(_ compiler, text string) (o operand, err error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return o, errors.New("not base64")
	}
	o.bytes = string(b)
	return o, nil
}

func parsePrefix(_ compiler, text string) (o operand, err error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		o.prefix = netip.PrefixFrom(addr, addr.BitLen())
		return o, nil
	}
	if o.prefix, err = netip.ParsePrefix(text); err != nil {
		return o, errors.New("neither an address nor a range such as 192.0.2.0/24")
	}
	return o, nil
}
