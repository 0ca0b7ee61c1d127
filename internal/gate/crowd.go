package gate

import (
	"container/list"
	"net/netip"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
)

// standing is whether a connection makes room for others.
type standing int

const (
	known    standing = iota // never
	stranger                 // of the memory of strangers, and of places
	idle                     // of places, when no stranger does: it is between two requests of HTTP, and a client that is known comes again
	standings
)

// crowd is the connections that share a bound: all, those of a listener, those of an address or network. It is guarded by Gate.mu.
type crowd struct {
	bound  int // of open, 0 for none
	open   int
	lines  [standings]list.List // of *Conn: those that make room, by age
	source netip.Addr           // whose connections they are, see [auth.Source]; invalid for those of a listener, and for all
}

func (k *crowd) isFull() bool { return k.bound > 0 && k.open >= k.bound }

// oldest returns the connection that has to leave its place first; nil when there is none.
func (k *crowd) oldest(may ...standing) *Conn {
	for _, s := range may {
		if e := k.lines[s].Front(); e != nil {
			return e.Value.(*Conn)
		}
	}
	return nil
}

// place is where a connection is in a crowd.
type place struct {
	*crowd
	line *list.Element // nil for one that is known
}

// join makes c one of a crowd.
func (c *Conn) join(k *crowd) {
	k.open++
	c.places = append(c.places, place{crowd: k})
	c.line(len(c.places) - 1)
}

// become gives c a standing, from now on.
func (c *Conn) become(s standing) {
	for i, p := range c.places {
		if p.line != nil {
			p.lines[c.standing].Remove(p.line)
			c.places[i].line = nil
		}
	}
	c.standing, c.since = s, time.Now()
	for i := range c.places {
		c.line(i)
	}
}

// line puts c at the end of a line of its crowd, if it makes room.
func (c *Conn) line(i int) {
	if c.standing != known {
		c.places[i].line = c.places[i].lines[c.standing].PushBack(c)
	}
}

// makeRoom reserves n bytes for c, nil for one that comes, and pushes out old strangers for it. False means that c or the
// gate is closed, or given up.
func (g *Gate) makeRoom(n int, c *Conn, givenUp <-chan struct{}) bool {
	for !g.Budget.Take(n) {
		if c != nil && !g.has(c) {
			return false
		}
		if pushed, _ := g.pushOut(&g.all, stranger); !pushed && !g.pause(givenUp) {
			return false
		}
	}
	return true
}

// has reports whether c is open.
func (g *Gate) has(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.open[c]
	return ok
}

// pushOut closes the oldest connection of a crowd that has one of the standings, the first of them first, if it is old
// enough. Otherwise it tells whether one will be.
func (g *Gate) pushOut(from *crowd, may ...standing) (pushed, soon bool) {
	g.mu.Lock()
	c := from.oldest(may...)
	if c == nil || time.Since(c.since) < youth {
		g.mu.Unlock()
		return false, c != nil
	}
	c.quit() // at once: who is known by now stays
	g.mu.Unlock()
	g.pushedOut.Add(1)
	_ = c.raw.Close()
	return true, false
}

// pause waits a little for strangers to prove themselves, or to become old. False means that the gate is closed, or given up.
func (g *Gate) pause(givenUp <-chan struct{}) bool {
	t := time.NewTimer(youth / 10)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-givenUp:
	case <-g.done:
	}
	return false
}

// register counts c, unless there is no place for it. It may wait for one of its listener: nobody else could come in
// there. Who comes from an address that is full does not hold up those from others.
func (g *Gate) register(c *Conn) bool {
	for {
		full, ok := g.enlist(c)
		if full == nil {
			return ok
		}
		pushed, soon := g.pushOut(full, stranger, idle)
		if pushed {
			continue
		}
		if !soon || full.source.IsValid() || !g.pause(nil) {
			return false
		}
	}
}

// enlist counts c, or returns the crowd that is full; none when the gate is closed.
func (g *Gate) enlist(c *Conn) (full *crowd, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return nil, false
	case g.all.isFull():
		return &g.all, false
	case c.entrance.isFull():
		return &c.entrance.crowd, false
	}
	c.become(stranger)
	c.counts.Store(true)
	if len(c.entrance.Proxies) == 0 {
		if full := g.joinAddress(c, c.source); full != nil {
			return full, false
		}
	}
	c.join(&g.all)
	c.join(&c.entrance.crowd)
	g.open[c] = struct{}{}
	return nil, true
}

// joinAddress counts c as one of an address, or returns the crowd of it, which is full.
func (g *Gate) joinAddress(c *Conn, a netip.Addr) (full *crowd) {
	if g.PerAddress <= 0 {
		return nil
	}
	source := auth.Source(a)
	k := g.from[source]
	if k == nil {
		k = &crowd{bound: g.PerAddress, source: source}
		g.from[source] = k
	}
	if k.isFull() {
		return k
	}
	c.join(k)
	return nil
}

// recount counts c as one of the address that its proxy has told, unless there is no place for it. What a proxy asks for
// itself counts nowhere.
func (g *Gate) recount(c *Conn) bool {
	a := addrOf(c.remote)
	if !a.IsValid() {
		return true
	}
	for {
		full, ok := g.relist(c, a)
		if full == nil {
			return ok
		}
		if pushed, _ := g.pushOut(full, stranger, idle); !pushed {
			return false
		}
	}
}

// relist is one try of recount. It returns the crowd that is full; none when c is closed.
func (g *Gate) relist(c *Conn, a netip.Addr) (full *crowd, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.open[c]; !ok {
		return nil, false
	}
	full = g.joinAddress(c, a)
	return full, full == nil
}
