package mapping

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/shadow"
)

// form is how a payload, or a value in it, is read.
type form uint8

const (
	asDefault form = iota
	asJSON
	asString
	asNumber
	asBool
	asAuto
	asRaw
	asHex
	asSparkplug
)

func parseForm(s string) (form, bool) {
	switch s {
	case "json":
		return asJSON, true
	case "string":
		return asString, true
	case "number":
		return asNumber, true
	case "bool":
		return asBool, true
	case "auto":
		return asAuto, true
	case "raw":
		return asRaw, true
	case "hex":
		return asHex, true
	case codecSparkplug:
		return asSparkplug, true
	}
	return asDefault, false
}

// payloadDepth is how deep payloads may be nested; what reaches a document is bounded more tightly there.
var jsonLimits = shadow.Limits{PayloadBytes: math.MaxInt32} //nolint:gochecknoglobals // a constant of a struct type

// literal makes a value of JSON text that is known to be valid.
func literal(text []byte) shadow.Value {
	v, err := shadow.ParseValue(text, jsonLimits)
	if err != nil {
		return shadow.Value{}
	}
	return v
}

func stringValue(s string) shadow.Value {
	return literal(shadow.AppendString(nil, strings.ToValidUTF8(s, "\ufffd")))
}

// decode reads a payload.
func decode(f form, payload []byte) (shadow.Value, *refusal) {
	switch f {
	case asRaw:
		return literal(strconv.AppendQuote(nil, base64.StdEncoding.EncodeToString(payload))), nil
	case asHex:
		return literal(strconv.AppendQuote(nil, hex.EncodeToString(payload))), nil
	case asJSON:
		return decodeJSON(payload)
	case asNumber:
		return decodeNumber(string(payload))
	case asDefault, asString, asBool, asAuto, asSparkplug:
	}
	if len(payload) == 1 && payload[0] == 0 {
		payload = nil
	}
	if !utf8.Valid(payload) {
		return shadow.Value{}, refuse(CodeDecode, "the payload is not UTF-8")
	}
	switch f {
	case asBool:
		return decodeBool(string(payload))
	case asAuto, asDefault:
		return decodeAuto(payload), nil
	case asString, asJSON, asNumber, asRaw, asHex, asSparkplug:
	}
	return literal(shadow.AppendString(nil, string(payload))), nil
}

func decodeJSON(payload []byte) (shadow.Value, *refusal) {
	v, err := shadow.ParseValue(payload, jsonLimits)
	if err != nil {
		text := err.Error()
		if e, ok := errors.AsType[*shadow.Error](err); ok {
			text = e.Message
		}
		return shadow.Value{}, refuse(CodeDecode, "%s", text)
	}
	return v, nil
}

// decodeNumber reads a number with blanks around it and a trailing NUL, as C programs send it; what
// is no number in JSON (nan) is null.
func decodeNumber(text string) (shadow.Value, *refusal) {
	text = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "\x00"))
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || strings.ContainsAny(text, "xX_pP") {
		return shadow.Value{}, refuse(CodeDecode, "%.40q is not a number", text)
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return literal([]byte("null")), nil
	}
	if v, err := shadow.ParseValue([]byte(text), jsonLimits); err == nil && v.IsNumber() {
		return v, nil
	}
	return numberValue(f), nil
}

func numberValue(f float64) shadow.Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return literal([]byte("null"))
	}
	return literal(appendNumber(nil, f))
}

// appendNumber writes a number without exponent where that is not long.
func appendNumber(dst []byte, f float64) []byte {
	if f == 0 {
		return append(dst, '0') // and not -0
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

func decodeBool(text string) (shadow.Value, *refusal) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "1", "on", "yes":
		return literal([]byte("true")), nil
	case "false", "0", "off", "no":
		return literal([]byte("false")), nil
	}
	return shadow.Value{}, refuse(CodeDecode, "%.40q is not a bool", text)
}

// decodeAuto takes true, false, numbers, objects and arrays for what they are, everything else for a string.
func decodeAuto(payload []byte) shadow.Value {
	if len(payload) > 0 {
		switch c := payload[0]; {
		case c == '{' || c == '[' || c == 't' || c == 'f' || c == '-' || '0' <= c && c <= '9':
			if v, err := shadow.ParseValue(payload, jsonLimits); err == nil {
				return v
			}
		}
	}
	return literal(shadow.AppendString(nil, string(payload)))
}

// reform reads a JSON value as another form: of a string its characters, of everything else its text.
func reform(f form, v shadow.Value) (shadow.Value, *refusal) {
	switch f {
	case asDefault, asJSON:
		if f == asJSON && v.IsString() {
			return decodeJSON([]byte(v.Text()))
		}
		return v, nil
	case asString, asNumber, asBool, asAuto, asRaw, asHex, asSparkplug:
	}
	if v.IsNull() {
		return v, nil
	}
	if v.IsObject() || v.IsArray() {
		if f == asAuto {
			return v, nil
		}
		return shadow.Value{}, refuse(CodeType, "an object or array is not a scalar")
	}
	out, bad := decode(f, []byte(v.Text()))
	if bad != nil {
		bad.code = CodeType
	}
	return out, bad
}
