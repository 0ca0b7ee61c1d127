package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/broker/mapping"
)

// The work to find the rules for a topic does not grow with the number of rules.
func TestMatchingIsFlat(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 10, 1000} {
		rules, nodes := manySet(t, n).Candidates("plant0/dev/state")
		if rules != 2 || nodes != 4 {
			t.Errorf("of %d mappings the index finds %d rules in %d nodes, want 2 in 4", n, rules, nodes)
		}
	}
}

// manySet is a set of n mappings with two rules each.
func manySet(tb testing.TB, n int) *mapping.Set {
	tb.Helper()
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "---\nversion: 1\nmapping: plant%d\nthing: \"{dev}\"\nshadow: \"s%d\"\nreport:\n"+
			"  - {topic: \"plant%d/{dev}/#\", when: {a: 1}, to: a}\n  - {topic: \"plant%d/{dev}/state\", to: v}\n", i, i, i, i)
	}
	list, _, err := mapping.Load("many", []byte(text.String()))
	if err != nil {
		tb.Fatal(err)
	}
	set, _, err := mapping.NewSet(list)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// BenchmarkPrepare finds the rules for a message among many.
func BenchmarkPrepare(b *testing.B) {
	for _, n := range []int{1, 10, 100, 500} {
		b.Run(fmt.Sprintf("rules=%d", 2*n), func(b *testing.B) {
			set := manySet(b, n)
			m := mapping.Message{Topic: "plant0/dev/state", Payload: []byte("1")}
			b.ReportAllocs()
			for b.Loop() {
				if set.Prepare(m) == nil {
					b.Fatal("no rule")
				}
			}
		})
	}
}
