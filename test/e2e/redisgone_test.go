package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// TestRedisGone takes Redis away from a running umbrad, once by a crash and once by a hang, looks at
// what requests get, and brings it back.
func TestRedisGone(t *testing.T) {
	t.Parallel()
	ways := map[string]struct{ away, back func(*storetest.RedisServer) }{
		"killed":  {(*storetest.RedisServer).Kill, (*storetest.RedisServer).Start},
		"stopped": {(*storetest.RedisServer).Pause, (*storetest.RedisServer).Resume},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := storetest.Redis(t)
			g := &gone{u: umbradtest.Start(t, "--store="+redis.URL, "--commit-timeout=1s")}
			g.before(t)
			way.away(redis)
			g.during(t)
			way.back(redis)
			g.after(t)
		})
	}
}

// gone is an umbrad that loses its Redis, and clients that stay connected all the time.
type gone struct {
	u        *umbradtest.Umbrad
	five     *mqtttest.Client // asks
	listener *mqtttest.Client // listens to everything about the shadow
}

const goneTopic = "$aws/things/lamp/shadow/update"

func (g *gone) before(t *testing.T) {
	t.Helper()
	g.five = dial(t, g.u.MQTT(), mqtttest.Options{Version: mqtttest.V5, ClientID: "five"})
	g.listener = dial(t, g.u.MQTT(), mqtttest.Options{ClientID: "listener"})
	subscribe(t, g.listener, goneTopic+"/accepted", goneTopic+"/rejected")
	publish(t, g.five, goneTopic, `{"state":{"reported":{"n":1}}}`)
	if d := mustParse(t, receive(t, g.listener, goneTopic+"/accepted")); d.Version != 1 {
		t.Fatalf("accepted = %+v, want version 1", d)
	}
}

// during sends requests that cannot be stored.
func (g *gone) during(t *testing.T) {
	t.Helper()
	ack, err := g.five.Publish(wait(t), mqtttest.Message{Topic: goneTopic, QoS: 1, Payload: []byte(`{"state":{"reported":{"n":2}},"clientToken":"lost"}`)})
	if err != nil || ack.Code < 0x80 || ack.Reason == "" {
		t.Errorf("MQTT 5 update without Redis = %+v, %v, want a reason code and reason string", ack, err)
	}
	if d := mustParse(t, receive(t, g.listener, goneTopic+"/rejected")); d.Code != 500 || d.Token != "lost" {
		t.Errorf("rejected = %+v, want 500", d)
	}
	three := dial(t, g.u.MQTT(), mqtttest.Options{ClientID: "three"})
	if ack, err := three.Publish(wait(t), mqtttest.Message{Topic: goneTopic, QoS: 1, Payload: []byte(`{"state":{"reported":{"n":3}}}`)}); err == nil {
		t.Errorf("MQTT 3.1.1 update without Redis was acknowledged: %+v", ack)
	}
	select {
	case <-three.Done():
	case <-wait(t).Done():
		t.Error("MQTT 3.1.1 connection is still open after an update that was not stored")
	}
	url := shadowURL(g.u.URL(), "lamp")
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		res := rest(t, method, url, `{"state":{"reported":{"n":4}}}`)
		if res.status != 500 || res.errorType() != "InternalFailureException" {
			t.Errorf("%s without Redis = %d %s %s, want 500", method, res.status, res.errorType(), res.body)
		}
	}
	eventually(t, func() error {
		res := rest(t, http.MethodGet, g.u.URL()+"/readyz", "")
		if res.status != http.StatusServiceUnavailable {
			return fmt.Errorf("/readyz without Redis = %d, want 503", res.status)
		}
		return nil
	})
	if res := rest(t, http.MethodGet, g.u.URL()+"/livez", ""); res.status != 200 {
		t.Errorf("/livez without Redis = %d, want 200", res.status)
	}
}

// after waits until umbrad works again, by itself, and looks for what was half done. A request that
// was refused may have been stored (nobody can know when Redis hangs), but then whole.
func (g *gone) after(t *testing.T) {
	t.Helper()
	eventually(t, func() error { return ready(t.Context(), g.u.URL()) })
	eventually(t, func() error {
		ack, err := g.five.Publish(wait(t), mqtttest.Message{Topic: goneTopic, QoS: 1, Payload: []byte(`{"state":{"reported":{"m":5}},"clientToken":"back"}`)})
		if err == nil && ack.Code >= 0x80 {
			err = errors.New(ack.Reason)
		}
		return err
	})
	d := fetch(t, g.u.URL(), "lamp")
	if d.State.Reported["m"] != 5.0 {
		t.Errorf("shadow = %+v, want the update after the failure", d)
	}
	history := changes(t, g.u.URL(), "lamp", 0, d.Version)
	n := any(nil)
	for i, c := range history {
		if c.Version != uint64(i+1) {
			t.Fatalf("change %d has version %d", i+1, c.Version)
		}
		if c.Op == "delete" {
			n = nil
			continue
		}
		if v, ok := mustParse(t, []byte(`{"state":`+string(c.State)+`}`)).State.Reported["n"]; ok {
			n = v
		}
	}
	if uint64(len(history)) != d.Version || n != d.State.Reported["n"] {
		t.Errorf("shadow %+v does not follow from its %d changes (n = %v)", d, len(history), n)
	}
}
