package shadow

// undoer writes the patch that undoes another one: for each member that the patch touched, the former
// value, or null where there was none.
type undoer struct{ before, patch *tree }

// appendUndo appends the undo of patch, an object, with the times of the values that it brings back.
func appendUndo(dst []byte, before, patch *tree) []byte {
	var buf [32]uint32
	u := undoer{before: before, patch: patch}
	dst, restored := u.object(dst, buf[:0], 0, 0)
	times := timeWriter{dst: dst}
	for _, i := range restored {
		times.write(before.tape[i:before.tape[i].next])
	}
	return times.dst
}

// object appends the undo of object p of the patch, which was merged into object b. restored gets the
// entries of before whose text was written, in order.
func (u undoer) object(dst []byte, restored []uint32, b, p uint32) ([]byte, []uint32) {
	dst = append(dst, '{')
	f := newFinder(u.before, b)
	first := true
	for m := p + 1; m < u.patch.tape[p].next; m = u.patch.tape[m].next {
		old := f.find(u.patch, m)
		if old == 0 && u.patch.tape[m].kind == kindNull {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, u.patch.keyColon(m)...)
		switch {
		case old == 0:
			dst = append(dst, "null"...)
		case u.before.tape[old].kind == kindObject && u.patch.tape[m].kind == kindObject:
			dst, restored = u.object(dst, restored, old, m)
		default:
			dst = append(dst, u.before.value(old)...)
			restored = append(restored, old)
		}
	}
	return append(dst, '}'), restored
}
