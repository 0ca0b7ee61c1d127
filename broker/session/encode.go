package session

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
)

// First bytes of the keys of items, which decide their order. Every value begins with its format.
//
//	'c'               flags, expiry interval, end of the last connection
//	'f' sequence      flags and packet identifier of a message in flight, where they are not with the message
//	'i' identifier    QoS 2 publish of the client whose PUBREL has not come: nothing, or number and topic of what it asks for
//	'm' sequence      message: flags, packet identifier or 0, subscription identifiers, in another format the filter of the
//	                  shared subscription that it came by, record
//	'r' filter        scan of retained messages: topic of the last one; in another format how often they come again, and the topic
//	's' filter        subscription: flags, identifier
//
// Sequences are 8 bytes and packet identifiers 2, big-endian; all other numbers are varints.
const (
	keyMeta         = 'c'
	keyFlight       = 'f'
	keyInbound      = 'i'
	keyMessage      = 'm'
	keyScan         = 'r'
	keySubscription = 's'
)

const (
	format       = 1
	formatShared = 2 // of a message that came by a shared subscription
	formatAgain  = 2 // of a scan that is repeated
)

// Flags in values. The lowest two bits of those of messages and subscriptions are the QoS.
const (
	flagConnected = 1 << 0 // meta
	flagReleased  = 1 << 0 // flight
	qosMask       = 3
	flagRetain    = 1 << 2 // message
	flagNoLocal   = 1 << 2 // subscription
	flagPublished = 1 << 3 // subscription: retain as published
	handlingShift = 4      // subscription: retain handling
)

// encoder makes items, with keys and values one behind the other in buf.
type encoder struct {
	buf   []byte
	items []Item
}

// item adds an item. The arguments are written to the end of e.buf: the key, from its first byte on, then the value.
func (e *encoder) item(key, end int) {
	it := Item{Key: e.buf[key:end:end]}
	if end < len(e.buf) {
		it.Value = e.buf[end:len(e.buf):len(e.buf)]
	}
	e.items = append(e.items, it)
}

func (e *encoder) meta(s *Session) {
	from := len(e.buf)
	e.buf = append(e.buf, keyMeta)
	end := len(e.buf)
	var flags byte
	if s.connected {
		flags = flagConnected
	}
	e.buf = append(e.buf, format, flags)
	e.buf = binary.AppendUvarint(e.buf, uint64(s.params.Expiry))
	e.buf = binary.AppendUvarint(e.buf, uint64(s.ended))
	e.item(from, end)
}

func (e *encoder) change(s *Session, c *change) {
	from := len(e.buf)
	switch c.kind {
	case changeNone:
	case changeMessage:
		e.buf = binary.BigEndian.AppendUint64(append(e.buf, keyMessage), c.seq)
		end := len(e.buf)
		e.message(c)
		e.item(from, end)
	case changeNoMessage:
		e.buf = binary.BigEndian.AppendUint64(append(e.buf, keyMessage), c.seq)
		e.item(from, len(e.buf))
	case changeFlight:
		e.buf = binary.BigEndian.AppendUint64(append(e.buf, keyFlight), c.seq)
		end := len(e.buf)
		var flags byte
		if c.released {
			flags = flagReleased
		}
		e.buf = binary.BigEndian.AppendUint16(append(e.buf, format, flags), c.id)
		e.item(from, end)
	case changeNoFlight:
		e.buf = binary.BigEndian.AppendUint64(append(e.buf, keyFlight), c.seq)
		e.item(from, len(e.buf))
	case changeSubscription:
		e.buf = append(append(e.buf, keySubscription), c.filter...)
		end := len(e.buf)
		if o, ok := s.Subscription(c.filter); ok {
			e.options(o)
		}
		e.item(from, end)
	case changeScan:
		e.buf = append(append(e.buf, keyScan), c.filter...)
		end := len(e.buf)
		e.scan(s, c.filter)
		e.item(from, end)
	case changeInbound:
		e.buf = binary.BigEndian.AppendUint16(append(e.buf, keyInbound), c.id)
		end := len(e.buf)
		if r, ok := s.inbound[c.id]; ok {
			e.buf = append(e.buf, format)
			if r.Number != 0 {
				e.buf = append(binary.AppendUvarint(e.buf, r.Number), r.Topic...)
			}
		}
		e.item(from, end)
	}
}

func (e *encoder) message(c *change) {
	d := &c.delivery
	flags := d.QoS
	if d.Retain {
		flags |= flagRetain
	}
	used := byte(format)
	if d.Share != "" {
		used = formatShared
	}
	e.buf = append(e.buf, used, flags)
	e.buf = binary.AppendUvarint(e.buf, uint64(c.id))
	e.buf = binary.AppendUvarint(e.buf, uint64(len(d.Identifiers)))
	for _, id := range d.Identifiers {
		e.buf = binary.AppendUvarint(e.buf, uint64(id))
	}
	if d.Share != "" {
		e.buf = append(binary.AppendUvarint(e.buf, uint64(len(d.Share))), d.Share...)
	}
	e.buf = wire.AppendRecord(e.buf, d.Message)
}

func (e *encoder) scan(s *Session, filter string) {
	i := s.scan(filter)
	if i < 0 {
		return
	}
	if again := s.scans[i].again; again > 0 {
		e.buf = binary.AppendUvarint(append(e.buf, formatAgain), uint64(again))
	} else {
		e.buf = append(e.buf, format)
	}
	e.buf = append(e.buf, s.scans[i].After...)
}

func (e *encoder) options(o topic.Options) {
	flags := o.QoS | o.RetainHandling<<handlingShift
	if o.NoLocal {
		flags |= flagNoLocal
	}
	if o.RetainAsPublished {
		flags |= flagPublished
	}
	e.buf = binary.AppendUvarint(append(e.buf, format, flags), uint64(o.Identifier))
}

// errDamaged is the cause of errors about items that this package cannot have written.
var errDamaged = errors.New("session: damaged or unknown item")

// Restore returns the session that items, which are in the order of keys, are the stored form of. It has no
// connection; lost says that it had one when it was stored last, which then ended at now. It keeps nothing of items.
func Restore(c Config, items []Item, now int64) (s *Session, lost bool, err error) {
	s = New(c)
	s.begun = true
	s.rec = recorder{on: true, kept: true}
	r := restorer{s: s}
	for _, it := range items {
		if err := r.item(it); err != nil {
			return nil, false, err
		}
	}
	if !r.meta {
		return nil, false, errDamaged
	}
	if err := r.deliveries(); err != nil {
		return nil, false, err
	}
	if lost = s.connected; lost {
		s.Disconnect(now)
	}
	return s, lost, nil
}

// restorer collects what Restore reads.
type restorer struct {
	s     *Session
	meta  bool
	found []flight // deliveries; id 0: waiting
	share string   // of the delivery before, which most have in common
}

func (r *restorer) item(it Item) error {
	if len(it.Key) == 0 || len(it.Value) == 0 || !isFormat(it.Value[0], it.Key[0]) {
		return errDamaged
	}
	key, v := it.Key[1:], reader{left: it.Value[1:]}
	switch it.Key[0] {
	case keyMeta:
		r.meta = true
		r.s.connected = v.byte()&flagConnected != 0
		r.s.params.Expiry = uint32(v.number())
		r.s.ended = int64(v.number())
	case keyFlight:
		f := flight{released: v.byte()&flagReleased != 0, noted: true}
		f.id = uint16(v.byte())<<8 | uint16(v.byte())
		f.seq = number(key, 8, &v)
		r.found = append(r.found, f)
	case keyInbound:
		var asked Request
		if len(v.left) > 0 {
			asked.Number = v.number()
			asked.Topic = string(v.left)
		}
		r.s.inbound = put(r.s.inbound, uint16(number(key, 2, &v)), asked)
	case keyMessage:
		f := flight{held: held{seq: number(key, 8, &v)}}
		var err error
		if f.Delivery, f.id, err = parseMessage(it.Value, r.share); err != nil {
			return err
		}
		r.share = f.Share
		r.found = append(r.found, f)
	case keyScan:
		sc := Scan{Filter: string(key)}
		if it.Value[0] == formatAgain {
			sc.again = int(v.number())
		}
		sc.After = string(v.left)
		r.s.scans = append(r.s.scans, sc)
	case keySubscription:
		flags := v.byte()
		r.s.Subscribe(string(key), topic.Options{
			QoS: flags & qosMask, NoLocal: flags&flagNoLocal != 0, RetainAsPublished: flags&flagPublished != 0,
			RetainHandling: flags >> handlingShift, Identifier: uint32(v.number()),
		})
		r.s.rec.changes = nil
	default:
		return errDamaged
	}
	if v.failed {
		return errDamaged
	}
	return nil
}

// isFormat reports whether values of items of a kind have that format.
func isFormat(f, kind byte) bool {
	return f == format || f == formatShared && kind == keyMessage || f == formatAgain && kind == keyScan
}

// parseMessage reads the value of a message's item. If it came by the shared subscription to share, that string is used.
func parseMessage(value []byte, share string) (d Delivery, id uint16, err error) {
	v := &reader{left: value[1:]}
	flags := v.byte()
	d.QoS, d.Retain = flags&qosMask, flags&flagRetain != 0
	id = uint16(v.number())
	for range v.number() {
		if v.failed {
			return d, 0, errDamaged
		}
		d.Identifiers = append(d.Identifiers, uint32(v.number()))
	}
	if value[0] == formatShared {
		if filter := v.bytes(v.number()); string(filter) != share {
			share = string(filter)
		}
		d.Share = share
	}
	if v.failed {
		return d, 0, errDamaged
	}
	d.Message, err = wire.ParseRecord(v.left)
	return d, id, err
}

// deliveries puts what was found in its order: what has an identifier is in flight, the rest waits.
func (r *restorer) deliveries() error {
	slices.SortStableFunc(r.found, func(a, b flight) int {
		switch {
		case a.seq < b.seq:
			return -1
		case a.seq > b.seq:
			return 1
		}
		return 0
	})
	s := r.s
	for i := 0; i < len(r.found); i++ {
		f := r.found[i]
		if f.noted && i+1 < len(r.found) && r.found[i+1].seq == f.seq { // its message comes next
			i++
			message := r.found[i].Delivery
			if !f.released {
				f.Delivery = message
			}
		}
		s.seq = f.seq
		switch {
		case f.Message == nil && !f.released, f.id == 0 && f.released, s.window.at(f.id) != nil:
			return errDamaged
		case f.released:
			f.QoS = 2
		}
		if f.id == 0 {
			s.wait(f.held)
			continue
		}
		if f.Message != nil {
			s.windowBytes += int64(f.Message.Size())
		}
		f.sent = true // perhaps
		s.window.restore(f)
	}
	return nil
}

// number returns a key's number of size bytes.
func number(key []byte, size int, v *reader) (n uint64) {
	if len(key) != size {
		v.failed = true
		return 0
	}
	for _, b := range key {
		n = n<<8 | uint64(b)
	}
	return n
}

// reader reads a value.
type reader struct {
	left   []byte
	failed bool
}

func (r *reader) byte() byte {
	if len(r.left) == 0 {
		r.failed = true
		return 0
	}
	b := r.left[0]
	r.left = r.left[1:]
	return b
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.left)) {
		r.failed, r.left = true, nil
		return nil
	}
	b := r.left[:n]
	r.left = r.left[n:]
	return b
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.left)
	if n <= 0 {
		r.failed, r.left = true, nil
		return 0
	}
	r.left = r.left[n:]
	return v
}
