package main

import (
	"net/http"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/quota"
	"github.com/umbra-iot/umbra/internal/rest"
)

// setLimits gives the MQTT server its limits, those of listeners that have their own, and the accounts of principals.
func (s *server) setLimits(o *broker.Options) {
	s.connections = mostConnections(s.cfg.Connections, s.cfg.Webhook.Requests, s.log)
	o.Limits, o.Listeners, o.Quotas = s.bounded(s.cfg.Broker), map[string]broker.Limits{}, &quota.Book{}
	most := map[string]quota.Limits{}
	for _, l := range s.cfg.All() {
		limits := s.bounded(l.Limits)
		most[l.Name()] = limits.Principal
		if l.HasOwnLimits() {
			o.Listeners[l.Name()] = limits
		}
	}
	s.quotas = rest.Quotas{
		Book: o.Quotas,
		Of:   func(r *http.Request) quota.Limits { return most[gateConn(r).Listener()] },
	}
}

// bounded are limits by which no principal can take all connections: half of them, unless the settings say how many.
func (s *server) bounded(l broker.Limits) broker.Limits {
	if l.Principal.Connections == 0 {
		l.Principal.Connections = max(1, s.connections/2)
	}
	return l
}
