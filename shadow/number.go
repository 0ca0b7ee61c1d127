package shadow

import (
	"math"
	"strconv"
)

// decimal is the exact value of a JSON number: 0.DIGITS × 10^point, where DIGITS are those of high
// followed by those of low, without zeros at either end. Zero has no digits.
type decimal struct {
	negative  bool
	high, low []byte
	point     int64
}

// maxExponentDigits bounds exponents, so that they can be added without overflow.
const maxExponentDigits = 9

// parseDecimal takes a number apart. text must have passed scanNumber.
func parseDecimal(text []byte) decimal {
	var d decimal
	if text[0] == '-' {
		d.negative = true
		text = text[1:]
	}
	n := 0
	for n < len(text) && isDigit(text[n]) {
		n++
	}
	d.high, text = text[:n], text[n:]
	if len(text) > 0 && text[0] == '.' {
		n = 1
		for n < len(text) && isDigit(text[n]) {
			n++
		}
		d.low, text = text[1:n], text[n:]
	}
	if len(text) > 0 {
		d.point = parseExponent(text[1:])
	}
	d.trim()
	return d
}

func parseExponent(text []byte) int64 {
	sign := int64(1)
	if text[0] == '-' {
		sign = -1
	}
	if !isDigit(text[0]) {
		text = text[1:]
	}
	var v int64
	for _, c := range text {
		v = v*10 + int64(c-'0')
	}
	return sign * v
}

func (d *decimal) trim() {
	for len(d.high) > 0 && d.high[0] == '0' {
		d.high = d.high[1:]
	}
	d.point += int64(len(d.high))
	if len(d.high) == 0 {
		for len(d.low) > 0 && d.low[0] == '0' {
			d.low = d.low[1:]
			d.point--
		}
	}
	for len(d.low) > 0 && d.low[len(d.low)-1] == '0' {
		d.low = d.low[:len(d.low)-1]
	}
	if len(d.low) == 0 {
		for len(d.high) > 0 && d.high[len(d.high)-1] == '0' {
			d.high = d.high[:len(d.high)-1]
		}
	}
	if d.digits() == 0 {
		*d = decimal{}
	}
}

func (d *decimal) digits() int { return len(d.high) + len(d.low) }

func (d *decimal) digit(i int) byte {
	if i < len(d.high) {
		return d.high[i]
	}
	return d.low[i-len(d.high)]
}

func (d decimal) equal(o decimal) bool {
	if d.negative != o.negative || d.point != o.point || d.digits() != o.digits() {
		return false
	}
	for i := range d.digits() {
		if d.digit(i) != o.digit(i) {
			return false
		}
	}
	return true
}

// uint returns the value when it is an integer of 0 to 2^63-1.
func (d decimal) uint() (v uint64, ok bool) {
	if d.negative || d.point < int64(d.digits()) || d.point > 19 {
		return 0, false
	}
	for i := range int(d.point) {
		v *= 10
		if i < d.digits() {
			v += uint64(d.digit(i) - '0')
		}
	}
	return v, v <= math.MaxInt64
}

// inRange reports whether a number that passed scanNumber is one that readers can represent: not
// beyond float64, and with an exponent of at most maxExponentDigits.
func inRange(text []byte) bool {
	const surelyFine = 300
	exponent := -1
	for i, c := range text {
		if c == 'e' || c == 'E' {
			exponent = i + 1
			break
		}
	}
	if exponent < 0 && len(text) < surelyFine {
		return true
	}
	if exponent >= 0 {
		digits := text[exponent:]
		for len(digits) > 0 && (digits[0] < '1' || digits[0] > '9') {
			digits = digits[1:]
		}
		if len(digits) > maxExponentDigits {
			return false
		}
	}
	const maxPoint = 309 // of math.MaxFloat64
	d := parseDecimal(text)
	if d.point != maxPoint {
		return d.point < maxPoint
	}
	_, err := strconv.ParseFloat(string(text), 64)
	return err == nil
}

// scanNumber returns the length of the JSON number at the start of text, 0 when there is none.
func scanNumber(text []byte) int {
	n := 0
	if n < len(text) && text[n] == '-' {
		n++
	}
	start := n
	n += countDigits(text[n:])
	if n == start || text[start] == '0' && n > start+1 {
		return 0
	}
	if n < len(text) && text[n] == '.' {
		k := countDigits(text[n+1:])
		if k == 0 {
			return 0
		}
		n += 1 + k
	}
	if n < len(text) && (text[n] == 'e' || text[n] == 'E') {
		n++
		if n < len(text) && (text[n] == '+' || text[n] == '-') {
			n++
		}
		k := countDigits(text[n:])
		if k == 0 {
			return 0
		}
		n += k
	}
	return n
}

func countDigits(text []byte) int {
	n := 0
	for n < len(text) && isDigit(text[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
