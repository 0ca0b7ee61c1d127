package rest

import "testing"

// Every operation has said what it asks for.
func TestEveryRouteHasANeed(t *testing.T) {
	t.Parallel()
	for _, rt := range Routes() {
		if _, ok := needOf(rt.Method, rt.Pattern); !ok {
			t.Errorf("%s %s has no need", rt.Method, rt.Pattern)
		}
	}
}
