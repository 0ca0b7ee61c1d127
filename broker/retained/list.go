package retained

import (
	"cmp"
	"slices"
	"sort"
)

// item is a message in a list.
type item struct {
	Message
	place int // in the heap of those that expire; -1: in none
}

// chunkSize is the largest number of items in a chunk: few enough to shift, many enough that there are few
// chunks.
const chunkSize = 512

// list is a sorted list of items in chunks, none of which is empty. Finding takes logarithmic time; inserting
// and removing shift one chunk, and the list of chunks only when one of them is split or given up.
type list struct {
	chunks [][]*item
	n      int
}

// position is a place in a list; it is void when the list changes.
type position struct {
	chunk, item int
}

// from returns the position of the first topic that is not before name.
func (l *list) from(name string) position {
	// The last item of a chunk decides whether name can be in it.
	c := sort.Search(len(l.chunks), func(i int) bool {
		chunk := l.chunks[i]
		return chunk[len(chunk)-1].Topic >= name
	})
	if c == len(l.chunks) {
		return position{c, 0}
	}
	i, _ := search(l.chunks[c], name)
	return position{c, i}
}

// after returns the position of the first topic after name.
func (l *list) after(name string) position {
	p := l.from(name)
	if it := l.at(p); it != nil && it.Topic == name {
		return l.next(p)
	}
	return p
}

// at returns the item at p, nil at the end.
func (l *list) at(p position) *item {
	if p.chunk >= len(l.chunks) {
		return nil
	}
	return l.chunks[p.chunk][p.item]
}

// next returns the position after p, which is not the end.
func (l *list) next(p position) position {
	if p.item+1 < len(l.chunks[p.chunk]) {
		return position{p.chunk, p.item + 1}
	}
	return position{p.chunk + 1, 0}
}

// get returns the item of a topic, nil when there is none.
func (l *list) get(name string) *item {
	if it := l.at(l.from(name)); it != nil && it.Topic == name {
		return it
	}
	return nil
}

// insert adds an item whose topic is not in the list.
func (l *list) insert(it *item) {
	l.n++
	if len(l.chunks) == 0 {
		l.chunks = append(l.chunks, []*item{it})
		return
	}
	c := min(l.from(it.Topic).chunk, len(l.chunks)-1)
	if len(l.chunks[c]) == chunkSize {
		c = l.split(c, it.Topic)
	}
	i, _ := search(l.chunks[c], it.Topic)
	l.chunks[c] = slices.Insert(l.chunks[c], i, it)
}

// split divides chunk c and returns the half that name belongs to. Where topics come in order, at the end of
// the list, the chunk stays full and a new one begins.
func (l *list) split(c int, name string) int {
	chunk := l.chunks[c]
	half := chunkSize / 2
	if c == len(l.chunks)-1 && name > chunk[len(chunk)-1].Topic {
		half = chunkSize - 1
	}
	upper := slices.Clone(chunk[half:])
	clear(chunk[half:])
	l.chunks[c] = chunk[:half]
	l.chunks = slices.Insert(l.chunks, c+1, upper)
	if name > l.chunks[c][half-1].Topic {
		return c + 1
	}
	return c
}

// remove takes out and returns the item of a topic, nil when there is none.
func (l *list) remove(name string) *item {
	p := l.from(name)
	it := l.at(p)
	if it == nil || it.Topic != name {
		return nil
	}
	l.n--
	chunk := slices.Delete(l.chunks[p.chunk], p.item, p.item+1)
	l.chunks[p.chunk] = chunk
	if len(chunk) == 0 {
		l.chunks = slices.Delete(l.chunks, p.chunk, p.chunk+1)
	} else if p.chunk+1 < len(l.chunks) && len(chunk)+len(l.chunks[p.chunk+1]) <= chunkSize/2 {
		l.chunks[p.chunk] = append(chunk, l.chunks[p.chunk+1]...)
		l.chunks = slices.Delete(l.chunks, p.chunk+1, p.chunk+2)
	}
	return it
}

func search(chunk []*item, name string) (i int, found bool) {
	return slices.BinarySearchFunc(chunk, name, func(it *item, name string) int {
		return cmp.Compare(it.Topic, name)
	})
}
