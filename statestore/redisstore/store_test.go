package redisstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/redisstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

// opener opens stores that are empty because each has a key prefix of its own.
func opener(url string) storetest.Open {
	var n atomic.Int64
	return func(tb testing.TB, o statestore.Options) statestore.Store {
		s, err := redisstore.Open(tb.Context(), url, o, redisstore.Options{Prefix: fmt.Sprint("test", n.Add(1))})
		if err != nil {
			tb.Fatal(err)
		}
		return s
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, opener(storetest.Redis(t).URL))
}

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, opener(storetest.Redis(b, "--appendfsync", "everysec").URL))
}
