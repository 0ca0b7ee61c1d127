package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/auth/policy"
)

func TestDoubts(t *testing.T) {
	t.Parallel()
	known := policy.Known{Actions: []string{"iot:Connect", "iot:Publish"}, Attributes: []string{"Subject.CommonName"}}
	for rest, want := range map[string]string{ // parts of the doubts, with spaces between them
		`"Action": ["iot:Connect", "IOT:publish", "iot:*", "iot:C?nnect", "*"], "Resource": "*"`:                                                                "",
		`"Action": "iot:Conect", "Resource": "*"`:                                                                                                               "iot:Conect",
		`"NotAction": ["iot:Conect", "iot:Publishes*"], "Resource": "*"`:                                                                                        "iot:Conect iot:Publishes*",
		`"Action": "*", "Resource": "arn:aws:iot:*:*:topic/${iot:ClientId}/${iot:Connection.Thing.Attributes[any]}/${iot:Certificate.Subject.CommonName.4}"`:    "",
		`"Action": "*", "Resource": "arn:aws:iot:*:*:topic/${iot:ClintId}/${iot:Connection.Thing.Name}/${iot:Certificate.Subject.CN}"`:                          "iot:clintid iot:connection.thing.name iot:certificate.subject.cn",
		`"Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:securetransport": "true"}, "ForAnyValue:StringEquals": {"iot:ConnectAttributes": "a"}}`:    "",
		`"Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransprot": "true"}, "StringEquals": {"iot:Certificate.Subject.CommonName.5": "a"}}`: "aws:SecureTransprot iot:Certificate.Subject.CommonName.5",
		`"Action": "*", "Resource": "*", "Condition": {"StringEquals": {"iot:ClientId": ["${umbra:Name}", "${umbra:Nam}"]}}`:                                    "umbra:nam",
		`"Action": "*", "Resource": "*", "Condition": {"ArnLike": {"iot:LastWillTopic": "arn:aws:iot:*:*:topic/${umbra:Nam}"}}`:                                 "umbra:nam",
		`"Action": "*", "Resource": "*", "Condition": {"StringEquals": {"umbra:Groups": "a", "aws:CurrentTime": "x", "iot:CertificateId": "x"}}`:                "",
	} {
		src := []byte("{\"Version\": \"2012-10-17\",\n\"Statement\": {\"Effect\": \"Deny\", " + rest + "}}")
		if _, err := policy.Parse("p", src); err != nil {
			t.Fatal(err)
		}
		got := policy.Doubts(src, known)
		if len(got) != len(strings.Fields(want)) {
			t.Errorf("%s: doubts %q, want those of %q", rest, got, want)
			continue
		}
		for i, part := range strings.Fields(want) {
			if !strings.Contains(got[i], part) || !strings.HasPrefix(got[i], "line 2, column ") {
				t.Errorf("%s: doubt %q, want one of %s", rest, got[i], part)
			}
		}
		if slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "policy: ") }) {
			t.Errorf("doubts %q", got)
		}
	}
}
