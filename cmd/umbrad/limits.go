package main

import (
	"net/http"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/quota"
	"github.com/umbra-iot/umbra/internal/rest"
)

// setLimits gives the MQTT server the limits of listeners that have their own, and the accounts of principals, if
// something of them is bounded.
func (s *server) setLimits(o *broker.Options) {
	o.Listeners = map[string]broker.Limits{}
	most := map[string]quota.Limits{}
	bounded := false
	for _, l := range s.cfg.All() {
		if l.HasOwnLimits() {
			o.Listeners[l.Name()] = l.Limits
		}
		most[l.Name()] = l.Limits.Principal
		bounded = bounded || l.Limits.Principal != quota.Limits{}
	}
	if !bounded {
		return
	}
	o.Quotas = &quota.Book{}
	s.quotas = rest.Quotas{
		Book: o.Quotas,
		Of:   func(r *http.Request) quota.Limits { return most[gateConn(r).Listener()] },
	}
}
