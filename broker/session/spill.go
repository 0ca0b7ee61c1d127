package session

import (
	"encoding/binary"
	"hash/fnv"
	"sort"
)

// Spill leaves messages that wait and are durable to the store alone, all but the first so many, and keeps only their
// places. They come back with [Session.Supply].
func (s *Session) Spill(but int) {
	if !s.rec.on {
		return
	}
	for i := s.waiting.len() - 1; i >= but; i-- {
		h := s.waiting.at(i)
		if h.spilled {
			return // and so are those before it
		}
		if h.drain > s.rec.stored {
			continue
		}
		h.bytes, h.expires, h.topic, h.spilled = h.Message.Size(), h.Message.Expires, hash(h.Message.Topic), true
		h.Message, h.Identifiers = nil, nil
		s.spilled++
		s.spilledBytes += h.size()
	}
}

// Missing returns the keys of the items that [Session.Next] needs to go on: of spilled messages that wait first, up to
// so many and about so many bytes. It returns none while there is something else to send or to wait for.
func (s *Session) Missing(messages int, bytes int64) (keys [][]byte) {
	if s.spilled == 0 || !s.connected || s.cursor != 0 || s.window.n >= int(s.params.ReceiveMaximum) {
		return nil
	}
	for i := 0; i < s.waiting.len() && i < messages && bytes > 0; i++ {
		h := s.waiting.at(i)
		if !h.spilled {
			break
		}
		keys = append(keys, messageKey(h.seq))
		bytes -= h.size()
	}
	return keys
}

// SpilledOn returns the keys of the items of all spilled messages on a topic, in their order. There may be some of another
// topic among them.
func (s *Session) SpilledOn(topic string) (keys [][]byte) {
	if s.spilled == 0 {
		return nil
	}
	sum := hash(topic)
	for i := range s.waiting.len() {
		if h := s.waiting.at(i); h.spilled && h.topic == sum {
			keys = append(keys, messageKey(h.seq))
		}
	}
	return keys
}

func hash(topic string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(topic))
	return h.Sum64()
}

// Supply brings messages back: values are those of the items with the keys that Missing returned. What was dropped
// meanwhile is passed over.
func (s *Session) Supply(keys, values [][]byte) error {
	for i, key := range keys {
		h := s.waits(binary.BigEndian.Uint64(key[1:]))
		if h == nil || !h.spilled {
			continue
		}
		d, err := ParseDelivery(values[i])
		if err != nil {
			return err
		}
		s.spilled--
		s.spilledBytes -= h.size()
		h.Delivery, h.spilled = d, false
	}
	if s.spilled == 0 && s.params.Expiry == 0 {
		s.rec.stop()
	}
	return nil
}

// waits returns the waiting message with a sequence, nil when there is none.
func (s *Session) waits(seq uint64) *held {
	n := s.waiting.len()
	i := sort.Search(n, func(i int) bool { return s.waiting.at(i).seq >= seq })
	if i == n || s.waiting.at(i).seq != seq {
		return nil
	}
	return s.waiting.at(i)
}

// ParseDelivery returns the delivery in the value of a message's item. It keeps nothing of value.
func ParseDelivery(value []byte) (Delivery, error) {
	if len(value) == 0 || !isFormat(value[0], keyMessage) {
		return Delivery{}, errDamaged
	}
	d, _, err := parseMessage(value, "")
	return d, err
}

func messageKey(seq uint64) []byte { return binary.BigEndian.AppendUint64([]byte{keyMessage}, seq) }
