package policy_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/umbra-iot/umbra/internal/auth/policy"
)

// vector is a case of a file of vectors.
type vector struct {
	ID, Title, Action, Resource, Expect, Why string
	Policies                                 []json.RawMessage
	Context                                  struct {
		Protocol, ClientID, ThingName, ThingType, SourceIP, LastWillTopic string
		ThingAttached                                                     bool
		ThingAttributes                                                   map[string]string
		Certificate                                                       map[string]any
		ConnectAttributes                                                 []string
	}
}

// env is what the context of a vector says.
func (v *vector) env(t *testing.T, prefix string) *policy.Env {
	c := &v.Context
	e := &policy.Env{MQTT: c.Protocol != "https", ClientID: c.ClientID, ConnectAttributes: c.ConnectAttributes, Certificate: map[string][]string{}}
	if c.SourceIP != "" {
		e.SourceIP = netip.MustParseAddr(c.SourceIP)
	}
	if c.ThingName != "" {
		e.Thing = &policy.Thing{Name: c.ThingName, Type: c.ThingType, Attributes: c.ThingAttributes, Attached: c.ThingAttached}
	}
	if c.LastWillTopic != "" {
		e.LastWillTopic = prefix + "topic/" + c.LastWillTopic
	}
	flatten(t, e.Certificate, "", c.Certificate)
	return e
}

// flatten puts a tree of attributes into a map by their names with dots.
func flatten(t *testing.T, to map[string][]string, prefix string, tree map[string]any) {
	for name, v := range tree {
		switch v := v.(type) {
		case map[string]any:
			flatten(t, to, prefix+name+".", v)
		case []any:
			for _, one := range v {
				to[prefix+name] = append(to[prefix+name], fmt.Sprint(one))
			}
		case string:
			to[prefix+name] = []string{v}
		default:
			t.Fatalf("an attribute is %T", v)
		}
	}
}

// The vectors have the form of policies, a context, an action and a resource, and what is to come of them.
func TestVectors(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/vectors*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no file of vectors: %v", err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Account, Region string
			Vectors         []vector
		}
		if err := json.Unmarshal(src, &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(file.Vectors) == 0 {
			t.Errorf("%s has no vectors", name)
		}
		prefix := "arn:aws:iot:" + file.Region + ":" + file.Account + ":"
		for i := range file.Vectors {
			v := &file.Vectors[i]
			t.Run(v.ID+" "+v.Title, func(t *testing.T) { v.run(t, prefix) })
		}
	}
}

func (v *vector) run(t *testing.T, prefix string) {
	var policies []*policy.Policy
	for i, src := range v.Policies {
		p, err := policy.Parse(fmt.Sprint("policy", i), src)
		if err != nil {
			t.Logf("refused: %v", err)
			p = policy.Salvage(fmt.Sprint("policy", i), src)
		}
		policies = append(policies, p)
	}
	rights := policy.NewSet(policies, []string{v.Action}).Bind(v.env(t, prefix))
	why := rights.Explain(v.Action, v.Resource)
	allowed := rights.Allows(v.Action, []byte(v.Resource))
	if allowed != why.Allowed {
		t.Errorf("Allows = %t, Explain = %+v", allowed, why)
	}
	if got := map[bool]string{true: "allow", false: "deny"}[allowed]; got != v.Expect {
		t.Errorf("%s on %s: %s, want %s (%s): %+v", v.Action, v.Resource, got, v.Expect, v.Why, why)
	}
}
