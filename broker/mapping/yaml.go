package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/umbra-iot/umbra/shadow"
)

// Bounds of a file.
const (
	maxFileBytes = 1 << 20
	maxFileNodes = 100_000 // with aliases counted as often as they are used
)

// reader collects what is wrong with a file.
type reader struct {
	file  string
	nodes int
	found LoadError
}

func (r *reader) fail(n *yaml.Node, key, format string, args ...any) {
	r.found = append(r.found, &Diagnostic{File: r.file, Line: n.Line, Key: key, Text: fmt.Sprintf(format, args...)})
}

func (r *reader) warn(n *yaml.Node, key, format string, args ...any) {
	r.found = append(r.found, &Diagnostic{File: r.file, Line: n.Line, Key: key, Text: fmt.Sprintf(format, args...), Warning: true})
}

// documents parses the YAML documents of a file.
func (r *reader) documents(text []byte) []*yaml.Node {
	if len(text) > maxFileBytes {
		r.found = append(r.found, &Diagnostic{File: r.file, Line: 1, Text: fmt.Sprintf("the file has more than %d bytes", maxFileBytes)})
		return nil
	}
	var docs []*yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			line, what := yamlError(err)
			r.found = append(r.found, &Diagnostic{File: r.file, Line: line, Text: what})
			return docs
		}
		if len(n.Content) == 1 {
			docs = append(docs, n.Content[0])
		}
	}
}

// yamlError takes the line out of the words of the YAML parser.
func yamlError(err error) (line int, text string) {
	m := regexp.MustCompile(`^yaml: line (\d+): (.*)`).FindStringSubmatch(err.Error())
	if m == nil {
		return 1, strings.TrimPrefix(err.Error(), "yaml: ")
	}
	line, _ = strconv.Atoi(m[1])
	return line, m[2]
}

// visit follows aliases, and counts; nil when the file is too large.
func (r *reader) visit(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
		r.nodes++
	}
	if r.nodes++; r.nodes > maxFileNodes {
		if r.nodes == maxFileNodes+1 {
			r.fail(n, "", "the file has more than %d values", maxFileNodes)
		}
		return nil
	}
	return n
}

// member is one entry of an object.
type member struct {
	key, value *yaml.Node
	used       bool
}

// object is a YAML mapping with string keys.
type object struct {
	r     *reader
	node  *yaml.Node
	path  string
	names []string
	m     map[string]*member
}

// object reads a mapping node.
func (r *reader) object(n *yaml.Node, path string) *object {
	o := &object{r: r, node: n, path: path, m: map[string]*member{}}
	n = r.visit(n)
	if n == nil {
		return o
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, path, "must be a table of keys and values")
		return o
	}
	o.node = n
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; k.Tag != "!!merge" {
			o.add(k, n.Content[i+1], false)
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag == "!!merge" {
			o.merge(n.Content[i+1])
		}
	}
	return o
}

func (o *object) add(k, v *yaml.Node, merged bool) {
	if why := notString(k); why != "" {
		o.r.fail(k, o.child(k.Value), "%s", why)
		return
	}
	if o.m[k.Value] != nil {
		if !merged {
			o.r.fail(k, o.child(k.Value), "the key is there twice")
		}
		return
	}
	o.names = append(o.names, k.Value)
	o.m[k.Value] = &member{key: k, value: v}
}

// merge takes over the members of "<<" that are not there yet.
func (o *object) merge(v *yaml.Node) {
	v = o.r.visit(v)
	if v == nil {
		return
	}
	if v.Kind == yaml.SequenceNode {
		for _, n := range v.Content {
			o.merge(n)
		}
		return
	}
	from := o.r.object(v, o.path)
	for _, name := range from.names {
		o.add(from.m[name].key, from.m[name].value, true)
	}
}

// notString says why a key is refused, "" for a string. Words that some YAML parsers take for a bool
// count as such, so that a file means the same everywhere.
func notString(k *yaml.Node) string {
	if k.Kind != yaml.ScalarNode {
		return "a key must be a string"
	}
	if k.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		return ""
	}
	switch strings.ToLower(k.Value) {
	case "y", "n", "yes", "no", "on", "off", "true", "false":
		return fmt.Sprintf("the key %s is a bool in YAML, not a string: quote it (%q)", k.Value, k.Value)
	}
	if k.Tag != "!!str" {
		return fmt.Sprintf("the key %s is not a string: quote it (%q)", k.Value, k.Value)
	}
	return ""
}

func (o *object) child(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

func (o *object) has(key string) bool { return o.m[key] != nil }

// take returns a member's value and marks it as known; nil when it is absent.
func (o *object) take(key string) *yaml.Node {
	m := o.m[key]
	if m == nil {
		return nil
	}
	m.used = true
	return o.r.visit(m.value)
}

// done refuses the members that nobody has taken.
func (o *object) done() {
	for _, name := range o.names {
		if m := o.m[name]; !m.used {
			o.r.fail(m.key, o.child(name), "unknown key")
		}
	}
}

func (o *object) failAt(key, format string, args ...any) {
	n := o.node
	if m := o.m[key]; m != nil {
		n = m.key
	}
	o.r.fail(n, o.child(key), format, args...)
}

func (o *object) warnAt(key, format string, args ...any) {
	n := o.node
	if m := o.m[key]; m != nil {
		n = m.key
	}
	o.r.warn(n, o.child(key), format, args...)
}

// str returns a string, or the text of another scalar.
func (o *object) str(key, otherwise string) string {
	n := o.take(key)
	if n == nil {
		return otherwise
	}
	if n.Kind != yaml.ScalarNode {
		o.failAt(key, "must be a string")
		return otherwise
	}
	return n.Value
}

func (o *object) boolean(key string, otherwise bool) bool {
	n := o.take(key)
	if n == nil {
		return otherwise
	}
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on":
		return true
	case "false", "no", "off":
		return false
	}
	o.failAt(key, "must be true or false")
	return otherwise
}

func (o *object) number(key string, otherwise float64) float64 {
	n := o.take(key)
	if n == nil {
		return otherwise
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || n.Kind != yaml.ScalarNode {
		o.failAt(key, "must be a number")
		return otherwise
	}
	return f
}

func (o *object) integer(key string, otherwise, lowest, highest int) int {
	n := o.take(key)
	if n == nil {
		return otherwise
	}
	i, err := strconv.Atoi(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode || i < lowest || i > highest {
		o.failAt(key, "must be a whole number from %d to %d", lowest, highest)
		return otherwise
	}
	return i
}

// duration returns ms; a plain number is seconds.
func (o *object) duration(key string, otherwise time.Duration) int64 {
	n := o.take(key)
	if n == nil {
		return otherwise.Milliseconds()
	}
	d, err := time.ParseDuration(n.Value)
	if err != nil {
		d, err = time.ParseDuration(n.Value + "s")
	}
	if err != nil || d < 0 || n.Kind != yaml.ScalarNode {
		o.failAt(key, "must be a duration such as 5s")
		return otherwise.Milliseconds()
	}
	return d.Milliseconds()
}

// oneOf returns a word that is one of those allowed; the first is the default.
func (o *object) oneOf(key string, words ...string) string {
	s := o.str(key, words[0])
	if slices.Contains(words, s) {
		return s
	}
	o.failAt(key, "must be one of %s", strings.Join(words, ", "))
	return words[0]
}

// list returns the elements of a sequence.
func (o *object) list(key string) []*yaml.Node {
	n := o.take(key)
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		o.failAt(key, "must be a list")
		return nil
	}
	return n.Content
}

func (o *object) strings(key string) []string {
	var out []string
	for _, n := range o.list(key) {
		if n = o.r.visit(n); n == nil || n.Kind != yaml.ScalarNode {
			o.failAt(key, "must be a list of strings")
			return nil
		}
		out = append(out, n.Value)
	}
	return out
}

// jsonValue returns a node as JSON.
func (r *reader) jsonValue(n *yaml.Node, path string) shadow.Value {
	var out any
	n = r.visit(n)
	if n == nil {
		return shadow.Value{}
	}
	if !r.plainKeys(n, path) {
		return shadow.Value{}
	}
	if err := n.Decode(&out); err != nil {
		r.fail(n, path, "is no JSON value: %v", err)
		return shadow.Value{}
	}
	text, err := json.Marshal(out)
	if err != nil {
		r.fail(n, path, "is no JSON value: %v", err)
		return shadow.Value{}
	}
	return literal(text)
}

// plainKeys reports whether all keys below a node are strings, and complains where one is not.
func (r *reader) plainKeys(n *yaml.Node, path string) bool {
	n = r.visit(n)
	if n == nil {
		return false
	}
	ok := true
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if c.Tag == "!!merge" {
				continue
			}
			if why := notString(c); why != "" {
				r.fail(c, path+"."+c.Value, "%s", why)
				ok = false
			}
			continue
		}
		ok = r.plainKeys(c, path) && ok
	}
	return ok
}
