package mapping_test

import (
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/umbra-iot/umbra/broker/mapping"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ form, payload, want string }{
		{"number", " 21.50\x00", "21.50"},
		{"number", "+5", "5"},
		{"number", ".5", "0.5"},
		{"number", "nan", "null"},
		{"number", "-inf", "null"},
		{"number", "0x10", "error"},
		{"number", "warm", "error"},
		{"number", "", "error"},
		{"auto", "true", "true"},
		{"auto", "21.50", "21.50"},
		{"auto", "007", `"007"`},
		{"auto", "100,100", `"100,100"`},
		{"auto", `{"a":1}`, `{"a":1}`},
		{"auto", "null", `"null"`},
		{"auto", "nan", `"nan"`},
		{"auto", "\x00", `""`},
		{"string", "\x00", `""`},
		{"string", "a\"b", `"a\"b"`},
		{"string", "\xff", "error"},
		{"bool", "ON", "true"},
		{"bool", "maybe", "error"},
		{"raw", "\x00\x01\xff", `"AAH/"`},
		{"hex", "\x00\x01\xff", `"0001ff"`},
		{"json", `{"a":1,"a":2}`, `{"a":2}`},
		{"json", "nan", "error"},
	} {
		got, err := mapping.Decode(c.form, []byte(c.payload))
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("Decode(%s, %q) = %s, want %s", c.form, c.payload, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, form := range []string{"json", "string", "number", "bool", "auto", "raw", "hex", "sparkplug_b"} {
		f.Add(form, []byte(`{"a":[1,"x"]}`))
		f.Add(form, []byte("21.5"))
	}
	b, err := hex.DecodeString("089f94d7a5a03412150a08496e707574732f41189f94d7a5a034200b7000")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("sparkplug_b", b)
	f.Fuzz(func(t *testing.T, form string, payload []byte) {
		got, err := mapping.Decode(form, payload)
		if err == nil && !json.Valid([]byte(got)) {
			t.Fatalf("Decode(%s, %q) = %q, which is not JSON", form, payload, got)
		}
	})
}
