package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"
)

// maxAge is how far a "$ts" may lie from now.
const maxAge = 120 * time.Second

// Scope is what the matchers of one case have in common: the names that templates fill in, the
// time, and the captured timestamps. The zero value is ready; set Thing and Shadow before each step.
type Scope struct {
	Thing  string           // for ${thing}
	Shadow string           // for ${shadow}
	Now    func() time.Time // nil is time.Now

	captured map[string]int64
}

// absent is the value of a missing member; no JSON value decodes to it.
type absent struct{}

// Match compares the JSON text got with the matcher want; the error says where they differ.
// Objects have to have the same keys unless the matcher holds "$open": true, arrays the same
// length, numbers the same value. Matchers:
//
//	"$ts"                whole epoch seconds, at most 120 s from now
//	"$tsOrAbsent"        the same, or the key is missing
//	"$any"               any value, but present
//	"$absent"            the key is missing
//	"$nullish"           null or missing
//	"$string"            any string
//	{"$oneOf":[…]}       any of the listed matchers
//	{"$re":"…"}          a string in which the regular expression is found
//	{"$tmplString":"…"}  this string after replacing ${thing}, ${shadow} and ${c*n}
//	{"$decimal":"123"}   a number exactly equal to this decimal
//	{"$set":[…]}         a list with these elements in any order
//	{"$capture":"x"}     a timestamp, kept under x
//	{"$same":"x"}        a timestamp equal to x
//	{"$later":"x"}       a timestamp greater than x
func (s *Scope) Match(want, got []byte) error {
	w, err := decode(want)
	if err != nil {
		return fmt.Errorf("matcher: %w", err)
	}
	g, err := decode(got)
	if err != nil {
		return fmt.Errorf("answer %.200q: %w", got, err)
	}
	return s.match("$", w, g)
}

func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the JSON value")
	}
	return v, nil
}

func (s *Scope) match(path string, want, got any) error {
	if text, ok := want.(string); ok && strings.HasPrefix(text, "$") {
		if done, err := s.matchWord(path, text, got); done {
			return err
		}
	}
	if obj, ok := want.(map[string]any); ok && len(obj) == 1 {
		for op, arg := range obj {
			if done, err := s.matchOperator(path, op, arg, got); done {
				return err
			}
		}
	}
	if _, missing := got.(absent); missing {
		return fmt.Errorf("%s is missing, want %s", path, show(want))
	}
	switch want := want.(type) {
	case map[string]any:
		return s.matchObject(path, want, got)
	case []any:
		return s.matchArray(path, want, got)
	case json.Number:
		if n, ok := got.(json.Number); ok && sameNumber(string(want), string(n)) {
			return nil
		}
	default:
		if reflect.DeepEqual(want, got) {
			return nil
		}
	}
	return mismatch(path, got, want)
}

// matchWord matches the one-word matchers; done is false for a plain string.
func (s *Scope) matchWord(path, word string, got any) (done bool, err error) {
	_, missing := got.(absent)
	_, text := got.(string)
	var ok bool
	switch word {
	case "$ts":
		ok = s.recent(got)
	case "$tsOrAbsent":
		ok = missing || s.recent(got)
	case "$any":
		ok = !missing
	case "$absent":
		ok = missing
	case "$nullish":
		ok = missing || got == nil
	case "$string":
		ok = text
	default:
		return false, nil
	}
	if !ok {
		return true, mismatch(path, got, word)
	}
	return true, nil
}

// matchOperator matches the operators; done is false when op is none, but a key of data.
func (s *Scope) matchOperator(path, op string, arg, got any) (done bool, err error) {
	var ok bool
	name, _ := arg.(string)
	switch op {
	case "$oneOf":
		ok = s.matchAny(path, arg, got)
	case "$set":
		ok = s.matchSet(path, arg, got)
	case "$re":
		re, err := regexp.Compile(name)
		if err != nil {
			return true, fmt.Errorf("%s: matcher: %w", path, err)
		}
		text, isText := got.(string)
		ok = isText && re.MatchString(text)
	case "$tmplString":
		ok = got == Expand(strings.NewReplacer("${thing}", s.Thing, "${shadow}", s.Shadow).Replace(name))
	case "$decimal":
		n, isNumber := got.(json.Number)
		ok = isNumber && sameNumber(name, string(n))
	case "$capture", "$same", "$later":
		ok = s.matchTime(op, name, got)
	default:
		return false, nil
	}
	if !ok {
		return true, mismatch(path, got, map[string]any{op: arg})
	}
	return true, nil
}

func (s *Scope) matchAny(path string, arg, got any) bool {
	list, _ := arg.([]any)
	for _, m := range list {
		if s.match(path, m, got) == nil {
			return true
		}
	}
	return false
}

func (s *Scope) matchSet(path string, arg, got any) bool {
	want, _ := arg.([]any)
	list, ok := got.([]any)
	if !ok || len(list) != len(want) {
		return false
	}
	left := append([]any(nil), list...)
	for _, m := range want {
		found := -1
		for i, v := range left {
			if s.match(path, m, v) == nil {
				found = i
				break
			}
		}
		if found < 0 {
			return false
		}
		left = append(left[:found], left[found+1:]...)
	}
	return true
}

func (s *Scope) matchTime(op, name string, got any) bool {
	t, ok := seconds(got)
	if !ok {
		return false
	}
	if op == "$capture" {
		if s.captured == nil {
			s.captured = map[string]int64{}
		}
		s.captured[name] = t
		return true
	}
	before, known := s.captured[name]
	if op == "$same" {
		return known && t == before
	}
	return known && t > before
}

func (s *Scope) matchObject(path string, want map[string]any, got any) error {
	obj, ok := got.(map[string]any)
	if !ok {
		return mismatch(path, got, want)
	}
	open := want["$open"] == true
	for _, key := range sortedKeys(want) {
		if open && key == "$open" {
			continue
		}
		value, present := obj[key]
		if !present {
			value = absent{}
		}
		if err := s.match(path+"."+key, want[key], value); err != nil {
			return err
		}
	}
	for _, key := range sortedKeys(obj) {
		if _, known := want[key]; !known && !open {
			return fmt.Errorf("%s.%s = %s, want no such member", path, key, show(obj[key]))
		}
	}
	return nil
}

func (s *Scope) matchArray(path string, want []any, got any) error {
	list, ok := got.([]any)
	if !ok || len(list) != len(want) {
		return mismatch(path, got, want)
	}
	for i := range want {
		if err := s.match(path+"["+strconv.Itoa(i)+"]", want[i], list[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scope) recent(got any) bool {
	t, ok := seconds(got)
	if !ok {
		return false
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	return now().Sub(time.Unix(t, 0)).Abs() <= maxAge
}

func seconds(v any) (int64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	t, err := strconv.ParseInt(string(n), 10, 64)
	return t, err == nil
}

// sameNumber compares decimals exactly, without going through float64.
func sameNumber(a, b string) bool {
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}

func mismatch(path string, got, want any) error {
	return fmt.Errorf("%s = %s, want %s", path, show(got), show(want))
}

func show(v any) string {
	if _, missing := v.(absent); missing {
		return "nothing"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(text) > 300 {
		return string(text[:300]) + "…"
	}
	return string(text)
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
