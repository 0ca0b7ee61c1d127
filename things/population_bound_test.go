package things

import (
	"fmt"
	"testing"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
)

// Of many things the counts of some are forgotten, and never what is under way.
func TestCountsAreBounded(t *testing.T) {
	t.Parallel()
	p := newPopulation(1, memstore.New(statestore.Options{}))
	enter := func(thing, name string) bool {
		ok, err := p.enter(t.Context(), shadow.ID{Thing: thing, Name: name}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	enter("lamp", "a")
	for i := range maxCounts + 100 {
		id := shadow.ID{Thing: fmt.Sprintf("t%d", i)}
		enter(id.Thing, id.Name)
		p.settle(id, true)
	}
	if len(p.things) > maxCounts {
		t.Errorf("%d counts, want at most %d", len(p.things), maxCounts)
	}
	if enter("lamp", "b") {
		t.Error("the place of what is under way was given away")
	}
	p.forget(shadow.ID{Thing: "lamp", Name: "a"})
	if p.things["lamp"] != nil {
		t.Error("a count that says nothing is kept")
	}
}
