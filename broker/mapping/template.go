package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// environment is what terms of templates stand for.
type environment struct {
	caps    captures
	thing   string
	client  string
	user    string
	topic   string
	payload shadow.Value
	value   string // as text
	typed   []byte // value as JSON; nil where there is none
	parent  string // of {}
}

// term is one {name|filter...} of a template. A term of the payload is a path.
type term struct {
	name    string
	payload []string // keys below payload
	filters []string
}

// key is the term without its filters: what a binding keeps the text of.
func (t *term) key() string {
	if t.payload != nil {
		return "payload." + strings.Join(t.payload, ".")
	}
	return t.name
}

// lookup returns the text of a term before its filters.
func (t *term) lookup(env *environment) (string, bool) {
	if t.payload != nil {
		v := env.payload.At(t.payload...)
		if !v.Exists() || v.IsNull() || v.IsObject() || v.IsArray() {
			return "", false
		}
		return v.Text(), true
	}
	if text, ok := env.caps.get(t.name); ok {
		return text, true
	}
	switch t.name {
	case "":
		return env.parent, env.parent != ""
	case "thing":
		return env.thing, env.thing != ""
	case "client":
		return env.client, env.client != ""
	case "user":
		return env.user, env.user != ""
	case "topic":
		return env.topic, env.topic != ""
	case "value":
		return env.value, env.typed != nil
	case "payload":
		return env.payload.Text(), env.payload.Exists()
	}
	return "", false
}

func (t *term) render(env *environment) (string, bool) {
	text, ok := t.lookup(env)
	if !ok {
		return "", false
	}
	for _, f := range t.filters {
		if text, ok = applyFilter(f, text); !ok {
			return "", false
		}
	}
	return text, true
}

func knownFilter(name string) bool {
	switch name {
	case "slug", "lower", "upper", "nocolon", "hex8", "int":
		return true
	}
	return false
}

func applyFilter(name, text string) (string, bool) {
	switch name {
	case "slug":
		return slug(text), true
	case "lower":
		return strings.ToLower(text), true
	case "upper":
		return strings.ToUpper(text), true
	case "nocolon":
		return strings.ReplaceAll(text, ":", ""), true
	case "hex8":
		n, err := strconv.ParseUint(text, 10, 32)
		return fmt.Sprintf("%08x", n), err == nil
	case "int":
		n, err := strconv.ParseInt(text, 10, 64)
		return strconv.FormatInt(n, 10), err == nil
	}
	return "", false
}

// slug replaces characters that a thing's name cannot have by _.
func slug(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == ':', r == '_', r == '-':
			return r
		}
		return '_'
	}, text)
}

// part of a template: text, or a term.
type part struct {
	text string
	term *term
}

// template is a compiled template.
type template struct {
	text  string
	parts []part
}

func compileTemplate(text string) (*template, error) {
	t := &template{text: text}
	for rest := text; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open != 0 {
			if open < 0 {
				open = len(rest)
			}
			t.parts = append(t.parts, part{text: rest[:open]})
			rest = rest[open:]
			continue
		}
		end := strings.IndexByte(rest, '}')
		if rest[0] == '}' || end < 0 {
			return nil, errors.New("a brace is not closed or not opened")
		}
		tm, err := parseTerm(rest[1:end])
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part{term: tm})
		rest = rest[end+1:]
	}
	return t, nil
}

func parseTerm(inner string) (*term, error) {
	fields := strings.Split(inner, "|")
	t := &term{name: strings.TrimSuffix(fields[0], "+")}
	if path, ok := strings.CutPrefix(t.name, "payload."); ok {
		t.payload = strings.Split(path, ".")
	} else if t.name != "" && !isName(t.name) {
		return nil, fmt.Errorf("{%s} does not begin with a name", inner)
	}
	for _, f := range fields[1:] {
		if !knownFilter(f) {
			return nil, fmt.Errorf("unknown filter %q (there are slug, lower, upper, nocolon, hex8, int)", f)
		}
		t.filters = append(t.filters, f)
	}
	return t, nil
}

// terms returns the terms of a template.
func (t *template) terms() []*term {
	var out []*term
	for i := range t.parts {
		if t.parts[i].term != nil {
			out = append(out, t.parts[i].term)
		}
	}
	return out
}

// sole returns the term of a template that is nothing else.
func (t *template) sole() *term {
	if len(t.parts) == 1 {
		return t.parts[0].term
	}
	return nil
}

// render returns the text; missing names the first term that has none.
func (t *template) render(env *environment) (text, missing string, ok bool) {
	if len(t.parts) == 1 && t.parts[0].term == nil {
		return t.parts[0].text, "", true
	}
	var b strings.Builder
	for i := range t.parts {
		p := &t.parts[i]
		if p.term == nil {
			b.WriteString(p.text)
			continue
		}
		s, ok := p.term.render(env)
		if !ok {
			return "", p.term.key(), false
		}
		b.WriteString(s)
	}
	return b.String(), "", true
}
