package session

// InboundQoS2 takes the packet identifier of a QoS 2 PUBLISH from the client and keeps it until [Session.Release].
// A duplicate is acknowledged like the first one but must not be routed again (MQTT 5, 4.3.3).
func (s *Session) InboundQoS2(id uint16) (duplicate bool) {
	if _, duplicate = s.inbound[id]; duplicate {
		return true
	}
	s.inbound = put(s.inbound, id)
	s.rec.add(change{kind: changeInbound, id: id})
	return false
}

func put(ids map[uint16]struct{}, id uint16) map[uint16]struct{} {
	if ids == nil {
		ids = make(map[uint16]struct{})
	}
	ids[id] = struct{}{}
	return ids
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
