package memstore

import (
	"slices"
	"sort"
)

// chunkLen is the number of names at which a chunk is split.
const chunkLen = 512

// names is an ordered set of strings: sorted chunks of bounded length, so that
// adding and removing move few bytes and a page is found by binary search.
// The zero value is an empty set.
type names struct {
	chunks [][]string // none is empty
}

// chunk returns the index of the chunk that holds name or where it belongs.
func (n *names) chunk(name string) int {
	i := sort.Search(len(n.chunks), func(i int) bool { return n.chunks[i][0] > name })
	return max(i-1, 0)
}

func (n *names) add(name string) {
	if len(n.chunks) == 0 {
		n.chunks = append(n.chunks, []string{name})
		return
	}
	c := n.chunk(name)
	i, found := slices.BinarySearch(n.chunks[c], name)
	if found {
		return
	}
	n.chunks[c] = slices.Insert(n.chunks[c], i, name)
	if full := n.chunks[c]; len(full) > chunkLen {
		n.chunks[c] = slices.Clone(full[:chunkLen/2])
		n.chunks = slices.Insert(n.chunks, c+1, slices.Clone(full[chunkLen/2:]))
	}
}

func (n *names) remove(name string) {
	if len(n.chunks) == 0 {
		return
	}
	c := n.chunk(name)
	i, found := slices.BinarySearch(n.chunks[c], name)
	if !found {
		return
	}
	if len(n.chunks[c]) == 1 {
		n.chunks = slices.Delete(n.chunks, c, c+1)
		return
	}
	n.chunks[c] = slices.Delete(n.chunks[c], i, i+1)
}

// from calls fn for the names from start on, in order, until it returns false.
func (n *names) from(start string, fn func(string) bool) {
	for c := n.chunk(start); c < len(n.chunks); c++ {
		i, _ := slices.BinarySearch(n.chunks[c], start)
		for _, name := range n.chunks[c][i:] {
			if !fn(name) {
				return
			}
		}
	}
}
