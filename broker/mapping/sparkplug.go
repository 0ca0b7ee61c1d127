package mapping

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/shadow"
)

// codecSparkplug names the payload format of Eclipse Sparkplug B (Protocol Buffers; specification
// chapter 6, "Payloads").
const codecSparkplug = "sparkplug_b"

// Data types of metrics.
const (
	typeInt8     = 1
	typeInt16    = 2
	typeInt32    = 3
	typeInt64    = 4
	typeUInt8    = 5
	typeUInt64   = 8
	typeFloat    = 9
	typeDouble   = 10
	typeBoolean  = 11
	typeString   = 12
	typeDateTime = 13
	typeText     = 14
	typeUUID     = 15
)

// wire types of Protocol Buffers.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// metric is one metric of a payload. Its value is JSON.
type metric struct {
	name     string
	alias    uint64
	hasAlias bool
	datatype uint64
	value    []byte // nil when there is none that has a JSON form
	null     bool
}

// protoField is one field of a message.
type protoField struct {
	number   uint64
	wire     uint64
	number64 uint64 // of varints and fixed values
	bytes    []byte
}

// nextField reads a field; ok is false for bytes that are no message.
func nextField(b []byte) (f protoField, rest []byte, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 {
		return f, nil, false
	}
	b = b[n:]
	f.number, f.wire = tag>>3, tag&7
	switch f.wire {
	case wireVarint:
		f.number64, n = binary.Uvarint(b)
		if n <= 0 {
			return f, nil, false
		}
		return f, b[n:], true
	case wireFixed64:
		if len(b) < 8 {
			return f, nil, false
		}
		f.number64 = binary.LittleEndian.Uint64(b)
		return f, b[8:], true
	case wireFixed32:
		if len(b) < 4 {
			return f, nil, false
		}
		f.number64 = uint64(binary.LittleEndian.Uint32(b))
		return f, b[4:], true
	case wireBytes:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return f, nil, false
		}
		f.bytes = b[n : n+int(size)] //nolint:gosec // bounded by len(b)
		return f, b[n+int(size):], true
	}
	return f, nil, false
}

// decodeMetrics reads the metrics of a Sparkplug B payload.
func decodeMetrics(payload []byte) ([]metric, *refusal) {
	var out []metric
	for rest := payload; len(rest) > 0; {
		f, r, ok := nextField(rest)
		if !ok {
			return nil, refuse(CodeDecode, "the payload is not Sparkplug B")
		}
		rest = r
		if f.number != 2 || f.wire != wireBytes {
			continue
		}
		m, ok := decodeMetric(f.bytes)
		if !ok {
			return nil, refuse(CodeDecode, "a metric of the payload is not Sparkplug B")
		}
		out = append(out, m)
	}
	return out, nil
}

func decodeMetric(b []byte) (m metric, ok bool) {
	var value protoField
	for len(b) > 0 {
		f, rest, ok := nextField(b)
		if !ok {
			return m, false
		}
		b = rest
		switch f.number {
		case 1:
			if !utf8.Valid(f.bytes) {
				return m, false
			}
			m.name = string(f.bytes)
		case 2:
			m.alias, m.hasAlias = f.number64, true
		case 4:
			m.datatype = f.number64
		case 7:
			m.null = f.number64 != 0
		case 10, 11, 12, 13, 14, 15, 16:
			value = f
		}
	}
	if m.null {
		m.value = []byte("null")
		return m, true
	}
	m.value, ok = metricValue(value, m.datatype)
	return m, ok
}

// metricValue returns the JSON of a value field. Data sets and templates have none.
func metricValue(f protoField, datatype uint64) ([]byte, bool) {
	switch f.number {
	case 10, 11:
		if datatype >= typeInt8 && datatype <= typeInt64 {
			return strconv.AppendInt(nil, signed(f, datatype), 10), true
		}
		return strconv.AppendUint(nil, f.number64, 10), true
	case 12:
		return numberValue(float64(math.Float32frombits(uint32(f.number64)))).Raw(), true //nolint:gosec // fixed32
	case 13:
		return numberValue(math.Float64frombits(f.number64)).Raw(), true
	case 14:
		return strconv.AppendBool(nil, f.number64 != 0), true
	case 15:
		if !utf8.Valid(f.bytes) {
			return nil, false
		}
		return shadow.AppendString(nil, string(f.bytes)), true
	case 16:
		return strconv.AppendQuote(nil, base64.StdEncoding.EncodeToString(f.bytes)), true
	}
	return nil, true
}

// signed reads a signed integer, which is sent as its two's complement of 32 or 64 bits.
func signed(f protoField, datatype uint64) int64 {
	if f.number == 11 {
		return int64(f.number64) //nolint:gosec // two's complement
	}
	switch datatype {
	case typeInt8:
		return int64(int8(f.number64)) //nolint:gosec // two's complement
	case typeInt16:
		return int64(int16(f.number64)) //nolint:gosec // two's complement
	}
	return int64(int32(f.number64)) //nolint:gosec // two's complement
}

// births is what the births of a device said about its metrics: data messages may name them by
// alias only, and commands need their types.
type births struct {
	Names map[uint64]string `json:"names,omitempty"`
	Types map[string]uint64 `json:"types,omitempty"`
	BdSeq *int64            `json:"bdseq,omitempty"`
}

const bdSeq = "bdSeq"

// maxMetrics bounds the metrics that a device may give names to.
const maxMetrics = 10_000

// learn notes what the metrics of a message say, and puts names in where they have an alias only.
func (b *births) learn(metrics []metric) *refusal {
	if b.Names == nil {
		b.Names, b.Types = map[uint64]string{}, map[string]uint64{}
	}
	for i := range metrics {
		m := &metrics[i]
		if m.name == "" {
			m.name = b.Names[m.alias]
			if !m.hasAlias || m.name == "" {
				return refuse(CodeDecode, "a metric has the alias %d, which no birth has named", m.alias)
			}
			continue
		}
		if len(b.Types) >= maxMetrics {
			return refuse(CodeDocLimit, "the device has more than %d metrics", maxMetrics)
		}
		if m.hasAlias {
			b.Names[m.alias] = m.name
		}
		if m.datatype != 0 {
			b.Types[m.name] = m.datatype
		}
	}
	return nil
}

// sequence returns the value of bdSeq.
func sequence(metrics []metric) (int64, bool) {
	for _, m := range metrics {
		if m.name == bdSeq {
			n, err := strconv.ParseInt(string(m.value), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// metricsValue is the JSON form of metrics: {"metrics":[{"name":...,"value":...}]}.
func metricsValue(metrics []metric) shadow.Value {
	out := []byte(`{"metrics":[`)
	n := 0
	for _, m := range metrics {
		if m.value == nil {
			continue
		}
		if n > 0 {
			out = append(out, ',')
		}
		n++
		out = append(out, `{"name":`...)
		out = shadow.AppendString(out, m.name)
		out = append(out, `,"value":`...)
		out = append(append(out, m.value...), '}')
	}
	return literal(append(out, "]}"...))
}

// skipped reports whether a metric is one that the rule skips: by its name, or, with a slash at the
// end, by what its name begins with.
func skipped(name string, skip []string) bool {
	for _, s := range skip {
		if name == s || strings.HasSuffix(s, "/") && strings.HasPrefix(name, s) {
			return true
		}
	}
	return false
}

// encodeMetrics writes a command: each leaf is a metric whose name is its path.
func encodeMetrics(leaves []*leaf, base int, b *births, now int64) ([]byte, *refusal) {
	out := binary.AppendUvarint([]byte{1 << 3}, uint64(now)) //nolint:gosec // a time is positive
	for _, l := range leaves {
		name := strings.Join(l.path[min(base, len(l.path)):], "/")
		var datatype uint64
		if b != nil {
			datatype = b.Types[name]
		}
		m, bad := encodeMetric(name, literal(l.desired), datatype, now)
		if bad != nil {
			return nil, bad
		}
		out = append(out, 2<<3|wireBytes)
		out = binary.AppendUvarint(out, uint64(len(m)))
		out = append(out, m...)
	}
	return out, nil
}

func encodeMetric(name string, v shadow.Value, datatype uint64, now int64) ([]byte, *refusal) {
	if datatype == 0 {
		datatype = guessType(v)
	}
	m := append([]byte{1<<3 | wireBytes}, binary.AppendUvarint(nil, uint64(len(name)))...)
	m = append(m, name...)
	m = binary.AppendUvarint(append(m, 3<<3), uint64(now)) //nolint:gosec // a time is positive
	m = binary.AppendUvarint(append(m, 4<<3), datatype)
	f, isNumber := v.Float()
	b, isBool := v.Bool()
	switch {
	case datatype == typeBoolean && isBool:
		n := byte(0)
		if b {
			n = 1
		}
		return append(m, 14<<3, n), nil
	case datatype == typeFloat && isNumber:
		return binary.LittleEndian.AppendUint32(append(m, 12<<3|wireFixed32), math.Float32bits(float32(f))), nil
	case datatype == typeDouble && isNumber:
		return binary.LittleEndian.AppendUint64(append(m, 13<<3|wireFixed64), math.Float64bits(f)), nil
	case (datatype == typeString || datatype == typeText || datatype == typeUUID) && v.IsString():
		m = binary.AppendUvarint(append(m, 15<<3|wireBytes), uint64(len(v.Text())))
		return append(m, v.Text()...), nil
	case (datatype >= typeInt8 && datatype <= typeUInt64 || datatype == typeDateTime) && isNumber && f == math.Trunc(f):
		return appendInteger(m, v, datatype)
	}
	return nil, refuse(CodeEncode, "%s: %.60q is no value of data type %d", name, v.Text(), datatype)
}

func appendInteger(m []byte, v shadow.Value, datatype uint64) ([]byte, *refusal) {
	u, err := strconv.ParseUint(v.Text(), 10, 64)
	if err != nil {
		i, err := strconv.ParseInt(v.Text(), 10, 64)
		if err != nil {
			return nil, refuse(CodeEncode, "%.60q is no integer", v.Text())
		}
		u = uint64(i) //nolint:gosec // two's complement
	}
	if datatype == typeInt64 || datatype == typeUInt64 || datatype == typeDateTime {
		return binary.AppendUvarint(append(m, 11<<3), u), nil
	}
	return binary.AppendUvarint(append(m, 10<<3), u&math.MaxUint32), nil
}

// guessType is the data type of a metric that no birth has named.
func guessType(v shadow.Value) uint64 {
	if _, ok := v.Bool(); ok {
		return typeBoolean
	}
	if f, ok := v.Float(); ok {
		if f == math.Trunc(f) {
			return typeInt64
		}
		return typeDouble
	}
	return typeString
}

// DecodeSparkplug returns a Sparkplug B payload as JSON: {"metrics": [{"name": ..., "value": ...}]}.
func DecodeSparkplug(payload []byte) (shadow.Value, error) {
	metrics, bad := decodeMetrics(payload)
	if bad != nil {
		return shadow.Value{}, errors.New(bad.text)
	}
	return metricsValue(metrics), nil
}
