package things

import (
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
)

// Redo is the [statestore.Options.Redo] of shadows: it applies the updates of entries once more. An error means damage.
func Redo(base statestore.Record, entries []statestore.Entry) ([]byte, error) {
	doc, err := shadow.DecodeRecord(base.Version, base.Deleted, base.Body)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		e, err := shadow.DecodeHistory(entries[i].Version, entries[i].Body)
		if err != nil {
			return nil, err
		}
		if doc, err = e.Redo(doc); err != nil {
			return nil, err
		}
	}
	return doc.AppendRecord(nil), nil
}
