package shadow

import "strconv"

// metaWriter writes metadata: the shape of a value with {"timestamp":T} for each leaf.
type metaWriter struct {
	*tree
	fixed bool   // all leaves have the time that the stamp was made of
	time  int64  // what the stamp was made of, ms
	stamp []byte // the metadata of a leaf; neighbours mostly have the same time
}

// metaOf writes the metadata of t with the times that it has.
func metaOf(t *tree, buf []byte) metaWriter {
	return metaWriter{tree: t, stamp: appendStamp(buf[:0], 0)}
}

// metaAt writes the metadata of t with one time for all.
func metaAt(t *tree, buf []byte, time int64) metaWriter {
	return metaWriter{tree: t, fixed: true, time: time, stamp: appendStamp(buf[:0], time)}
}

func appendStamp(dst []byte, time int64) []byte {
	dst = append(dst, `{"timestamp":`...)
	dst = strconv.AppendInt(dst, time/1000, 10)
	return append(dst, '}')
}

// append appends the metadata of value i.
func (w *metaWriter) append(dst []byte, i uint32) []byte {
	e := &w.tape[i]
	switch e.kind {
	case kindObject:
		dst = append(dst, '{')
		for j := i + 1; j < e.next; j = w.tape[j].next {
			if j > i+1 {
				dst = append(dst, ',')
			}
			dst = append(dst, w.keyColon(j)...)
			dst = w.append(dst, j)
		}
		return append(dst, '}')
	case kindArray:
		dst = append(dst, '[')
		for j := i + 1; j < e.next; j = w.tape[j].next {
			if j > i+1 {
				dst = append(dst, ',')
			}
			dst = w.append(dst, j)
		}
		return append(dst, ']')
	}
	if e.time != w.time && !w.fixed {
		w.time = e.time
		w.stamp = appendStamp(w.stamp[:0], e.time)
	}
	return append(dst, w.stamp...)
}
