package mapping

import (
	"math"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// otherwise is what becomes of a value that is not in the table.
type otherwise uint8

const (
	elseError otherwise = iota
	elseDrop
	elsePass
	elseValue
)

// table maps words, compared without case, to JSON values.
type table struct {
	name    string // of a built-in
	entries map[string]shadow.Value
}

func (t *table) lookup(word string) (shadow.Value, bool) {
	v, ok := t.entries[word]
	if !ok {
		v, ok = t.entries[strings.ToLower(word)]
	}
	return v, ok
}

// builtinWords returns the words for true and false of a built-in table.
func builtinWords(name string) (yes, no string, ok bool) {
	switch name {
	case "on_off":
		return "ON", "OFF", true
	case "on_off_lc":
		return "on", "off", true
	case "online":
		return "online", "offline", true
	case "true_false":
		return "true", "false", true
	case "one_zero":
		return "1", "0", true
	}
	return "", "", false
}

// builtin returns a built-in table: from words to bools, or, outbound, from bools to words.
func builtin(name string, outbound bool) (*table, bool) {
	yes, no, ok := builtinWords(name)
	if !ok {
		return nil, false
	}
	t := &table{name: name, entries: map[string]shadow.Value{}}
	if outbound {
		t.entries["true"], t.entries["false"] = stringValue(yes), stringValue(no)
	} else {
		t.entries[strings.ToLower(yes)], t.entries[strings.ToLower(no)] = literal([]byte("true")), literal([]byte("false"))
	}
	return t, true
}

// conversion turns a value into another one. The steps are done in the order of the fields.
type conversion struct {
	as     form // of a value inside of a payload
	split  string
	expr   *expression
	table  *table
	other  otherwise
	value  shadow.Value // of elseValue
	scale  bool
	factor float64
	offset float64
	round  int // decimals, -1 for none
}

// apply converts v; drop says that nothing is to be written.
func (c *conversion) apply(v shadow.Value, env *exprEnv) (out shadow.Value, drop bool, bad *refusal) {
	if v, bad = reform(c.as, v); bad != nil {
		return c.fallback(v, bad)
	}
	if c.split != "" && v.IsString() {
		v = splitText(v.Text(), c.split)
	}
	if c.expr != nil {
		if v, bad = c.expr.eval(env, v); bad != nil {
			return c.fallback(v, bad)
		}
		if !v.Exists() {
			return v, true, nil
		}
	}
	if c.table != nil && !v.IsNull() {
		mapped, ok := shadow.Value{}, false
		if !v.IsObject() && !v.IsArray() {
			mapped, ok = c.table.lookup(v.Text())
		}
		if !ok {
			return c.unmapped(v)
		}
		v = mapped
	}
	if c.scale || c.round >= 0 {
		if v, bad = c.number(v); bad != nil {
			return c.fallback(v, bad)
		}
	}
	return v, false, nil
}

func (c *conversion) unmapped(v shadow.Value) (shadow.Value, bool, *refusal) {
	switch c.other {
	case elseDrop:
		return shadow.Value{}, true, nil
	case elsePass:
		return v, false, nil
	case elseValue:
		return c.value, false, nil
	case elseError:
	}
	return shadow.Value{}, false, refuse(CodeMap, "%.60q is not in the table", v.Text())
}

// fallback is what becomes of a value that cannot be converted for another reason than the table.
func (c *conversion) fallback(v shadow.Value, bad *refusal) (shadow.Value, bool, *refusal) {
	if c.other == elseDrop || c.other == elseValue {
		return c.unmapped(v)
	}
	return shadow.Value{}, false, bad
}

// number scales and rounds. A value that is null stays null.
func (c *conversion) number(v shadow.Value) (shadow.Value, *refusal) {
	if v.IsNull() {
		return v, nil
	}
	f, ok := v.Float()
	if !ok {
		return v, refuse(CodeType, "%.60q is not a number", v.Text())
	}
	if c.scale {
		f = f*c.factor + c.offset
	}
	if c.round >= 0 {
		f = roundTo(f, c.round)
	}
	return numberValue(f), nil
}

func roundTo(f float64, decimals int) float64 {
	p := math.Pow10(decimals)
	if r := math.Round(f*p) / p; !math.IsNaN(r) && !math.IsInf(r, 0) {
		return r
	}
	return f
}

// splitText makes an array of the parts of a text.
func splitText(text, sep string) shadow.Value {
	out := []byte{'['}
	for i, p := range strings.Split(text, sep) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, decodeAuto([]byte(strings.TrimSpace(p))).Raw()...)
	}
	return literal(append(out, ']'))
}
