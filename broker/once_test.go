package broker_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/shadow"
)

// version returns the version of the lamp's shadow, 0 when there is none.
func (s *server) version(t *testing.T) uint64 {
	t.Helper()
	changes, err := s.things.Changes(t.Context(), shadow.ID{Thing: "lamp"}, 0, 100)
	if err != nil {
		t.Fatalf("Changes() = %v", err)
	}
	if len(changes) == 0 {
		return 0
	}
	return changes[len(changes)-1].Version
}

// killAtCommit lets the server die at its next commit of a shadow, which is done before that or not. It returns a
// channel that is closed then.
func (s *server) killAtCommit(done bool) <-chan struct{} {
	dead := make(chan struct{})
	s.store.Intercept(func(commit func() []error) []error {
		defer close(dead)
		if done {
			_ = commit()
		}
		s.store.SetDown(errKilled)
		return []error{errKilled}
	})
	return dead
}

func repeated(id uint16) packets.Packet {
	pk := message(update, `{"state":{"reported":{"a":1}}}`, 2, id)
	pk.FixedHeader.Dup = true
	return pk
}

// TestQoS2RequestIsDoneOnceOverKill kills the server at the commit of the shadow, before the PUBREC.
func TestQoS2RequestIsDoneOnceOverKill(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{true, false} {
		for _, version := range []byte{4, 5} {
			t.Run(fmt.Sprintf("v%d/done=%t", version, done), func(t *testing.T) {
				t.Parallel()
				o := device("dev")
				o.version = version
				s := start(t, broker.Options{})
				c := s.connect(t, o)
				dead := s.killAtCommit(done)
				c.send(message(update, `{"state":{"reported":{"a":1}}}`, 2, 7))
				<-dead
				s = s.kill(t, broker.Options{})
				c = s.again(t, o, true)
				c.publish(repeated(7))
				if v := s.version(t); v != 1 {
					t.Errorf("version = %d after the PUBCOMP, want 1", v)
				}
				c.publish(message(update, `{"state":{"reported":{"a":2}}}`, 2, 7)) // a new request
				if v := s.version(t); v != 2 {
					t.Errorf("version = %d after the next request, want 2", v)
				}
			})
		}
	}
}

// TestQoS2RequestIsNotRepeatedAfterTheRestart does not need the client: others change the shadow so often before it is
// back that its history has forgotten the request.
func TestQoS2RequestIsNotRepeatedAfterTheRestart(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	c := s.connect(t, device("dev"))
	dead := s.killAtCommit(true)
	c.send(message(update, `{"state":{"reported":{"a":1}}}`, 2, 7))
	<-dead
	s = s.kill(t, broker.Options{})
	const others = 300
	for i := range others {
		s.do(t, fmt.Sprintf(`{"state":{"desired":{"a":%d}}}`, i))
	}
	c = s.again(t, device("dev"), true)
	c.publish(repeated(7))
	if v := s.version(t); v != others+1 {
		t.Errorf("version = %d, want %d", v, others+1)
	}
}

// TestQoS2RequestIsDoneOnceIfTheAnswerOfTheStoreIsLost repeats a request that was done although nobody knows. A client of
// MQTT 3.1.1 cannot be told so.
func TestQoS2RequestIsDoneOnceIfTheAnswerOfTheStoreIsLost(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{true, false} {
		t.Run(fmt.Sprintf("done=%t", done), func(t *testing.T) {
			t.Parallel()
			s := start(t, broker.Options{})
			o := connectOptions{id: "dev", version: 4, keep: true}
			c := s.connect(t, o)
			s.store.Intercept(func(commit func() []error) []error {
				if done {
					_ = commit()
				}
				return []error{errors.New("no answer")}
			})
			c.send(message(update, `{"state":{"reported":{"a":1}}}`, 2, 7))
			c.wantEnd(0)
			c = s.again(t, o, true)
			c.publish(repeated(7))
			if v := s.version(t); v != 1 {
				t.Errorf("version = %d, want 1", v)
			}
		})
	}
}

// TestWillRequestIsDoneOnceOverKill kills the server at the commit of what a will asks for.
func TestWillRequestIsDoneOnceOverKill(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{true, false} {
		t.Run(fmt.Sprintf("done=%t", done), func(t *testing.T) {
			t.Parallel()
			s := start(t, broker.Options{})
			o := device("dev")
			o.edit = func(pk *packets.Packet) {
				pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillQos = true, update, 1
				pk.Connect.WillPayload = []byte(`{"state":{"reported":{"connected":false}}}`)
			}
			c := s.connect(t, o)
			dead := s.killAtCommit(done)
			_ = c.conn.Close()
			<-dead
			s = s.kill(t, broker.Options{})
			eventually(t, "will is done", func() bool { return s.version(t) > 0 })
			c = s.again(t, device("dev"), true)
			c.publish(message(update, `{"state":{"reported":{"connected":true}}}`, 1, 1))
			if v := s.version(t); v != 2 {
				t.Errorf("version = %d after will and report, want 2", v)
			}
		})
	}
}

// TestWillRequestIsDoneOnceWhenTheStoreDoesNotAnswer loses the answer to the commit of what a will asks for.
func TestWillRequestIsDoneOnceWhenTheStoreDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{true, false} {
		t.Run(fmt.Sprintf("done=%t", done), func(t *testing.T) {
			t.Parallel()
			s := start(t, broker.Options{})
			c := s.connect(t, connectOptions{id: "dev", edit: withWill(update, `{"state":{"reported":{"connected":false}}}`, nil)})
			s.store.Intercept(func(commit func() []error) []error {
				if done {
					commit()
				}
				return []error{errKilled}
			})
			_ = c.conn.Close()
			eventually(t, "the will is done, and out of the store", func() bool {
				s.settled(t)
				return s.version(t) > 0 && len(s.items(t, 1)) == 0
			})
			if v := s.version(t); v != 1 {
				t.Errorf("version = %d, want 1", v)
			}
		})
	}
}
