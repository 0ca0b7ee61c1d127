package shadow

// Limits bound what a request may ask for. Zero fields mean the default; the defaults are those of
// AWS ("AWS IoT Core endpoints and quotas", Device Shadow).
type Limits struct {
	DocumentBytes int // compact UTF-8 bytes of desired + reported after the merge; default 8192
	Depth         int // nested objects and arrays, empty ones too, the section being the first; default 8, at most 1000
	TokenBytes    int // UTF-8 bytes of the clientToken; default 64
	PayloadBytes  int // bytes of a request payload; default 128 KiB
}

// maxNesting bounds the nesting that the parser follows at all.
const maxNesting = 1024

// DefaultLimits returns the default of every limit.
func DefaultLimits() Limits {
	return Limits{DocumentBytes: 8192, Depth: 8, TokenBytes: 64, PayloadBytes: 128 << 10}
}

// WithDefaults returns the limits with the default for every field that is not positive.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	if l.DocumentBytes > 0 {
		d.DocumentBytes = l.DocumentBytes
	}
	if l.Depth > 0 {
		d.Depth = min(l.Depth, 1000)
	}
	if l.TokenBytes > 0 {
		d.TokenBytes = l.TokenBytes
	}
	if l.PayloadBytes > 0 {
		d.PayloadBytes = l.PayloadBytes
	}
	return d
}
