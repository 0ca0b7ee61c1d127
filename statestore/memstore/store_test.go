package memstore_test

import (
	"testing"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

func open(_ testing.TB, o statestore.Options) statestore.Store { return memstore.New(o) }

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, open)
}

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }
