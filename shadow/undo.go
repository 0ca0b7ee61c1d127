package shadow

// undoWriter writes the patch that undoes another one: for each member that the patch touched, the
// former value, or null where there was none.
type undoWriter struct {
	dst           []byte
	before, patch *tree
	restored      []uint32 // entries of before whose text was written, in order
}

// appendUndo appends the undo of patch, an object, with the times of the values that it brings back.
func appendUndo(dst []byte, before, patch *tree) []byte {
	var buf [32]uint32
	w := undoWriter{dst: dst, before: before, patch: patch, restored: buf[:0]}
	w.object(0, 0)
	times := timeWriter{dst: w.dst}
	for _, i := range w.restored {
		times.write(before.tape[i:before.tape[i].next])
	}
	return times.dst
}

// object writes the undo of object p of the patch, which was merged into object b.
func (w *undoWriter) object(b, p uint32) {
	w.dst = append(w.dst, '{')
	f := newFinder(w.before, b)
	first := true
	for m := p + 1; m < w.patch.tape[p].next; m = w.patch.tape[m].next {
		old := f.find(w.patch, m)
		if old == 0 && w.patch.tape[m].kind == kindNull {
			continue
		}
		if !first {
			w.dst = append(w.dst, ',')
		}
		first = false
		w.dst = append(w.dst, w.patch.keyColon(m)...)
		w.member(old, m)
	}
	w.dst = append(w.dst, '}')
}

func (w *undoWriter) member(old, m uint32) {
	switch {
	case old == 0:
		w.dst = append(w.dst, "null"...)
	case w.before.tape[old].kind == kindObject && w.patch.tape[m].kind == kindObject:
		w.object(old, m)
	default:
		w.dst = append(w.dst, w.before.value(old)...)
		w.restored = append(w.restored, old)
	}
}
