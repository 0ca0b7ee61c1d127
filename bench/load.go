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

	"github.com/umbra-iot/umbra/test/mqtttest"
)

// traffic is what the devices of a load say and hear.
type traffic struct {
	keep    bool // sessions outlive their connections
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
	mu    sync.Mutex // guards err
	err   error
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

// device is one connection. It does without the test client, which is made for comfort.
type device struct {
	conn     net.Conn
	r        *bufio.Reader
	buf, out []byte
}

func (l *load) device(ctx context.Context, addr string, i int, tr traffic) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	d := &device{conn: conn, r: bufio.NewReaderSize(conn, 8<<10), buf: make([]byte, 64<<10)}
	publish, subscribe := tr.topics(i)
	if err := d.connect(mqtttest.Options{ClientID: "bench-" + strconv.Itoa(i), Keep: tr.keep}, subscribe); err != nil {
		return err
	}
	m := mqtttest.Message{Topic: publish, QoS: 1}
	if m.Payload = tr.seed(i); m.Payload != nil {
		if _, err := d.round(m); err != nil {
			return err
		}
	}
	l.ready <- struct{}{}
	for seq := 1; !l.stop.Load(); seq++ {
		m.Payload = tr.message(m.Payload[:0], i, seq)
		answer, err := d.round(m)
		if err != nil {
			return err
		}
		if err := tr.check(i, seq, answer); err != nil {
			return err
		}
		l.done.Add(1)
	}
	return d.flush(append(d.out, mqtttest.TypeDisconnect<<4, 0))
}

// connect connects and subscribes.
func (d *device) connect(o mqtttest.Options, filter string) error {
	packet := mqtttest.AppendConnect(nil, o)
	packet = mqtttest.AppendSubscribe(packet, mqtttest.V311, 1, filter)
	if err := d.flush(packet); err != nil {
		return err
	}
	for _, want := range []byte{mqtttest.TypeConnack, mqtttest.TypeSuback} {
		p, err := mqtttest.ReadPacket(d.r, d.buf)
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
// message leaves together with the next publish.
func (d *device) round(m mqtttest.Message) (answer []byte, err error) {
	d.out = mqtttest.AppendPublish(d.out, mqtttest.V311, 1, m)
	err = d.flush(d.out)
	d.out = d.out[:0]
	if err != nil {
		return nil, err
	}
	for acked := false; !acked || answer == nil; {
		p, err := mqtttest.ReadPacket(d.r, d.buf)
		if err != nil {
			return nil, err
		}
		switch p.Type() {
		case mqtttest.TypePuback:
			acked = true
		case mqtttest.TypePublish:
			got, id, err := mqtttest.ParsePublish(mqtttest.V311, p)
			if err != nil {
				return nil, err
			}
			if got.QoS > 0 {
				d.out = mqtttest.AppendAck(d.out, mqtttest.TypePuback, id)
			}
			answer = append(make([]byte, 0, len(got.Payload)), got.Payload...)
		default:
			return nil, fmt.Errorf("unexpected packet type %d", p.Type())
		}
	}
	return answer, nil
}

func (d *device) flush(b []byte) error {
	_, err := d.conn.Write(b)
	return err
}
