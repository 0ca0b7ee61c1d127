package session

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/broker/topic"
)

// Subscribe keeps a subscription and reports whether it replaced one [MQTT-3.8.4-3]. It keeps the string.
func (s *Session) Subscribe(filter string, o topic.Options) (existed bool) {
	i, existed := s.find(filter)
	s.rec.subscribes(filter)
	if existed {
		s.subscriptions[i].Options = o
		return true
	}
	s.subscriptions = slices.Insert(s.subscriptions, i, Subscription{filter, o})
	return false
}

// Unsubscribe forgets a subscription and reports whether there was one.
func (s *Session) Unsubscribe(filter string) (existed bool) {
	i, existed := s.find(filter)
	if existed {
		s.subscriptions = slices.Delete(s.subscriptions, i, i+1)
		s.rec.subscribes(strings.Clone(filter))
		s.EndScan(filter)
	}
	return existed
}

// Subscription returns the options of the subscription to filter; ok is false when there is none.
func (s *Session) Subscription(filter string) (o topic.Options, ok bool) {
	i, ok := s.find(filter)
	if !ok {
		return o, false
	}
	return s.subscriptions[i].Options, true
}

// Subscriptions iterates over the subscriptions whose filters come after the filter after ("": all), in byte order.
// The session must not change meanwhile.
func (s *Session) Subscriptions(after string) iter.Seq[Subscription] {
	i, found := s.find(after)
	if found {
		i++
	}
	return slices.Values(s.subscriptions[i:])
}

// SubscriptionCount returns the number of subscriptions.
func (s *Session) SubscriptionCount() int { return len(s.subscriptions) }

func (s *Session) find(filter string) (i int, found bool) {
	return slices.BinarySearchFunc(s.subscriptions, filter, func(sub Subscription, f string) int {
		return cmp.Compare(sub.Filter, f)
	})
}
