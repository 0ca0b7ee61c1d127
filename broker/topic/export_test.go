package topic

// Nodes returns how many filters and tree nodes ix keeps, for tests that nothing stays behind.
func (ix *Index[T]) Nodes() int {
	n := len(ix.exact) + len(ix.edges)
	if ix.root.plus != nil {
		n++
	}
	if ix.root.all != nil {
		n++
	}
	return n
}
