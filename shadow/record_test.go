package shadow_test

import (
	"bytes"
	"testing"

	"github.com/umbra-iot/umbra/shadow"
)

func TestDecodeRecordDamage(t *testing.T) {
	t.Parallel()
	doc := apply(t, apply(t, nil, `{"desired":{"a":[1,2]}}`, 1_700_000_000_123).After, `{"reported":{"b":"x"}}`, 1_700_000_001_456).After
	record := doc.AppendRecord(nil)
	checkRecord(t, doc)
	for n := range record {
		if d, err := shadow.DecodeRecord(1, false, record[:n]); err == nil {
			t.Errorf("DecodeRecord(%q) = %s, want an error", record[:n], d.State())
		}
	}
	for _, damaged := range []string{
		"", "{}", "\x00{}", "\x02{}", "\x01", "\x01null", "\x01[]", "\x01{}\x00", "\x01{\"other\":{}}",
		"\x01{\"desired\":1}\x00", "\x01{\"desired\":null}", "\x01{\"desired\":{}}", "\x01{\"desired\":{\"a\":null}}",
		"\x01{\"desired\":{\"a\":1}}", "\x01{\"desired\":{\"a\":1}}\x00\x00", "\x01{\"desired\":{\"a\":\"\xff\"}}\x00",
		"\x01{\"desired\":{\"a\":1}}\xff",
	} {
		if _, err := shadow.DecodeRecord(1, false, []byte(damaged)); err == nil {
			t.Errorf("DecodeRecord(%q) = nil, want an error", damaged)
		}
	}
}

func TestRecordKeepsNothing(t *testing.T) {
	t.Parallel()
	record := apply(t, nil, `{"reported":{"key":"value"}}`, 1000).After.AppendRecord(nil)
	doc, err := shadow.DecodeRecord(4, true, record)
	if err != nil {
		t.Fatal(err)
	}
	clear(record)
	if got, want := string(doc.State()), `{"reported":{"key":"value"}}`; got != want || !doc.Deleted() || doc.Version() != 4 {
		t.Errorf("DecodeRecord = %s, deleted %t, version %d, want %s, true, 4", got, doc.Deleted(), doc.Version(), want)
	}
}

// TestRecordOfNothing holds tombstones and empty shadows to have a record.
func TestRecordOfNothing(t *testing.T) {
	t.Parallel()
	live := apply(t, nil, `{}`, 1000).After
	c, err := shadow.Delete(shadow.ID{Thing: "lamp"}, live, "", 2000)
	if err != nil {
		t.Fatal(err)
	}
	var none *shadow.Document
	for _, d := range []*shadow.Document{live, c.After, none} {
		if got, want := d.AppendRecord(nil), []byte("\x01{}"); !bytes.Equal(got, want) {
			t.Errorf("AppendRecord = %q, want %q", got, want)
		}
	}
	checkRecord(t, live)
	checkRecord(t, c.After)
}
