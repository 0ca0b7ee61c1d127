package rest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// receive returns the next message of an MQTT client.
func receive(t *testing.T, c *mqtttest.Client) mqtttest.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := c.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func subscribe(t *testing.T, c *mqtttest.Client, filters ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if ack, err := c.Subscribe(ctx, filters...); err != nil || ack.Code >= 0x80 {
		t.Fatalf("Subscribe(%q) = %+v, %v", filters, ack, err)
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.mqtt(mqtttest.Options{Version: mqtttest.V5, ClientID: "app"})
	subscribe(t, c, "#")
	for i, topic := range []string{"a", "a/b", "a/b c/ü?", "/a//b/", "a%2Fb"} {
		path := "/topics/" + url.PathEscape(topic) + "?qos=1&responseTopic=r%2Ft"
		a := s.want(200, "POST", path, fmt.Sprint("payload", i), "x-amz-mqtt5-correlation-data", "AQI=")
		if !strings.HasPrefix(a.body, `{"message":"OK","traceId":"`) {
			t.Errorf("Publish = %s, want OK", a.body)
		}
		m := receive(t, c)
		if m.Topic != topic || string(m.Payload) != fmt.Sprint("payload", i) || m.QoS != 1 || m.ResponseTopic != "r/t" || string(m.Correlation) != "\x01\x02" {
			t.Errorf("received %+v, want payload%d on %q", m, i, topic)
		}
	}
	s.want(200, "POST", "/topics/raw/slash?responseTopic=r", "x")
	if m := receive(t, c); m.Topic != "raw/slash" || m.QoS != 0 || m.ResponseTopic != "r" || m.Correlation != nil {
		t.Errorf("received %+v, want QoS 0 on raw/slash and no correlation data", m)
	}
}

func TestPublishRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b64 := base64.StdEncoding.EncodeToString
	for _, path := range []string{"", "a%2F%23", "%2B", "a%00", "%FF", "a?qos=2", "a?qos=x", "a?retain=maybe", "a?messageExpiry=-1", "a?responseTopic=%23", "a?contentType=%00", strings.Repeat("a", 65536)} {
		s.refused(400, invalid, "", "POST", "/topics/"+path, "x")
	}
	for _, header := range [][]string{
		{"x-amz-mqtt5-payload-format-indicator", "TEXT"},
		{"x-amz-mqtt5-correlation-data", "!"},
		{"x-amz-mqtt5-correlation-data", b64(make([]byte, 65536))},
		{"x-amz-mqtt5-user-properties", "!"},
		{"x-amz-mqtt5-user-properties", b64([]byte(`{}`))},
		{"x-amz-mqtt5-user-properties", b64([]byte(`[{}]`))},
		{"x-amz-mqtt5-user-properties", b64([]byte(`[{"a":"b","c":"d"}]`))},
		{"x-amz-mqtt5-user-properties", b64([]byte(`[{"a":1}]`))},
		{"x-amz-mqtt5-user-properties", b64([]byte(`[{"a":"\u0000"}]`))},
	} {
		s.refused(400, invalid, "", "POST", "/topics/a", "x", header...)
	}
	for _, topic := range []string{"$aws/things/lamp/shadow/update/accepted", "$aws/things/lamp/shadow/foo", "$aws/events/presence/connected/x"} {
		s.refused(400, invalid, "Topic is reserved or not known", "POST", "/topics/"+url.PathEscape(topic), "{}")
	}
	s.refused(413, "RequestEntityTooLargeException", "", "POST", "/topics/a", strings.Repeat("x", 129<<10))
}

// TestPublishedRequest publishes to the request topic of a shadow.
func TestPublishedRequest(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	topic := "/topics/" + url.PathEscape("$aws/things/lamp/shadow/update")
	s.want(200, "POST", topic+"?qos=1", `{"state":{"reported":{"a":1}}}`)
	e := s.watch(lampEvents, "Last-Event-ID", "0")
	if ev := e.next(); !strings.Contains(ev.data, `"by":{"channel":"rest"}`) {
		t.Errorf("event = %+v, want it to be by rest", ev)
	}
	s.store.SetDown(errors.New("down"))
	s.refused(500, "InternalFailureException", "", "POST", topic+"?qos=1", `{"state":{}}`)
}

// TestRESTRequestsOnMQTT checks what MQTT clients see of requests over HTTP: what was accepted, and no refusal.
func TestRESTRequestsOnMQTT(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.mqtt(mqtttest.Options{ClientID: "app"})
	subscribe(t, c, "$aws/things/lamp/shadow/#")
	s.want(404, "GET", "/things/lamp/shadow", "")
	s.want(400, "POST", "/things/lamp/shadow", `{"x":1}`)
	s.want(404, "DELETE", "/things/lamp/shadow", "")
	s.update(lamp, `{"desired":{"a":1}}`)
	s.want(409, "POST", "/things/lamp/shadow", `{"state":{},"version":7}`)
	s.want(200, "GET", "/things/lamp/shadow", "")
	s.want(200, "DELETE", "/things/lamp/shadow", "")
	var got []string
	for range 4 {
		m := receive(t, c)
		top, ok := shadow.ParseTopic(m.Topic)
		if !ok {
			t.Fatalf("message on %s", m.Topic)
		}
		got = append(got, strings.TrimPrefix(top.String(), "$aws/things/lamp/shadow/"))
	}
	slices.Sort(got)
	if want := "delete/accepted update/accepted update/delta update/documents"; strings.Join(got, " ") != want {
		t.Errorf("messages on %q, want %s", got, want)
	}
}

func TestRetainedMessages(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const pairs = `[{"b":"1"},{"a":"2"},{"b":"3"}]`
	props := base64.StdEncoding.EncodeToString([]byte(pairs))
	begin := time.Now().UnixMilli()
	s.refused(404, notFound, "", "GET", "/retainedMessage/a%2Fb", "")
	s.want(200, "POST", "/topics/a%2Fb?retain=TRUE&qos=1", "hello", "x-amz-mqtt5-user-properties", props, "x-amz-mqtt5-payload-format-indicator", "UTF8_DATA")
	var m struct {
		Topic, UserProperties string
		Payload               []byte
		QoS                   int
		LastModifiedTime      int64
	}
	if err := json.Unmarshal([]byte(s.want(200, "GET", "/retainedMessage/a%2Fb", "").body), &m); err != nil {
		t.Fatal(err)
	}
	if m.Topic != "a/b" || string(m.Payload) != "hello" || m.QoS != 1 || m.UserProperties != props || m.LastModifiedTime < begin || m.LastModifiedTime > time.Now().UnixMilli() {
		t.Errorf("retained message = %+v", m)
	}
	want := []string{"a/b"}
	for i := range 4 {
		topic := fmt.Sprint("c/", i)
		want = append(want, topic)
		s.want(200, "POST", "/topics/"+url.PathEscape(topic)+"?retain=true", "x")
	}
	var got []string
	query := "?maxResults=2"
	for query != "" {
		var p struct {
			RetainedTopics []struct {
				Topic       string
				PayloadSize int
			}
			NextToken string
		}
		if err := json.Unmarshal([]byte(s.want(200, "GET", "/retainedMessage"+query, "").body), &p); err != nil {
			t.Fatal(err)
		}
		for _, m := range p.RetainedTopics {
			got = append(got, m.Topic)
		}
		query = ""
		if p.NextToken != "" {
			query = "?maxResults=2&nextToken=" + p.NextToken
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("retained topics = %q, want %q", got, want)
	}
	s.want(200, "POST", "/topics/a%2Fb?retain=true", "")
	s.refused(404, notFound, "", "GET", "/retainedMessage/a%2Fb", "")
	for _, query := range []string{"?maxResults=0", "?maxResults=201", "?nextToken=x"} {
		s.refused(400, invalid, "", "GET", "/retainedMessage"+query, "")
	}
	s.want(200, "POST", "/topics/"+url.PathEscape("$aws/things/lamp/shadow/update")+"?retain=true", `{"state":{}}`)
	s.refused(404, notFound, "", "GET", "/retainedMessage/"+url.PathEscape("$aws/things/lamp/shadow/update"), "")
}

func TestConnections(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const path = "/connections/a%2Fb"
	for _, request := range [][2]string{{"GET", path}, {"DELETE", path}, {"GET", path + "/subscriptions"}} {
		s.refused(404, notFound, "", request[0], request[1], "")
	}
	c := s.mqtt(mqtttest.Options{Version: mqtttest.V5, ClientID: "a/b", Keep: true, KeepAlive: time.Minute, Will: &mqtttest.Message{Topic: "will", Payload: []byte("x")}})
	subscribe(t, c, "z", "x/#", "y/+")
	var got struct {
		ClientID                string
		Connected, CleanSession bool
		ConnectedSince          int64
		KeepAliveDuration       int
		SessionExpiry           int
		SourceIP                string
		SourcePort              int
		DisconnectReason        string
		DisconnectedSince       int64
	}
	get := func(query string) {
		t.Helper()
		if err := json.Unmarshal([]byte(s.want(200, "GET", path+query, "").body), &got); err != nil {
			t.Fatal(err)
		}
	}
	get("")
	if got.ClientID != "a/b" || !got.Connected || got.CleanSession || got.KeepAliveDuration != 60 || got.SessionExpiry != 3600 || got.ConnectedSince == 0 || got.SourceIP != "" {
		t.Errorf("connection = %+v", got)
	}
	get("?includeSocketInformation=true")
	if got.SourceIP != "127.0.0.1" || got.SourcePort == 0 {
		t.Errorf("connection with sockets = %+v", got)
	}

	var page struct {
		Subscriptions []struct {
			TopicFilter string
			QoS         int
		}
		NextToken string
	}
	if err := json.Unmarshal([]byte(s.want(200, "GET", path+"/subscriptions?maxResults=2", "").body), &page); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(page.Subscriptions) != "[{x/# 1} {y/+ 1}]" || page.NextToken == "" {
		t.Errorf("subscriptions = %+v, want x/#, y/+ and a token", page)
	}
	rest := s.want(200, "GET", path+"/subscriptions?maxResults=2&nextToken="+page.NextToken, "").body
	if rest != `{"subscriptions":[{"topicFilter":"z","qos":1}]}` {
		t.Errorf("next page = %s, want z", rest)
	}

	watcher := s.mqtt(mqtttest.Options{ClientID: "watcher"})
	subscribe(t, watcher, "will")
	s.want(200, "DELETE", path, "")
	<-c.Done()
	if gone := new(mqtttest.Disconnected); !errors.As(c.Err(), &gone) {
		t.Errorf("the connection ended with %v, want a DISCONNECT", c.Err())
	}
	if m := receive(t, watcher); m.Topic != "will" {
		t.Errorf("received %+v, want the will", m)
	}
	get("")
	if got.Connected || got.DisconnectReason != "API_INITIATED_DISCONNECT" || got.DisconnectedSince == 0 {
		t.Errorf("connection after its end = %+v", got)
	}
	s.want(200, "DELETE", path+"?cleanSession=TRUE&preventWillMessage=TRUE", "")
	s.refused(404, notFound, "", "GET", path, "")

	s.refused(400, invalid, "", "GET", path+"?includeSocketInformation=x", "")
	for _, query := range []string{"?cleanSession=x", "?preventWillMessage=1"} {
		s.refused(400, invalid, "", "DELETE", path+query, "")
	}
	for _, query := range []string{"?maxResults=0", "?nextToken=x"} {
		s.refused(400, invalid, "", "GET", path+"/subscriptions"+query, "")
	}
}

// TestConnectionsOfAnyName ends clients with every kind of id that may connect, also those that AWS keeps for itself.
func TestConnectionsOfAnyName(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, id := range []string{"$evil", "$aws/things/lamp", ".", "..", "a//b", "a b", "%2F", "é", "+#", "?x=1", strings.Repeat("a", 128)} {
		c := s.mqtt(mqtttest.Options{ClientID: id})
		path := "/connections/" + strings.ReplaceAll(url.PathEscape(id), ".", "%2E")
		var got struct{ ClientID string }
		if err := json.Unmarshal([]byte(s.want(200, "GET", path, "").body), &got); err != nil || got.ClientID != id {
			t.Errorf("connection of %q = %+v, %v", id, got, err)
		}
		s.want(200, "GET", path+"/subscriptions", "")
		s.want(200, "DELETE", path, "")
		<-c.Done()
	}
	s.refused(404, notFound, "", "DELETE", "/connections/$nobody", "")
	s.refused(404, notFound, "", "GET", "/connections/"+strings.Repeat("a", 129), "")
}
