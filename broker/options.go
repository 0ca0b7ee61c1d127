package broker

import (
	"errors"
	"math"
	"time"

	"github.com/umbra-iot/umbra/internal/quota"
)

// Limits bound what clients may use. A zero field means its default.
type Limits struct {
	PayloadBytes      int           // of a PUBLISH; packets may be 1 KiB larger; default 1 MiB
	ReceiveMaximum    uint16        // QoS 1 and 2 messages of a client, or shadow requests, that are not yet acknowledged; default 1024
	TopicAliasMaximum uint16        // topic aliases of one connection; default 16
	TopicLevels       int           // of a topic or topic filter; default 128
	ClientIDBytes     int           // of a client identifier; default 128
	KeepAlive         time.Duration // longest keep-alive, also for clients that ask for more or for none; those of MQTT 5 are told so; default: as the client wants
	SessionExpiry     time.Duration // of sessions of MQTT 3.1.1, and the most that clients of MQTT 5 get; default 7 days
	QueueMessages     int           // QoS 1 and 2 messages kept for one client; default 10000
	QueueBytes        int64         // the same, in bytes; default 64 MiB
	QueueTotal        int64         // the same, of all clients together; those who are connected have 64 KiB each all the same; default 4 GiB
	QueueMemory       int64         // messages of all clients that wait in memory; those above are only in the store; default 256 MiB
	QueueRefuses      bool          // a full queue does not drop its oldest messages but refuses new ones to their publisher (0x97)
	RetainedMessages  int           // retained messages in all; default 1000000
	RetainedBytes     int64         // the same, in bytes; default 256 MiB
	OutgoingBytes     int           // written to one connection and not yet taken by the network; default 1 MiB
	ConnectBytes      int           // of the CONNECT packet, the only one of clients that are not known yet; default 64 KiB
	Subscriptions     int           // of one session; default 10000
	SubscribeFilters  int           // in one SUBSCRIBE packet; default 1000
	MessageRate       int           // PUBLISH packets per second of one connection; faster ones are read later; default: no bound
	ByteRate          int           // the same in bytes of PUBLISH packets; default: no bound
	ConnectTimeout    time.Duration // from the accept to the end of the CONNECT packet; default 10 s
	SystemInterval    time.Duration // between two looks at what the topics under $SYS tell; default: there are none
	PresenceThings    int           // whose presence is remembered while they are not connected; default 100000
	RefuseFilters     []string      // filters that nobody may subscribe to, literally, also as shared ones; default: none
	WriteTimeout      time.Duration // after which a client that takes no bytes at all is cut off; default 20 s
	ClientConnects    int           // CONNECT packets per second with the client id of a session; faster ones wait, for as long as a CONNECT may take; default: no bound
	Principal         quota.Limits  // of one principal, if there are Options.Quotas; default: no bound

	// What one principal has of what all have together; default: half of it.
	PrincipalQueueBytes    int64 // of QueueTotal, if there are Options.Quotas
	PrincipalRetained      int   // of RetainedMessages
	PrincipalRetainedBytes int64 // of RetainedBytes
}

// headerAllowance is the room for topic and properties beside the largest payload.
const headerAllowance = 1024

func (l Limits) withDefaults() (Limits, error) {
	setDefault(&l.PayloadBytes, 1<<20)
	setDefault(&l.ReceiveMaximum, 1024)
	setDefault(&l.TopicAliasMaximum, 16)
	setDefault(&l.TopicLevels, 128)
	setDefault(&l.ClientIDBytes, 128)
	setDefault(&l.SessionExpiry, 7*24*time.Hour)
	setDefault(&l.QueueMessages, 10000)
	setDefault(&l.QueueBytes, 64<<20)
	setDefault(&l.QueueTotal, 4<<30)
	setDefault(&l.QueueMemory, 256<<20)
	setDefault(&l.RetainedMessages, 1000000)
	setDefault(&l.RetainedBytes, 256<<20)
	setDefault(&l.PrincipalQueueBytes, max(1, l.QueueTotal/2))
	setDefault(&l.PrincipalRetained, max(1, l.RetainedMessages/2))
	setDefault(&l.PrincipalRetainedBytes, max(1, l.RetainedBytes/2))
	setDefault(&l.OutgoingBytes, 1<<20)
	setDefault(&l.ConnectBytes, 64<<10)
	setDefault(&l.Subscriptions, 10000)
	setDefault(&l.SubscribeFilters, 1000)
	setDefault(&l.PresenceThings, 100000)
	setDefault(&l.ConnectTimeout, 10*time.Second)
	setDefault(&l.WriteTimeout, 20*time.Second)
	if l.KeepAlive < 0 || l.KeepAlive > math.MaxUint16*time.Second || l.KeepAlive%time.Second != 0 {
		return l, errors.New("broker: keep-alive limit is not one of 0 to 65535 whole seconds")
	}
	if l.SessionExpiry < 0 || l.SessionExpiry%time.Second != 0 {
		return l, errors.New("broker: limit of the session expiry is not in whole seconds")
	}
	if l.PayloadBytes < 0 || l.PayloadBytes > 256<<20-headerAllowance {
		return l, errors.New("broker: payload limit is not within 0 and 256 MiB")
	}
	return l, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// packetBytes is the largest packet that is read.
func (l *Limits) packetBytes() int { return l.PayloadBytes + headerAllowance }

// isFull reports whether a session with so many other subscriptions may have no more, or a SUBSCRIBE packet
// after so many filters.
func (l *Limits) isFull(others, before int) bool {
	return others >= l.Subscriptions || before >= l.SubscribeFilters
}

// sessionExpiry is the expiry in seconds that a client gets that asks for so much.
func (l *Limits) sessionExpiry(seconds uint32) uint32 {
	return uint32(min(int64(seconds), int64(l.SessionExpiry/time.Second), math.MaxUint32-1))
}
