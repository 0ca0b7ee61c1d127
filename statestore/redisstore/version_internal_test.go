package redisstore

import "testing"

func TestTooOld(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"5.0.14": true, "6.0.16": true, "6.2.0": false, "7.0.15": false, "10.1": false, unknown: false, "7": false, "": false,
	} {
		if got := (Durability{Version: version}).tooOld(); got != want {
			t.Errorf("tooOld() of %q = %t, want %t", version, got, want)
		}
	}
}
