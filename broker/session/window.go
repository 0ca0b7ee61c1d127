package session

// flight is a delivery that has an identifier and is not acknowledged to the end.
type flight struct {
	held
	after      uint64 // number of the Drain that has to be stored before it may be sent, 0 for none
	id         uint16 // packet identifier; 0: this slot is free
	prev, next uint16 // identifiers of its neighbours in the order of sending, 0 for none
	sent       bool   // on any connection, or perhaps
	begun      bool   // on this connection
	released   bool   // QoS 2: the PUBREC came, so the message is gone and only a PUBREL may be sent
	noted      bool   // in the store there is an item about it beside the message
}

// window holds the deliveries in flight, by packet identifier and in the order of sending. All operations take
// constant time.
//
// The slot of an identifier is given by its lower bits. Identifiers are given out in turn; one whose slot
// is taken is passed over, which covers those in use and costs little as at most half of the slots are taken
// (but for the largest table, where each identifier has a slot of its own).
type window struct {
	slots       []flight // their number is 0 or a power of two up to 65536
	n           int
	first, last uint16 // in the order of sending
	given       uint16 // the identifier given out last
}

// at returns the delivery with an identifier, nil when there is none. It is valid until the next add or remove.
func (w *window) at(id uint16) *flight {
	if len(w.slots) == 0 || id == 0 {
		return nil
	}
	if f := w.slot(id); f.id == id {
		return f
	}
	return nil
}

func (w *window) slot(id uint16) *flight {
	return &w.slots[int(id)&(len(w.slots)-1)]
}

// add gives h an identifier and puts it behind the others. There must be fewer than 65535.
func (w *window) add(h held) *flight {
	if 2*w.n >= len(w.slots) && len(w.slots) < 1<<16 {
		w.grow()
	}
	w.given++
	for w.given == 0 || w.slot(w.given).id != 0 {
		w.given++
	}
	return w.put(flight{held: h, id: w.given})
}

// restore puts f, which has an identifier that is not in use, behind the others.
func (w *window) restore(f flight) {
	for len(w.slots) == 0 || 2*w.n >= len(w.slots) && len(w.slots) < 1<<16 || w.slot(f.id).id != 0 {
		w.grow()
	}
	w.given = f.id
	w.put(f)
}

// put puts f into its slot, behind the others.
func (w *window) put(f flight) *flight {
	f.prev = w.last
	*w.slot(f.id) = f
	if w.last == 0 {
		w.first = f.id
	} else {
		w.slot(w.last).next = f.id
	}
	w.last = f.id
	w.n++
	return w.slot(f.id)
}

// remove frees the identifier of a delivery in the window.
func (w *window) remove(id uint16) {
	f := w.slot(id)
	if f.prev == 0 {
		w.first = f.next
	} else {
		w.slot(f.prev).next = f.next
	}
	if f.next == 0 {
		w.last = f.prev
	} else {
		w.slot(f.next).prev = f.prev
	}
	*f = flight{}
	w.n--
	if w.n == 0 && len(w.slots) > keep {
		w.slots = nil
	}
}

// grow doubles the slots. Identifiers that had different slots still have.
func (w *window) grow() {
	old := w.slots
	w.slots = make([]flight, max(smallest, 2*len(old)))
	for i := range old {
		if old[i].id != 0 {
			*w.slot(old[i].id) = old[i]
		}
	}
}
