package session

// Bequeath gives up and returns, in their order, the deliveries of shared subscriptions that other members are to get
// when the session ends (MQTT 5, 4.8.2): those of QoS 1 that are not acknowledged, and those of QoS 2 that the client
// cannot have begun to get [MQTT-4.8.2-5]. Spilled ones are not among them: see [Session.SpilledShared].
func (s *Session) Bequeath() (left []Delivery) {
	for id := s.window.first; id != 0; {
		f := s.window.at(id)
		next := f.next
		if f.Share != "" && !f.released && (f.QoS == 1 || !f.sent) {
			left = append(left, f.Delivery)
			s.finish(id, f)
		}
		id = next
	}
	for range s.waiting.len() {
		h := s.take()
		if h.Share == "" || h.spilled {
			s.wait(h)
			continue
		}
		left = append(left, h.Delivery)
		s.rec.drops(&h)
	}
	return left
}

// SpilledShared returns the keys of the items of spilled messages that came by shared subscriptions, up to so many and about so many
// bytes. With [Session.Supply] they become part of what [Session.Bequeath] gives.
func (s *Session) SpilledShared(messages int, bytes int64) (keys [][]byte) {
	if s.spilled == 0 {
		return nil
	}
	for i := 0; i < s.waiting.len() && len(keys) < messages && bytes > 0; i++ {
		if h := s.waiting.at(i); h.spilled && h.Share != "" {
			keys = append(keys, messageKey(h.seq))
			bytes -= h.size()
		}
	}
	return keys
}
