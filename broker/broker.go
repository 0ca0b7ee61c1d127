// Package broker is the embedded MQTT server.
package broker

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// Options of a Broker.
type Options struct {
	Log    *slog.Logger
	Limits Limits
	Now    func() time.Time // default time.Now
}

// Limits bound what clients may use. A zero field means its default.
type Limits struct {
	PayloadBytes      int           // of a PUBLISH; default 128 KiB
	ReceiveMaximum    uint16        // unacknowledged QoS 1/2 publishes of one client; default 1024
	TopicAliasMaximum uint16        // default 8, per connection
	ClientIDBytes     int           // default 128
	SessionExpiry     time.Duration // of MQTT 3.1.1 sessions, and the most that MQTT 5 clients get; default 7 days
	ConnectTimeout    time.Duration // from accept to CONNECT; default 10 s
	WriteTimeout      time.Duration // a client whose socket takes nothing for so long is closed; default 20 s
}

// Broker is an MQTT server.
type Broker struct{ todo int }

// New returns a broker. Call SetService before the first connection.
func New(o Options) (*Broker, error) { panic("todo") }

// SetService gives the broker the service that answers shadow requests. The service's Publisher is the broker:
// make the broker first, then the service, then call SetService, then serve.
func (b *Broker) SetService(s *things.Service) { panic("todo") }

// ServeTCP accepts connections until Shutdown.
func (b *Broker) ServeTCP(l net.Listener) error { panic("todo") }

// WebSocket returns the handler to mount at /mqtt.
func (b *Broker) WebSocket() http.Handler { panic("todo") }

// Publish implements things.Publisher.
func (b *Broker) Publish(m *things.Message) { panic("todo") }

// Shutdown ends all connections, telling MQTT 5 clients so, and waits for them until ctx ends.
func (b *Broker) Shutdown(ctx context.Context) error { panic("todo") }

// UserProperty is a name with a value; names may repeat and their order counts.
type UserProperty struct {
	Name, Value string
}

// Properties are the MQTT 5 properties of a message that travel with it.
type Properties struct {
	PayloadUTF8     bool // payload format indicator 1
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	MessageExpiry   time.Duration // whole seconds; 0 is none
	User            []UserProperty
}

// Publication is a message to publish.
type Publication struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Properties Properties
	Author     shadow.Author
}

// PublishMessage publishes p as a client would: a request topic of a shadow is a request, whose outcome
// goes out on its topics. The error is ErrTopic for a topic that may not be published to.
func (b *Broker) PublishMessage(ctx context.Context, p Publication) error { panic("todo") }

// RetainedMessage is a stored retained message.
type RetainedMessage struct {
	Topic    string
	Payload  []byte
	QoS      byte
	Modified int64 // ms since the epoch
	User     []UserProperty
}

// RetainedMessage returns the retained message of topic.
func (b *Broker) RetainedMessage(topic string) (RetainedMessage, bool) { panic("todo") }

// RetainedMessages returns up to limit retained messages whose topics come after the topic after, by topic.
func (b *Broker) RetainedMessages(after string, limit int) []RetainedMessage { panic("todo") }

// Connection describes a client id that is connected or has a session.
type Connection struct {
	ClientID          string
	Connected         bool
	CleanSession      bool
	ConnectedSince    int64  // ms, 0 when not connected
	DisconnectedSince int64  // ms, 0 when connected
	DisconnectReason  string // as in the disconnected event
	KeepAlive         time.Duration
	SessionExpiry     time.Duration
	Source, Target    string // host:port of both ends
}

// Connection returns what is known of a client id; false when it is neither connected nor has a session.
func (b *Broker) Connection(clientID string) (Connection, bool) { panic("todo") }

// Subscription is one subscription of a session.
type Subscription struct {
	Filter string
	QoS    byte
}

// Subscriptions returns up to limit subscriptions of a session whose filters come after the filter after, by filter.
func (b *Broker) Subscriptions(clientID, after string, limit int) ([]Subscription, bool) {
	panic("todo")
}

// DisconnectOptions say how to end a connection.
type DisconnectOptions struct {
	CleanSession bool // drop the session too
	PreventWill  bool // do not send the will
}

// Disconnect ends the connection of a client id (and its session); false when there is neither.
func (b *Broker) Disconnect(clientID string, o DisconnectOptions) bool { panic("todo") }

// Stats are counters since the start and gauges of now.
type Stats struct {
	Connections   int64 // now
	Sessions      int64 // now, connected or not
	Subscriptions int64 // now
	Retained      int64 // now
	RetainedBytes int64 // now

	Connected        int64 // CONNECTs accepted
	ConnectsRefused  int64
	MessagesIn       int64
	MessagesOut      int64
	BytesIn          int64
	BytesOut         int64
	Requests         int64 // shadow requests
	DroppedSlow      int64 // QoS 0 to a client that reads too slowly
	DroppedQueueFull int64
	DroppedExpired   int64
	DroppedTooBig    int64 // above a client's Maximum Packet Size
	Refused          int64 // publishes to topics that are not open to clients
	Panics           int64 // connections ended by a defect
}

// Stats returns a snapshot.
func (b *Broker) Stats() Stats { panic("todo") }
