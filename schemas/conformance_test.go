package schemas_test

import (
	"testing"

	"github.com/umbra-iot/umbra/internal/conformance"
)

// TestRequestsOfTheProtocol holds the schema of updates against the cases of the shadow protocol: it
// takes what has to be accepted, and nothing that is a bad request, sizes and depth aside.
func TestRequestsOfTheProtocol(t *testing.T) {
	t.Parallel()
	v := compile(t)
	cases, err := conformance.Load("../testdata/protocol/cases-public.json")
	if err != nil {
		t.Fatal(err)
	}
	var good, bad int
	for _, c := range cases {
		for _, step := range c.Steps {
			if step.Op != "update" {
				continue
			}
			payload, err := step.PayloadBytes()
			if err != nil {
				t.Fatal(err)
			}
			err = v.Validate("update-request", payload)
			switch {
			case step.Expect.Kind == "accepted":
				good++
				if err != nil {
					t.Errorf("%s: %.200s has to be accepted: %v", c.ID, payload, err)
				}
			case string(step.Expect.Code) == "400" && c.Area != "limit":
				bad++
				if err == nil {
					t.Errorf("%s: %.200s is valid, but a bad request", c.ID, payload)
				}
			}
		}
	}
	if good == 0 || bad == 0 {
		t.Errorf("%d requests accepted and %d refused, want some of each", good, bad)
	}
}
