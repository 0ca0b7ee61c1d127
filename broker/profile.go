package broker

import (
	"strings"
	"time"
)

// Profile says where a server deviates from MQTT. The zero value follows the standard.
type Profile struct {
	NoQoS2              bool          // publishes and wills of QoS 2 are refused (0x9B), subscriptions get QoS 1
	NoParent            bool          // the filter "a/#" does not match the topic "a"
	NoIdentifiers       bool          // subscription identifiers are refused (0xA1)
	RetainedByName      bool          // a subscription with a wildcard gets no retained messages
	FiltersPerSubscribe int           // those above it are refused (0x97); 0 is no limit
	Subscriptions       int           // of one session, refused above it (0x97); 0 is no limit
	KeepAliveLeast      time.Duration // a shorter keep-alive, but not none, is raised to it
	KeepAliveMost       time.Duration // a longer one, and none, is lowered to it; 0 is no limit
	TopicBytes          int           // of a name or filter, without the prefix of a shared subscription; 0 is no limit
	TopicSlashes        int           // in the same; 0 is no limit
}

// AWS returns the profile of AWS IoT Core, as the documents "MQTT" and "AWS IoT
// Core endpoints and quotas" have it.
func AWS() Profile {
	return Profile{
		NoQoS2: true, NoParent: true, NoIdentifiers: true, RetainedByName: true,
		FiltersPerSubscribe: 8, Subscriptions: 50,
		KeepAliveLeast: 30 * time.Second, KeepAliveMost: 1200 * time.Second,
		TopicBytes: 256, TopicSlashes: 7,
	}
}

// keepAlive returns the keep-alive that is in force for a client that asks for asked, 0 for none.
func (p *Profile) keepAlive(asked time.Duration) time.Duration {
	if p.KeepAliveMost != 0 && (asked == 0 || asked > p.KeepAliveMost) {
		return p.KeepAliveMost
	}
	if asked != 0 {
		return max(asked, p.KeepAliveLeast)
	}
	return asked
}

// qos returns the QoS that a subscription gets.
func (p *Profile) qos(asked byte) byte {
	if p.NoQoS2 {
		return min(asked, 1)
	}
	return asked
}

// refusesQoS reports whether messages of a QoS are refused.
func (p *Profile) refusesQoS(qos byte) bool { return p.NoQoS2 && qos == 2 }

// refusesTopic reports whether a name or filter is too long or too deep.
func (p *Profile) refusesTopic(s string) bool {
	return p.TopicBytes != 0 && len(s) > p.TopicBytes || p.TopicSlashes != 0 && strings.Count(s, "/") > p.TopicSlashes
}

// isFull reports whether a session has no room for another subscription, or a
// SUBSCRIBE packet none for a filter after so many others.
func (p *Profile) isFull(subscriptions, before int) bool {
	return p.Subscriptions != 0 && subscriptions >= p.Subscriptions ||
		p.FiltersPerSubscribe != 0 && before >= p.FiltersPerSubscribe
}
