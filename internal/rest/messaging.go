package rest

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/auth"
)

// Page sizes of lists that AWS bounds.
const (
	retainedPageMax      = 200
	subscriptionsPage    = 20
	subscriptionsPageMax = 200
)

// publish is Publish: a message from a client that is not connected.
func (a *api) publish(w http.ResponseWriter, r *http.Request) error {
	p, err := publication(r)
	if err != nil {
		return err
	}
	if p.Payload, err = a.readBody(w, r); err != nil {
		return err
	}
	p.Rights = rightsOf(r.Context())
	if n := (need{auth.RetainPublish, pathValue("topic")}); p.Retain && !auth.Allowed(p.Rights, n.action, p.Topic) {
		return a.forbid(r, n)
	}
	if err := a.Broker.PublishMessage(r.Context(), p); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, contentJSON, awsError{Message: "OK", TraceID: traceID(r)})
	return nil
}

// publication reads all but the payload of a message.
func publication(r *http.Request) (broker.Publication, error) {
	p := broker.Publication{Topic: r.PathValue("topic"), Author: author(r), Owner: auth.FromContext(r.Context()).Owner()}
	if p.Topic == "" || !validName(p.Topic) {
		return p, refusal(http.StatusBadRequest, "Invalid topic")
	}
	qos, err := intParam(r, "qos", 0, 1, 0)
	if err != nil {
		return p, err
	}
	p.QoS = byte(qos)
	if p.Retain, err = boolParam(r, "retain"); err != nil {
		return p, err
	}
	p.Properties, err = properties(r)
	return p, err
}

// properties reads the MQTT 5 properties of a message.
func properties(r *http.Request) (p broker.Properties, err error) {
	query := r.URL.Query()
	p.ContentType, p.ResponseTopic = query.Get("contentType"), query.Get("responseTopic")
	if !validName(p.ResponseTopic) || !validString(p.ContentType) {
		return p, refusal(http.StatusBadRequest, "Invalid responseTopic or contentType")
	}
	expiry, err := intParam(r, "messageExpiry", 0, math.MaxUint32, 0)
	if err != nil {
		return p, err
	}
	p.MessageExpiry = time.Duration(expiry) * time.Second
	switch r.Header.Get("x-amz-mqtt5-payload-format-indicator") {
	case "", "UNSPECIFIED_BYTES":
	case "UTF8_DATA":
		p.PayloadUTF8 = true
	default:
		return p, refusal(http.StatusBadRequest, "The payload format indicator must be UNSPECIFIED_BYTES or UTF8_DATA")
	}
	if data := r.Header.Get("x-amz-mqtt5-correlation-data"); data != "" {
		p.CorrelationData, err = base64.StdEncoding.DecodeString(data)
		if err != nil || len(p.CorrelationData) > math.MaxUint16 {
			return p, refusal(http.StatusBadRequest, "The correlation data must be base64 of at most 65535 bytes")
		}
	}
	p.User, err = decodeUserProperties(r.Header.Get("x-amz-mqtt5-user-properties"))
	return p, err
}

// validString reports whether MQTT can carry s [MQTT-1.5.4-1], [MQTT-1.5.4-2].
func validString(s string) bool {
	return len(s) <= math.MaxUint16 && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

// validName reports whether s is a topic name, or empty [MQTT-3.3.2-2].
func validName(s string) bool { return validString(s) && !strings.ContainsAny(s, "+#") }

// decodeUserProperties decodes base64 of a JSON array of objects with one member each.
func decodeUserProperties(s string) ([]broker.UserProperty, error) {
	if s == "" {
		return nil, nil
	}
	invalid := refusal(http.StatusBadRequest, "The user properties must be base64 of a JSON array of objects with one string each")
	text, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, invalid
	}
	var pairs []map[string]string
	if err := json.Unmarshal(text, &pairs); err != nil {
		return nil, invalid
	}
	props := make([]broker.UserProperty, 0, len(pairs))
	for _, pair := range pairs {
		if len(pair) != 1 {
			return nil, invalid
		}
		for name, value := range pair {
			if !validString(name) || !validString(value) {
				return nil, invalid
			}
			props = append(props, broker.UserProperty{Name: name, Value: value})
		}
	}
	return props, nil
}

// encodeUserProperties is the inverse of decodeUserProperties; "" for none.
func encodeUserProperties(props []broker.UserProperty) string {
	if len(props) == 0 {
		return ""
	}
	pairs := make([]map[string]string, len(props))
	for i, p := range props {
		pairs[i] = map[string]string{p.Name: p.Value}
	}
	body, err := json.Marshal(pairs)
	if err != nil {
		panic(err) // strings only
	}
	return base64.StdEncoding.EncodeToString(body)
}

func (a *api) getRetainedMessage(w http.ResponseWriter, r *http.Request) error {
	topic := r.PathValue("topic")
	m, ok := a.Broker.RetainedMessage(topic)
	if !ok {
		return refusal(http.StatusNotFound, "No retained message exists for topic: '%s'", topic)
	}
	writeJSON(w, http.StatusOK, contentJSON, struct {
		Topic          string `json:"topic"`
		Payload        []byte `json:"payload"`
		QoS            byte   `json:"qos"`
		Modified       int64  `json:"lastModifiedTime"`
		UserProperties string `json:"userProperties,omitempty"`
	}{m.Topic, m.Payload, m.QoS, m.Modified, encodeUserProperties(m.User)})
	return nil
}

// retainedInfo is a retained message in a list.
type retainedInfo struct {
	Topic    string `json:"topic"`
	Bytes    int    `json:"payloadSize"`
	QoS      byte   `json:"qos"`
	Modified int64  `json:"lastModifiedTime"`
}

func (a *api) listRetainedMessages(w http.ResponseWriter, r *http.Request) error {
	size, err := intParam(r, "maxResults", 1, retainedPageMax, retainedPageMax)
	if err != nil {
		return err
	}
	after, err := pageParam(r, "nextToken", tokenRetained)
	if err != nil {
		return err
	}
	list, last, more := page(a.Broker.RetainedMessages(after, size+1), size)
	answer := struct {
		Topics    []retainedInfo `json:"retainedTopics"`
		NextToken string         `json:"nextToken,omitempty"`
	}{Topics: make([]retainedInfo, len(list))}
	for i, m := range list {
		answer.Topics[i] = retainedInfo{m.Topic, len(m.Payload), m.QoS, m.Modified}
	}
	if more {
		answer.NextToken = pageToken(tokenRetained, last.Topic)
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}

func noConnection(id string) error {
	return refusal(http.StatusNotFound, "No connection exists with client ID: '%s'", id)
}

// connection is the answer of GetConnection.
type connection struct {
	ClientID          string `json:"clientId"`
	Connected         bool   `json:"connected"`
	CleanSession      bool   `json:"cleanSession"`
	ConnectedSince    int64  `json:"connectedSince,omitempty"`
	DisconnectedSince int64  `json:"disconnectedSince,omitempty"`
	DisconnectReason  string `json:"disconnectReason,omitempty"`
	KeepAlive         int64  `json:"keepAliveDuration"`
	SessionExpiry     int64  `json:"sessionExpiry"`
	SourceIP          string `json:"sourceIp,omitempty"`
	SourcePort        int    `json:"sourcePort,omitempty"`
	TargetIP          string `json:"targetIp,omitempty"`
	TargetPort        int    `json:"targetPort,omitempty"`
}

func (a *api) getConnection(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("clientId")
	sockets, err := boolParam(r, "includeSocketInformation")
	if err != nil {
		return err
	}
	c, ok := a.Broker.Connection(id)
	if !ok {
		return noConnection(id)
	}
	answer := connection{
		ClientID: c.ClientID, Connected: c.Connected, CleanSession: c.CleanSession,
		ConnectedSince: c.ConnectedSince, DisconnectedSince: c.DisconnectedSince, DisconnectReason: c.DisconnectReason,
		KeepAlive: int64(c.KeepAlive / time.Second), SessionExpiry: int64(c.SessionExpiry / time.Second),
	}
	if sockets {
		answer.SourceIP, answer.SourcePort = splitAddress(c.Source)
		answer.TargetIP, answer.TargetPort = splitAddress(c.Target)
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}

// splitAddress returns zero values for what is no host:port.
func splitAddress(s string) (host string, port int) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0
	}
	port, err = strconv.Atoi(p)
	if err != nil {
		return "", 0
	}
	return host, port
}

func (a *api) deleteConnection(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("clientId")
	var (
		o   broker.DisconnectOptions
		err error
	)
	if o.CleanSession, err = boolParam(r, "cleanSession"); err != nil {
		return err
	}
	if o.PreventWill, err = boolParam(r, "preventWillMessage"); err != nil {
		return err
	}
	if !a.Broker.Disconnect(id, o) {
		return noConnection(id)
	}
	a.record(r, auth.DeleteConnection, id, nil)
	w.WriteHeader(http.StatusOK)
	return nil
}

// subscription is an element of the answer of ListSubscriptions.
type subscription struct {
	Filter string `json:"topicFilter"`
	QoS    byte   `json:"qos"`
}

func (a *api) listSubscriptions(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("clientId")
	size, err := intParam(r, "maxResults", 1, subscriptionsPageMax, subscriptionsPage)
	if err != nil {
		return err
	}
	after, err := pageParam(r, "nextToken", tokenSubscriptions)
	if err != nil {
		return err
	}
	subs, ok := a.Broker.Subscriptions(id, after, size+1)
	if !ok {
		return noConnection(id)
	}
	list, last, more := page(subs, size)
	answer := struct {
		Subscriptions []subscription `json:"subscriptions"`
		NextToken     string         `json:"nextToken,omitempty"`
	}{Subscriptions: make([]subscription, len(list))}
	for i, s := range list {
		answer.Subscriptions[i] = subscription(s)
	}
	if more {
		answer.NextToken = pageToken(tokenSubscriptions, last.Filter)
	}
	writeJSON(w, http.StatusOK, contentJSON, answer)
	return nil
}
