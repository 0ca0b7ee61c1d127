package mapping

import (
	"errors"
	"fmt"
	"strings"
)

// token is text, or a capture when it has a name.
type token struct {
	text  string
	name  string
	multi bool
	expr  string
}

// tokenize takes a level apart: text and {name}, {name+}, {name:expression}.
func tokenize(part string) ([]token, error) {
	var tokens []token
	for part != "" {
		open := strings.IndexByte(part, '{')
		if open != 0 {
			if open < 0 {
				open = len(part)
			}
			tokens = append(tokens, token{text: part[:open]})
			part = part[open:]
			continue
		}
		end := closing(part)
		if end < 0 {
			return nil, errors.New("a brace is not closed")
		}
		t, err := parseCapture(part[1:end])
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		part = part[end+1:]
	}
	return tokens, nil
}

// closing returns where the brace at the start of text is closed, -1 when it is not.
func closing(text string) int {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			depth++
		case '}':
			depth--
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

func parseCapture(inner string) (token, error) {
	name, expr, hasExpr := strings.Cut(inner, ":")
	multi := strings.HasSuffix(name, "+")
	name = strings.TrimSuffix(name, "+")
	if !isName(name) {
		return token{}, fmt.Errorf("{%s} does not begin with a name of letters, digits and _", inner)
	}
	if hasExpr && expr == "" {
		return token{}, fmt.Errorf("{%s} has an empty expression", inner)
	}
	return token{name: name, multi: multi, expr: expr}, nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
