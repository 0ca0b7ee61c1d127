package shadow_test

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/shadow"
)

const benchTime = 1_700_000_000_000

// benchState returns sections with so many leaves, three levels deep, a third of them desired, whose
// text takes about 34 bytes a leaf.
func benchState(leaves int) string {
	section := func(leaves int) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range leaves {
			switch {
			case i%10 == 0 && i > 0:
				fmt.Fprintf(&b, `}},"group%02d":{"unit":{`, i/10)
			case i == 0:
				b.WriteString(`"group00":{"unit":{`)
			default:
				b.WriteByte(',')
			}
			switch i % 3 {
			case 0:
				fmt.Fprintf(&b, `"temperature-%03d":%d.%02d`, i, 20+i%10, i%100)
			case 1:
				fmt.Fprintf(&b, `"firmware-%03d":"v1.2.%d-stable-20260301"`, i, i)
			default:
				fmt.Fprintf(&b, `"enabled-always-%03d":%t`, i, i%2 == 0)
			}
		}
		b.WriteString(`}}}`)
		return b.String()
	}
	return `{"desired":` + section(leaves/3) + `,"reported":` + section(leaves-leaves/3) + `}`
}

// benchPatch changes three leaves of benchState, one of which is also desired.
const benchPatch = `{"state":{"reported":{"group00":{"unit":{"temperature-003":31.25,"firmware-004":"v1.3.0"}},` +
	`"group01":{"unit":{"enabled-always-011":true}}}},"clientToken":"426bfd96-e720-46d3-95cd-014e3ef12bb6"}`

func benchDocument(b *testing.B, leaves int) *shadow.Document {
	b.Helper()
	r, err := shadow.ParseUpdate([]byte(`{"state":`+benchState(leaves)+`}`), shadow.Limits{DocumentBytes: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	c, err := shadow.Apply(nil, r, benchTime-1000, shadow.Limits{DocumentBytes: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	return c.After
}

// cachedBytes is how much memory the documents of other shadows take while an update is measured. Beside an empty heap
// the collector would run after every few updates, as it never does in a service.
const cachedBytes = 32 << 20

// cachedDocuments returns what a service holds besides the document that changes.
func cachedDocuments(b *testing.B) []*shadow.Document {
	b.Helper()
	record := benchDocument(b, 30).AppendRecord(nil)
	var cache []*shadow.Document
	for size := 0; size < cachedBytes; {
		doc, err := shadow.DecodeRecord(1, false, record)
		if err != nil {
			b.Fatal(err)
		}
		size += doc.Size()
		cache = append(cache, doc)
	}
	return cache
}

// cpuTime returns the CPU time that this process has taken, which tells more than the time of the clock where other
// processes want the cores, too.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// The benchmarks of an update are all the work on documents that one makes: parse, merge, the three
// messages, the record and the history entry.
func BenchmarkUpdate1KB(b *testing.B) { benchmarkUpdate(b, 30) }

func BenchmarkUpdate8KB(b *testing.B) { benchmarkUpdate(b, 240) }

func benchmarkUpdate(b *testing.B, leaves int) {
	cache := cachedDocuments(b)
	doc := benchDocument(b, leaves)
	payload := []byte(benchPatch)
	var accepted, delta, documents, record, history []byte
	by := shadow.Author{Channel: "mqtt", ClientID: "lamp"}
	b.ReportAllocs()
	began := cpuTime(b)
	for b.Loop() {
		r, err := shadow.ParseUpdate(payload, shadow.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		c, err := shadow.Apply(doc, r, benchTime, shadow.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		accepted = c.AppendAccepted(accepted[:0])
		delta = c.AppendDelta(delta[:0])
		documents = c.AppendDocuments(documents[:0])
		record = c.After.AppendRecord(record[:0])
		history = c.AppendHistory(history[:0], by)
	}
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(len(doc.State())), "state-bytes")
	runtime.KeepAlive(cache)
	if len(accepted) == 0 || len(delta) == 0 || len(documents) == 0 || len(record) == 0 || len(history) == 0 {
		b.Fatal("a message is empty")
	}
}

// BenchmarkPart is what BenchmarkUpdate8KB is made of, and reading.
func BenchmarkPart(b *testing.B) {
	doc := benchDocument(b, 240)
	payload := []byte(benchPatch)
	r, err := shadow.ParseUpdate(payload, shadow.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	c, err := shadow.Apply(doc, r, benchTime, shadow.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	record := doc.AppendRecord(nil)
	var dst []byte
	parts := []struct {
		name string
		do   func()
	}{
		{"parse", func() { _, err = shadow.ParseUpdate(payload, shadow.Limits{}) }},
		{"apply", func() { _, err = shadow.Apply(doc, r, benchTime, shadow.Limits{}) }},
		{"accepted", func() { dst = c.AppendAccepted(dst[:0]) }},
		{"delta", func() { dst = c.AppendDelta(dst[:0]) }},
		{"documents", func() { dst = c.AppendDocuments(dst[:0]) }},
		{"record", func() { dst = c.After.AppendRecord(dst[:0]) }},
		{"history", func() { dst = c.AppendHistory(dst[:0], shadow.Author{Channel: "mqtt"}) }},
		{"get", func() { dst = c.After.AppendGet(dst[:0], benchTime, "") }},
		{"decode", func() { _, err = shadow.DecodeRecord(1, false, record) }},
	}
	for _, p := range parts {
		b.Run(p.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.do()
			}
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkParseWhole parses a whole 8 KB document.
func BenchmarkParseWhole(b *testing.B) {
	payload := []byte(`{"state":` + benchState(240) + `}`)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := shadow.ParseUpdate(payload, shadow.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseTopic(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := shadow.ParseTopic("$aws/things/lamp-0001/shadow/name/config/update"); !ok {
			b.Fatal("ParseTopic failed")
		}
	}
}
