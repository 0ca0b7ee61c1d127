package things_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/things"
)

// accepted is a Publisher with a subscriber on update/accepted only.
type accepted struct{}

func (accepted) Flush(context.Context) error { return nil }

func (accepted) Publish(m *things.Message) {
	if m.Kind == shadow.KindAccepted {
		_ = m.Payload()
	}
}

// BenchmarkUpdate is a whole update of a 1 KB document without network and disk.
func BenchmarkUpdate(b *testing.B) {
	for _, inFlight := range []int{1, 64} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			s := things.New(things.Options{Store: memstore.New(statestore.Options{}), Publisher: accepted{}, NamedShadows: 1000})
			ids := make([]shadow.ID, 200)
			for i := range ids {
				ids[i] = shadow.ID{Thing: fmt.Sprintf("thing-%d", i)}
				s.Submit(things.Request{ID: ids[i], Op: shadow.OpUpdate, Payload: document(30)}, func(*things.Result) {})
			}
			window := make(chan struct{}, inFlight)
			var wg sync.WaitGroup
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				window <- struct{}{}
				wg.Add(1)
				payload := fmt.Appendf(nil, `{"state":{"reported":{"g1":{"k1":%d,"k2":%d},"g2":{"k3":%d}}},"clientToken":"t"}`, i, i+1, i+2)
				s.Submit(things.Request{ID: ids[i%len(ids)], Op: shadow.OpUpdate, Payload: payload}, func(*things.Result) {
					<-window
					wg.Done()
				})
			}
			wg.Wait()
		})
	}
}

// document is an update with n keys in groups of ten.
func document(n int) []byte {
	doc := []byte(`{"state":{"reported":{`)
	for i := range n {
		if i%10 == 0 {
			if i > 0 {
				doc = append(doc, "},"...)
			}
			doc = fmt.Appendf(doc, `"g%d":{`, i/10)
		} else {
			doc = append(doc, ',')
		}
		doc = fmt.Appendf(doc, `"k%d":"a value of some length %d"`, i%10, i)
	}
	return append(doc, "}}}}"...)
}
