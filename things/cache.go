package things

// laneOverhead is roughly what a lane holds besides its document: names, topics, list links.
const laneOverhead = 1500

// cache keeps idle lanes, the least recently used at the end, within a budget
// of bytes. It is an intrusive list; Service.mu guards it.
type cache struct {
	budget int64
	used   int64
	root   lane // root.next is the most recently used, root.prev the least
}

func newCache(budget int64) cache { return cache{budget: budget} }

func (c *cache) add(l *lane) {
	if c.root.next == nil {
		c.root.next, c.root.prev = &c.root, &c.root
	}
	l.size = laneOverhead + int64(l.doc.Size())
	c.used += l.size
	l.prev, l.next = &c.root, c.root.next
	l.prev.next, l.next.prev = l, l
}

func (c *cache) remove(l *lane) {
	if l.next == nil {
		return
	}
	c.used -= l.size
	l.prev.next, l.next.prev = l.next, l.prev
	l.prev, l.next = nil, nil
}

// evict takes the least recently used lane out when the cache is over its
// budget, and returns nil when it is not. A lane in doubt stays: it has to
// find out first what became of its last commit.
func (c *cache) evict() *lane {
	if c.used <= c.budget {
		return nil
	}
	for l := c.root.prev; l != &c.root; l = l.prev {
		if l.doubt == 0 {
			c.remove(l)
			return l
		}
	}
	return nil
}
