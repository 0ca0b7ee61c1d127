package mapping

// session is a connection of a client, as far as links depend on it.
type session struct {
	client string
	user   string
	will   string // topic
	epoch  uint64
	alive  bool
	claims []claim
}

// claim is a slot that a session is the device, or the bridge, behind.
type claim struct {
	s  *mappingState
	sl *slot
}

// Session is a connection of a client.
type Session struct {
	Client string
	User   string
	Epoch  uint64 // higher for every new connection of the client
	Will   string // topic of its will, "" when it has none
}

// Connected takes a new connection. Nothing is assumed of its device but that an older connection is
// no longer it.
func (e *Engine) Connected(in Session) *Effects {
	out := e.step()
	old := e.sessions[in.Client]
	if old != nil && old.epoch >= in.Epoch {
		return out
	}
	now := &session{client: in.Client, user: in.User, will: in.Will, epoch: in.Epoch, alive: true}
	e.sessions[in.Client] = now
	if old != nil { // what the old one was the device behind is the new one's, until it says otherwise
		old.alive = false
		for _, c := range old.claims {
			if c.sl.owner == old {
				c.sl.owner = now
				now.claims = append(now.claims, c)
			}
		}
	}
	for _, s := range e.states {
		e.claimWill(s, now)
	}
	return out
}

// claimWill finds the sources of a mapping that the will of a session is for.
func (e *Engine) claimWill(s *mappingState, ses *session) {
	if ses.will == "" || s.m.link == nil || s.m.link.session == sessionNever {
		return
	}
	env := environment{client: ses.client, user: ses.user, topic: ses.will}
	topic := appendLevels(nil, ses.will)
	for _, src := range s.m.link.sources {
		caps, ok := src.topic.match(topic)
		if !ok {
			continue
		}
		env.caps = caps
		identity, ok := s.m.partial(src, &env)
		if !ok {
			continue
		}
		sl := s.slot(s.kind(src), identity)
		if sl.owner != ses {
			sl.owner, sl.first, sl.last = ses, "", ""
			ses.claims = append(ses.claims, claim{s, sl})
		}
	}
}

// partial returns the identity as far as a source knows it; the other texts are empty.
func (m *Mapping) partial(src *source, env *environment) ([]string, bool) {
	identity := make([]string, len(m.identity))
	for _, i := range src.identity {
		var ok bool
		if identity[i], ok = m.identity[i].lookup(env); !ok {
			return nil, false
		}
	}
	return identity, true
}

// Disconnected takes the end of a connection that sends no will. When the server sends one, that
// message is what tells; call [Engine.Forget] then. byClient says that the client sent DISCONNECT.
func (e *Engine) Disconnected(in Session, byClient bool, now int64) *Effects {
	out := e.step()
	ses := e.sessions[in.Client]
	if ses == nil || ses.epoch != in.Epoch {
		return out // a newer one is there
	}
	e.end(ses)
	for _, c := range ses.claims {
		if c.sl.owner != ses {
			continue
		}
		c.sl.owner = nil
		if byClient && c.s.m.link.session == sessionAuto && c.sl.last != c.sl.first {
			continue // it has said itself what its absence means
		}
		e.setSlot(c.sl, false, nil, now)
		c.sl.ended = true
		for b := range c.sl.members {
			e.store(b)
		}
		e.tidy(c)
	}
	return out
}

// tidy forgets a slot that no device has.
func (e *Engine) tidy(c claim) {
	if len(c.sl.members) == 0 && c.sl.owner == nil {
		for i := range c.s.kinds {
			if c.s.kinds[i].full && c.s.kinds[i].key(make([]string, len(c.s.m.identity))) != c.sl.key {
				delete(c.s.slots, c.sl.key)
				return
			}
		}
	}
}

// Forget takes the end of a connection whose will is sent, now or later.
func (e *Engine) Forget(in Session) {
	if ses := e.sessions[in.Client]; ses != nil && ses.epoch == in.Epoch {
		e.end(ses)
	}
}

func (e *Engine) end(ses *session) {
	ses.alive = false
	delete(e.sessions, ses.client)
}

// stale reports that a message is the will of a connection that a newer one has replaced.
func (e *Engine) stale(p *Prepared) bool {
	if !p.Will {
		return false
	}
	ses := e.sessions[p.Client]
	return ses != nil && ses.epoch > p.Epoch
}

// foreign reports that a will tells of a slot that another living session has taken since.
func (sl *slot) foreign(p *Prepared) bool {
	return p.Will && sl.owner != nil && sl.owner.alive && (sl.owner.client != p.Client || sl.owner.epoch > p.Epoch)
}
