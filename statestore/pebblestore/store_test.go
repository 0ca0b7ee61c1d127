package pebblestore_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/pebblestore"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB, o statestore.Options) statestore.Store {
		s, err := pebblestore.Open("db", o, pebblestore.Options{FS: vfs.NewMem()})
		if err != nil {
			tb.Fatal(err)
		}
		return s
	})
}

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(tb testing.TB, o statestore.Options) statestore.Store {
		s, err := pebblestore.Open(tb.TempDir(), o, pebblestore.Options{})
		if err != nil {
			tb.Fatal(err)
		}
		return s
	})
}
