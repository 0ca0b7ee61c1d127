package session

// Request is what a QoS 2 PUBLISH asks for, where that must not be done again although nobody knows, after a crash,
// whether it was done.
type Request struct {
	Number uint64 // of the request, not 0
	Topic  string
}

// InboundQoS2 takes the packet identifier of a QoS 2 PUBLISH from the client and keeps it until [Session.Release].
// A duplicate is acknowledged like the first one but must not be routed again (MQTT 5, 4.3.3).
func (s *Session) InboundQoS2(id uint16) (duplicate bool) { return s.InboundRequest(id, Request{}) }

// InboundRequest is InboundQoS2 for a PUBLISH that asks for r. It is kept with the identifier.
func (s *Session) InboundRequest(id uint16, r Request) (duplicate bool) {
	if _, duplicate = s.inbound[id]; duplicate {
		return true
	}
	s.inbound = put(s.inbound, id, r)
	s.rec.add(change{kind: changeInbound, id: id})
	return false
}

func put(ids map[uint16]Request, id uint16, r Request) map[uint16]Request {
	if ids == nil {
		ids = make(map[uint16]Request)
	}
	ids[id] = r
	return ids
}

// Requested returns what the PUBLISH with an identifier that is in use asks for. ok is false where there is nothing.
func (s *Session) Requested(id uint16) (r Request, ok bool) {
	r = s.inbound[id]
	return r, r.Number != 0
}

// Requests returns what the PUBLISH packets in hand ask for, by identifier.
func (s *Session) Requests() map[uint16]Request {
	var all map[uint16]Request
	for id, r := range s.inbound {
		if r.Number != 0 {
			all = put(all, id, r)
		}
	}
	return all
}

// Settle notes that the request with an identifier is done.
func (s *Session) Settle(id uint16) {
	if r, ok := s.inbound[id]; ok && r.Number != 0 {
		s.inbound[id] = Request{}
		s.rec.add(change{kind: changeInbound, id: id})
	}
}

// Release takes a PUBREL and reports whether its identifier was in use. If not, the reason code of the PUBCOMP
// is 0x92. It is also for a PUBLISH that is refused, with a PUBREC of 0x80 or above: its identifier is free again.
func (s *Session) Release(id uint16) (found bool) {
	if _, found = s.inbound[id]; !found {
		return false
	}
	delete(s.inbound, id)
	s.rec.add(change{kind: changeInbound, id: id})
	if len(s.inbound) == 0 {
		s.inbound = nil
	}
	return true
}

// InboundLen returns the number of QoS 2 messages from the client whose PUBREL has not come yet.
func (s *Session) InboundLen() int { return len(s.inbound) }
