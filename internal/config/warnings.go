package config

import (
	"fmt"
	"net/url"
	"slices"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/gate"
)

// Warnings tells of settings that are allowed but weak.
func (c *Config) Warnings() []string {
	var list []string
	for _, l := range c.All() {
		if !l.IsPublic() {
			continue
		}
		if l.IsAnonymous() {
			list = append(list, fmt.Sprintf("%s: anybody who reaches this address may read and change everything (allow-anonymous)", l.Name()))
		}
		if !l.Kind.IsTLS() && slices.ContainsFunc(l.Auth, sendsSecret) {
			list = append(list, fmt.Sprintf("%s: passwords and tokens cross the network in clear text: use %s", l.Name(), encrypted(l.Kind)))
		}
	}
	for name, target := range map[string]string{"webhook-url": c.Webhook.URL, "jwt-keys": c.JWT.Keys} {
		if u, err := url.Parse(target); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			list = append(list, name+": what decides who gets in crosses the network in clear text: use https")
		}
	}
	if slices.Contains(c.Origins, "*") {
		list = append(list, "websocket-origins: pages of every site may connect with what the browsers of their visitors can reach")
	}
	if c.Users != "" && credential.IsExposed(c.Users) {
		list = append(list, "users: others than its owner may read "+c.Users+": chmod 600")
	}
	slices.Sort(list)
	return list
}

// sendsSecret reports whether a method shows the secret itself.
func sendsSecret(method string) bool {
	switch method {
	case AuthPassword, AuthToken, AuthJWT, AuthWebhook:
		return true
	}
	return false
}

func encrypted(k gate.Kind) gate.Kind {
	switch k {
	case gate.MQTT:
		return gate.MQTTS
	case gate.WS:
		return gate.WSS
	default:
		return gate.HTTPS
	}
}
