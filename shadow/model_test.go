package shadow_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"testing"

	"github.com/umbra-iot/umbra/shadow"
)

// The model is the protocol's merge and delta written for reading, on decoded JSON. A value is a
// map[string]any, or a leaf, which an array is here as well.

// leaf is a scalar or array and when it was written, in seconds.
type leaf struct {
	value any
	time  int64
}

func decodeJSON(t testing.TB, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v: %s", err, text)
	}
	return v
}

// modelMerge merges a patch into an object and returns the new one.
func modelMerge(cur map[string]any, patch map[string]any, now int64) map[string]any {
	out := map[string]any{}
	maps.Copy(out, cur)
	for k, p := range patch {
		obj, isObject := p.(map[string]any)
		old, wasObject := out[k].(map[string]any)
		switch {
		case p == nil:
			delete(out, k)
		case isObject && wasObject:
			out[k] = modelMerge(old, obj, now)
		case isObject:
			out[k] = modelMerge(nil, obj, now)
		default:
			out[k] = leaf{p, now}
		}
	}
	return out
}

// modelApply merges the state of a request.
func modelApply(cur map[string]any, state any, now int64) map[string]any {
	patch, ok := state.(map[string]any)
	if !ok {
		return map[string]any{}
	}
	out := modelMerge(cur, patch, now)
	for name, section := range out {
		if len(section.(map[string]any)) == 0 {
			delete(out, name)
		}
	}
	return out
}

// modelValues returns the values of a model without times.
func modelValues(v any) any {
	obj, ok := v.(map[string]any)
	if !ok {
		return v.(leaf).value
	}
	out := map[string]any{}
	for k, m := range obj {
		out[k] = modelValues(m)
	}
	return out
}

// modelMetadata returns the metadata of a model.
func modelMetadata(v any) any {
	obj, ok := v.(map[string]any)
	if !ok {
		l := v.(leaf)
		return stamps(l.value, l.time)
	}
	out := map[string]any{}
	for k, m := range obj {
		out[k] = modelMetadata(m)
	}
	return out
}

func stamps(v any, time int64) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = stamps(v[i], time)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			out[k] = stamps(v[k], time)
		}
		return out
	}
	return map[string]any{"timestamp": json.Number(fmt.Sprint(time))}
}

// modelDelta returns what of desired is missing or different in reported, nil for nothing.
func modelDelta(desired, reported map[string]any) map[string]any {
	out := map[string]any{}
	for k, d := range desired {
		r, present := reported[k]
		dObj, dOK := d.(map[string]any)
		rObj, rOK := r.(map[string]any)
		switch {
		case !present:
			out[k] = d
		case dOK && rOK:
			if sub := modelDelta(dObj, rObj); sub != nil {
				out[k] = sub
			}
		case dOK != rOK || !sameValue(d.(leaf).value, r.(leaf).value):
			out[k] = d
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// sameValue compares decoded JSON, numbers by value.
func sameValue(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		n, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, okX := new(big.Rat).SetString(string(a))
		y, okY := new(big.Rat).SetString(string(n))
		return okX && okY && x.Cmp(y) == 0
	case []any:
		l, ok := b.([]any)
		if !ok || len(a) != len(l) {
			return false
		}
		for i := range a {
			if !sameValue(a[i], l[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok || len(a) != len(m) {
			return false
		}
		for k := range a {
			v, present := m[k]
			if !present || !sameValue(a[k], v) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// checkDocument compares a document with its model by the answer to a get.
func checkDocument(t testing.TB, doc *shadow.Document, model map[string]any) {
	t.Helper()
	got := decodeJSON(t, doc.AppendGet(nil, 0, "")).(map[string]any)
	state := modelValues(model).(map[string]any)
	d, _ := model["desired"].(map[string]any)
	r, _ := model["reported"].(map[string]any)
	if delta := modelDelta(d, r); delta != nil {
		state["delta"] = modelValues(delta)
	}
	if !reflect.DeepEqual(got["state"], any(state)) {
		t.Errorf("state = %v, want %v", got["state"], state)
	}
	if want := modelMetadata(model); !reflect.DeepEqual(got["metadata"], want) {
		t.Errorf("metadata = %v, want %v", got["metadata"], want)
	}
}
