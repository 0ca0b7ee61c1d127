package shadow

import (
	"strconv"
	"unicode/utf8"
)

// Request is a parsed request document.
type Request struct {
	state      tree // of the member "state": an object of sections, or null
	nulls      bool // the state holds nulls
	token      string
	version    uint64
	hasVersion bool
}

// Token returns the clientToken as a JSON string with its quotes, "" when there is none.
func (r *Request) Token() string { return r.token }

// Version returns the version that the request insists on.
func (r *Request) Version() (v uint64, ok bool) { return r.version, r.hasVersion }

// State returns the request's state as compact JSON, nulls included. Do not change it.
func (r *Request) State() []byte { return r.state.text }

// ParseUpdate parses the payload of an update. Every refusal is an *[Error] (400, 413, 415); it
// carries the clientToken unless the payload is not JSON, too large or nested without end. When
// several things are wrong, the first in this order is reported: size, encoding, JSON, token, type of
// version, state, sections, unknown nodes, nulls in arrays, depth. ParseUpdate keeps no part of
// payload.
func ParseUpdate(payload []byte, lim Limits) (*Request, error) {
	lim = lim.WithDefaults()
	if len(payload) > lim.PayloadBytes {
		return nil, &Error{Code: 413, Message: msgTooLarge}
	}
	if !utf8.Valid(payload) {
		return nil, &Error{Code: 415, Message: msgEncoding}
	}
	p := newParser(payload)
	env, ok := p.parseEnvelope()
	if !ok {
		if p.tooDeep {
			return nil, depthError(lim)
		}
		return nil, p.err()
	}
	token, ok := env.validToken(lim)
	if !ok {
		return nil, &Error{Code: 400, Message: msgToken}
	}
	if err := p.checkState(&env, lim); err != nil {
		err.Token = token
		return nil, err
	}
	return &Request{
		state:      p.tree,
		nulls:      p.nulls,
		token:      token,
		version:    env.version,
		hasVersion: env.hasVersion,
	}, nil
}

// ParseToken returns the clientToken (a JSON string with quotes, or "") of a get or delete payload,
// whose other content is ignored. A token that an update would be refused for is ignored too.
func ParseToken(payload []byte, lim Limits) string {
	lim = lim.WithDefaults()
	if len(payload) == 0 || len(payload) > lim.PayloadBytes || !utf8.Valid(payload) {
		return ""
	}
	p := newParser(payload)
	env, ok := p.parseEnvelope()
	if !ok {
		return ""
	}
	token, _ := env.validToken(lim)
	return token
}

// envelope holds the members of a request besides its state.
type envelope struct {
	token                  string // as JSON, "" when absent; of any type
	version                uint64
	hasVersion, badVersion bool
}

// parseEnvelope reads a whole request. The parser's tree is then that of the state, or the zero tree.
func (p *parser) parseEnvelope() (env envelope, ok bool) {
	if p.peek() != '{' {
		return env, p.failHere("object")
	}
	p.pos++
	p.depth++
	more := p.peek() != '}'
	for more {
		if !p.parseEnvelopeMember(&env) {
			return env, false
		}
		switch p.peek() {
		case ',':
			p.pos++
		case '}':
			more = false
		default:
			return env, p.failHere("comma or brace")
		}
	}
	p.pos++
	if p.peek(); p.pos < len(p.in) {
		return env, p.fail("data after the document")
	}
	return env, true
}

func (p *parser) parseEnvelopeMember(env *envelope) bool {
	text, tape := len(p.text), len(p.tape)
	key, _, ok := p.parseKey()
	if !ok {
		return false
	}
	name := string(p.text[key : len(p.text)-1])
	p.text = p.text[:text]
	if name == "state" {
		p.text, p.tape = p.text[:0], p.tape[:0]
		p.deepest, p.nulls, p.nullInArray = 0, false, false
		return p.parseValue(0, 0)
	}
	deepest, nulls, nullInArray := p.deepest, p.nulls, p.nullInArray
	if !p.parseValue(uint32(text), 0) {
		return false
	}
	switch name {
	case "clientToken":
		env.token = string(p.text[text:])
	case "version":
		env.setVersion(p.text[text:])
	}
	p.text, p.tape = p.text[:text], p.tape[:tape]
	p.deepest, p.nulls, p.nullInArray = deepest, nulls, nullInArray
	return true
}

// validToken returns the token. A null counts as absent.
func (env *envelope) validToken(lim Limits) (token string, ok bool) {
	switch {
	case env.token == "" || env.token == "null":
		return "", true
	case env.token[0] != '"' || unquotedLen(env.token[1:len(env.token)-1]) > lim.TokenBytes:
		return "", false
	}
	return env.token, true
}

// setVersion takes a version as it is spelled. A null counts as absent.
func (env *envelope) setVersion(text []byte) {
	env.version, env.hasVersion, env.badVersion = 0, false, false
	if text[0] == 'n' {
		return
	}
	if text[0] == '-' || isDigit(text[0]) {
		env.version, env.hasVersion = parseDecimal(text).uint()
	}
	env.badVersion = !env.hasVersion
}

// checkState checks what parseEnvelope has read, but for the token.
func (p *parser) checkState(env *envelope, lim Limits) *Error {
	if env.badVersion {
		return &Error{Code: 400, Message: msgVersion}
	}
	if len(p.tape) == 0 {
		return &Error{Code: 400, Message: msgNoState}
	}
	switch p.tape[0].kind {
	case kindNull:
		return nil
	case kindObject:
	default:
		return &Error{Code: 400, Message: msgState}
	}
	if message := p.checkSections(); message != "" {
		return &Error{Code: 400, Message: message}
	}
	if p.nullInArray {
		return &Error{Code: 400, Message: msgJSON + ": null in an array"}
	}
	const above = 2 // the request itself and its state
	if p.deepest-above > lim.Depth {
		return depthError(lim)
	}
	return nil
}

// checkSections returns what is wrong with the members of a state, "" for nothing.
func (t *tree) checkSections() string {
	unknown := ""
	for i := uint32(1); i < t.tape[0].next; i = t.tape[i].next {
		fine := t.tape[i].kind == kindObject || t.tape[i].kind == kindNull
		switch key := string(t.key(i)); {
		case key == desired && !fine:
			return msgDesired
		case key == reported && !fine:
			return msgReported
		case key != desired && key != reported:
			unknown = msgUnknown
		}
	}
	return unknown
}

func depthError(lim Limits) *Error {
	return &Error{Code: 400, Message: msgDepth + strconv.Itoa(lim.Depth)}
}
