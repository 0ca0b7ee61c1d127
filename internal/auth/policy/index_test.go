package policy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/auth/policy"
)

// TestIndex has policies of many statements made up, and compares what Allows finds by the index with what Explain, which
// tries one statement after the other, says. Texts are short and of few characters, colons, wildcards and variables among
// them, so that many of them begin alike and match.
func TestIndex(t *testing.T) {
	t.Parallel()
	const policies, questions = 300, 60
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	word := func(from string) string {
		var b strings.Builder
		for range r.IntN(5) {
			b.WriteByte(from[r.IntN(len(from))])
		}
		return strings.NewReplacer("V", "${iot:ClientId}", "N", "${iot:Connection.Thing.ThingTypeName}", "D", "${aws:username, 'b:'}").Replace(b.String())
	}
	heads := []string{arn, "arn:aws:iot:*:*:", "arn:aws:iot:*:", "arn:*:", "arn:aws:iot:us-east-1:??????????12:", "arn:aws:iot:*:*:*:", "*:", "arn:aws:i*:topic"}
	resource := func() string { return heads[r.IntN(len(heads))] + "topic/" + word("ab/:*?VND") }
	allowed := 0
	for range policies {
		list := make([]map[string]any, 1+r.IntN(30))
		for i := range list {
			list[i] = map[string]any{
				"Effect": []string{"Allow", "Allow", "Allow", "Deny"}[r.IntN(4)], "Action": []string{"iot:Publish", "iot:*", "iot:Receive"}[r.IntN(3)],
			}
			of := []string{"Resource", "Resource", "Resource", "Resource", "NotResource"}[r.IntN(5)]
			if list[i]["Effect"] == "Allow" && of == "NotResource" && r.IntN(4) > 0 {
				of = "Resource"
			}
			list[i][of] = []string{resource(), resource()}[:1+r.IntN(2)]
			if r.IntN(4) == 0 {
				list[i]["Condition"] = map[string]any{"Bool": map[string]any{"aws:SecureTransport": fmt.Sprint(r.IntN(2) == 0)}}
			}
		}
		doc, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": list})
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Parse("p", doc)
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		e := env()
		e.ClientID = word("ab/:")
		rights := policy.NewSet([]*policy.Policy{p}, []string{"iot:Publish", "iot:Receive"}).Bind(e)
		for range questions {
			name := []string{
				arn + "topic/" + word("ab/:"), arn + "topic/" + word("ab/"), arn + word("ab/") + ":topic/" + word("ab/:"), "*", "arn:aws:iot", arn,
			}[r.IntN(6)]
			action := []string{"iot:Publish", "iot:Receive"}[r.IntN(2)]
			got, want := rights.Allows(action, []byte(name)), rights.Explain(action, name)
			if got != want.Allowed {
				t.Fatalf("%s on %s of %s: Allows = %t, Explain = %+v", action, name, doc, got, want)
			}
			if got {
				allowed++
			}
		}
	}
	if few := policies * questions / 20; allowed < few || allowed > policies*questions-few {
		t.Errorf("%d of %d questions are answered with yes: the test tells little", allowed, policies*questions)
	}
}
