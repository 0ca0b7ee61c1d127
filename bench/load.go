package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/umbra-iot/umbra/test/mqtttest"
)

// traffic is what the devices of a load say and hear.
type traffic struct {
	keep    bool // sessions outlive their connections
	apart   bool // each device hears on a second connection
	topics  func(device int) (publish, subscribe string)
	seed    func(device int) []byte                     // first message; nil is none
	message func(dst []byte, device, seq int) []byte    // appends one
	check   func(device, seq int, payload []byte) error // of what came back for message seq
}

// load is a fleet of devices in a closed loop: each publishes with QoS 1, waits for the PUBACK and for
// the message that the publish causes on its own subscription, acknowledges that, and goes on.
type load struct {
	done  atomic.Int64 // rounds of all devices
	ready chan struct{}
	stop  atomic.Bool
	wg    sync.WaitGroup
	mu    sync.Mutex // guards what follows
	err   error
	took  []time.Duration // by each round, from the publish to the message and the PUBACK
}

// startLoad connects the devices and sets them off. It returns when all are on their way.
func startLoad(ctx context.Context, addr string, devices int, tr traffic) (*load, error) {
	l := &load{ready: make(chan struct{}, devices)}
	for i := range devices {
		l.wg.Go(func() {
			if err := l.device(ctx, addr, i, tr); err != nil {
				l.fail(fmt.Errorf("device %d: %w", i, err))
			}
		})
	}
	for range devices {
		select {
		case <-l.ready:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), l.end())
		}
		if l.stop.Load() {
			return nil, l.end()
		}
	}
	return l, nil
}

// end lets the devices finish their rounds and returns the first error.
func (l *load) end() error {
	l.stop.Store(true)
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// note adds the times of a device.
func (l *load) note(took []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took...)
}

// fail notes the first error and ends the load.
func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	l.stop.Store(true)
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// link is one connection. It does without the test client, which is made for comfort.
type link struct {
	conn     net.Conn
	r        *bufio.Reader
	buf, out []byte
}

// device publishes on one link and hears on the other, which may be the same.
type device struct{ talk, hear *link }

// newDevice connects the device i and subscribes. The caller closes it, also after an error.
func newDevice(ctx context.Context, addr string, i int, tr traffic, subscribe string) (d device, err error) {
	o := mqtttest.Options{ClientID: "bench-" + strconv.Itoa(i), Keep: tr.keep}
	if d.talk, err = dial(ctx, addr); err != nil {
		return d, err
	}
	if d.hear = d.talk; !tr.apart {
		return d, d.hear.connect(o, subscribe)
	}
	if err := d.talk.connect(o, ""); err != nil {
		return d, err
	}
	if d.hear, err = dial(ctx, addr); err != nil {
		return d, err
	}
	o.ClientID += "-hears"
	return d, d.hear.connect(o, subscribe)
}

func (d device) close() {
	for _, l := range []*link{d.talk, d.hear} {
		if l != nil {
			_ = l.conn.Close()
		}
	}
}

func (l *load) device(ctx context.Context, addr string, i int, tr traffic) error {
	publish, subscribe := tr.topics(i)
	d, err := newDevice(ctx, addr, i, tr, subscribe)
	defer d.close()
	if err != nil {
		return err
	}
	m := mqtttest.Message{Topic: publish, QoS: 1}
	if m.Payload = tr.seed(i); m.Payload != nil {
		if _, err := d.round(m); err != nil {
			return err
		}
	}
	l.ready <- struct{}{}
	var took []time.Duration
	defer func() { l.note(took) }()
	for seq := 1; !l.stop.Load(); seq++ {
		m.Payload = tr.message(m.Payload[:0], i, seq)
		began := time.Now()
		answer, err := d.round(m)
		took = append(took, time.Since(began))
		if err != nil {
			return err
		}
		if err := tr.check(i, seq, answer); err != nil {
			return err
		}
		l.done.Add(1)
	}
	return d.leave()
}

func dial(ctx context.Context, addr string) (*link, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return &link{conn: conn, r: bufio.NewReaderSize(conn, 8<<10), buf: make([]byte, 64<<10)}, nil
}

// connect connects and subscribes, unless there is no filter.
func (l *link) connect(o mqtttest.Options, filter string) error {
	packet, answers := mqtttest.AppendConnect(nil, o), []byte{mqtttest.TypeConnack}
	if filter != "" {
		packet = mqtttest.AppendSubscribe(packet, mqtttest.V311, 1, filter)
		answers = append(answers, mqtttest.TypeSuback)
	}
	if err := l.write(packet); err != nil {
		return err
	}
	for _, want := range answers {
		p, err := mqtttest.ReadPacket(l.r, l.buf)
		if err != nil {
			return err
		}
		if p.Type() != want || p.Body[len(p.Body)-1] > 1 {
			return fmt.Errorf("packet type %d %x, want %d without error", p.Type(), p.Body, want)
		}
	}
	return nil
}

// round publishes m and waits for its PUBACK and for one message, which it returns. The PUBACK of the
// message leaves together with the next publish when both go over one connection.
func (d device) round(m mqtttest.Message) (answer []byte, err error) {
	d.talk.out = mqtttest.AppendPublish(d.talk.out, mqtttest.V311, 1, m)
	if err := d.talk.flush(); err != nil {
		return nil, err
	}
	for acked := false; !acked || answer == nil; {
		from := d.hear
		if !acked {
			from = d.talk
		}
		p, err := mqtttest.ReadPacket(from.r, from.buf)
		if err != nil {
			return nil, err
		}
		switch p.Type() {
		case mqtttest.TypePuback:
			acked = true
		case mqtttest.TypePublish:
			if answer, err = from.take(p); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("unexpected packet type %d", p.Type())
		}
	}
	if d.hear != d.talk {
		return answer, d.hear.flush()
	}
	return answer, nil
}

// take returns the payload of a PUBLISH, whose PUBACK waits in out.
func (l *link) take(p mqtttest.Packet) ([]byte, error) {
	m, id, err := mqtttest.ParsePublish(mqtttest.V311, p)
	if err != nil {
		return nil, err
	}
	if m.QoS > 0 {
		l.out = mqtttest.AppendAck(l.out, mqtttest.TypePuback, id)
	}
	return append(make([]byte, 0, len(m.Payload)), m.Payload...), nil
}

// leave says goodbye.
func (d device) leave() error {
	links := []*link{d.talk}
	if d.hear != d.talk {
		links = append(links, d.hear)
	}
	for _, l := range links {
		l.out = append(l.out, mqtttest.TypeDisconnect<<4, 0)
		if err := l.flush(); err != nil {
			return err
		}
	}
	return nil
}

// flush writes what waits in out.
func (l *link) flush() error {
	err := l.write(l.out)
	l.out = l.out[:0]
	return err
}

func (l *link) write(b []byte) error {
	_, err := l.conn.Write(b)
	return err
}
