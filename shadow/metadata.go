package shadow

import "strconv"

// metaWriter writes metadata: the shape of a value with {"timestamp":T} for each leaf.
type metaWriter struct {
	*tree
	fixed bool  // all leaves have the time that the stamp was made of
	time  int64 // what the stamp was made of, ms
	size  int
	stamp [40]byte // the metadata of a leaf; neighbours mostly have the same time
}

// metaOf writes the metadata of t with the times that it has.
func metaOf(t *tree) metaWriter { return metaWriter{tree: t, time: -1} }

// metaAt writes the metadata of t with one time for all.
func metaAt(t *tree, time int64) metaWriter {
	w := metaWriter{tree: t, fixed: true}
	w.setTime(time)
	return w
}

func (w *metaWriter) setTime(time int64) {
	w.time = time
	stamp := append(w.stamp[:0], `{"timestamp":`...)
	stamp = strconv.AppendInt(stamp, time/1000, 10)
	w.size = len(append(stamp, '}'))
}

// append appends the metadata of value i: its text with every leaf replaced.
func (w *metaWriter) append(dst []byte, i uint32) []byte {
	e := &w.tape[i]
	done := e.start
	leaves := w.tape[i:e.next]
	for j := range leaves {
		l := &leaves[j]
		if !l.leaf() {
			continue
		}
		if l.time != w.time && !w.fixed {
			w.setTime(l.time)
		}
		dst = append(dst, w.text[done:l.start]...)
		dst = append(dst, w.stamp[:w.size]...)
		done = l.end
	}
	return append(dst, w.text[done:e.end]...)
}
